"""The Personalised Accuracy Index, paper section 3.4.2 and eq. (1)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..common.arrays import Floats
from ..common.errors import InputError
from ..fitting.pai import GAIN, THRESHOLD, PaiCurve

REAL_KAPPA = 3.0
"""The paper's kappa: brings PAI near 1 for a CLIP similarity of about 0.3."""


@dataclass(frozen=True, kw_only=True)
class PaiConstants:
    """The constants of eq. (1).

    Attributes:
        kappa: scale of the CLIP similarity.
        gain: of the sigmoid of LPIPS-bar.
        threshold: LPIPS-bar at which the sigmoid is 1/2.
    """

    kappa: float = REAL_KAPPA
    gain: float = GAIN
    threshold: float = THRESHOLD


def pai(clip: ArrayLike, lpips_bar: ArrayLike, constants: PaiConstants) -> Floats:
    """PAI = kappa E[CLIP] sigmoid(30 (LPIPS-bar - 0.1)), eq. (1), any shapes."""
    return constants.kappa * np.asarray(clip, float) * difference_share(lpips_bar, constants)


def difference_share(lpips_bar: ArrayLike, constants: PaiConstants) -> Floats:
    """The sigmoid of LPIPS-bar in eq. (1): how different the users' pictures are, 0 to 1."""
    return PaiCurve(constants.gain, constants.threshold).sigmoid(lpips_bar)


def kappa_of(clip_all_local: float) -> float:
    """The kappa that makes PAI(N) about 1: 1 / CLIP(N), for a CLIP whose scores are not those of the real one.

    Raises:
        InputError: for a similarity that is not above 0.
    """
    if not clip_all_local > 0:
        raise InputError(f"--kappa: found CLIP = {clip_all_local:.3g} at n = N, whose inverse is no kappa; give one")
    return 1 / clip_all_local

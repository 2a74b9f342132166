"""The Personalised Accuracy Index, paper section 3.4.2: LPIPS-bar, sigma_P and eq. (1), one function each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..common.arrays import Floats
from ..common.errors import InputError
from ..fitting.pai import GAIN, THRESHOLD, PaiCurve

REAL_KAPPA = 3.0
"""The paper's kappa, which brings PAI near 1 for a CLIP similarity of about 0.3."""


@dataclass(frozen=True, kw_only=True)
class PaiConstants:
    """The constants of eq. (1).

    Attributes:
        kappa: scale of the CLIP similarity.
        gain: a of sigma_P, which says how steeply it rises.
        threshold: b of sigma_P, the LPIPS-bar at which it is 1/2.
    """

    kappa: float = REAL_KAPPA
    gain: float = GAIN
    threshold: float = THRESHOLD


def pai(clip: ArrayLike, lpips_bar: ArrayLike, constants: PaiConstants) -> Floats:
    """PAI = kappa E_i[CLIP(p_i, m_i)] sigma_P(LPIPS-bar), eq. (1).

    Args:
        clip: E_i[CLIP(p_i, m_i)], the users' mean similarity between picture and described prompt, any shape.
        lpips_bar: LPIPS-bar of the same pictures, in the shape of `clip`.
        constants: kappa and the constants of sigma_P.
    """
    return constants.kappa * np.asarray(clip, float) * sigma_p(lpips_bar, constants)


def sigma_p(lpips_bar: ArrayLike, constants: PaiConstants) -> Floats:
    """sigma_P(x) = 1 / (1 + exp(-a (x - b))), section 3.4.2: how different the users' pictures are, from 0 to 1."""
    return PaiCurve(steepness=constants.gain, midpoint=constants.threshold).sigmoid(lpips_bar)


def lpips_bar(to_others: Sequence[float] | Floats) -> float:
    """LPIPS-bar = E_{i < i'}[LPIPS(m_i, m_i')], section 3.4.2: the mean over all pairs of users.

    Args:
        to_others: for each user, the mean LPIPS between the own picture and those of all other users, shape (users,).
            Every pair is in two of these means, with the same weight, so that their mean is the mean over all pairs.
    """
    return float(np.mean(to_others))


def kappa_of(clip_all_local: float) -> float:
    """The kappa that makes PAI(N) about 1: 1 / CLIP(N), for a CLIP whose scores are not those of the real one.

    Raises:
        InputError: for a similarity that is not above 0.
    """
    if not clip_all_local > 0:
        raise InputError(f"--kappa: found CLIP = {clip_all_local:.3g} at n = N, whose inverse is no kappa; give one")
    return 1 / clip_all_local

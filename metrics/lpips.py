"""LPIPS (arXiv 1801.03924) of pairs of pictures; the features of each picture are computed once for all its pairs."""

import io
import os
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import data
from ..common.errors import InputError, nearest, reason_of, shown
from .settings import BACKBONES

TRUNKS = {
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "squeeze": "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
}
"""The files with torchvision's weights that the package `lpips` takes."""
TOY_SIDE = 64
"""Pixels that the toy world's 48-pixel pictures are enlarged to, the size that its backbone was trained with."""


@dataclass(frozen=True)
class Lpips:
    """A perceptual distance.

    Attributes:
        network: module of the package `lpips`.
        side: side that pictures are scaled to, pixels; None to leave them as they are.
    """

    network: Any
    side: int | None = None

    @torch.inference_mode()
    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length features of every layer, of pictures of shape (b, 3, height, width) with values 0 to 1."""
        from lpips import normalize_tensor

        inputs = 2 * images.to(next(self.network.parameters()).device).float() - 1
        if self.side:
            inputs = functional.interpolate(inputs, size=self.side, mode="bilinear")
        layers = self.network.net(self.network.scaling_layer(inputs))
        return [normalize_tensor(layer) for layer in layers]

    @torch.inference_mode()
    def distances(self, features: Sequence[Tensor], pairs: Sequence[tuple[int, int]]) -> Tensor:
        """LPIPS(m_i, m_i') of pairs of pictures, each pair as two indices into the features; shape (pairs,)."""
        first, second = ([pair[k] for pair in pairs] for k in (0, 1))
        total = torch.zeros(len(pairs))
        for layer, weigh in zip(features, self.network.lins, strict=True):
            total += weigh((layer[first] - layer[second]).square()).mean(dim=(1, 2, 3)).cpu()
        return total


def load_lpips(backbone: str, device: str = "cpu") -> Lpips:
    """Load a backbone and the published linear layers on top of it.

    Args:
        backbone: "alex", "vgg" or "squeeze", whose weights torchvision downloads once; or "toyworld", an AlexNet
            trained on the toy world, whose values cannot be compared with those of the others.
        device: device to load it onto, such as "cpu" or "cuda:0".

    Raises:
        InputError: for an unknown backbone, or weights that cannot be had.
    """
    if backbone not in BACKBONES:
        raise InputError(
            f"LPIPS: found {shown(backbone)}, accepted: {', '.join(BACKBONES)}; {nearest(backbone, BACKBONES)}"
        )
    network = _toy_network() if backbone == "toyworld" else _published(backbone)
    return Lpips(network.to(device).eval(), TOY_SIDE if backbone == "toyworld" else None)


def _published(backbone: str) -> Any:
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # torchvision's files are pickles: no code in them is run
    try:
        with redirect_stderr(io.StringIO()):  # hides torch's progress bar, as an error must be the only line
            return _package(backbone)
    except (OSError, RuntimeError, UnpicklingError, EOFError, TypeError) as error:  # no network, or another file
        reason = "found more than weights" if isinstance(error, UnpicklingError) else reason_of(error, 80)
        raise InputError(
            f"LPIPS {backbone!r}: cannot download or read torchvision's weights ({reason}); "
            f"get {TRUNKS[backbone]} elsewhere and put it into {torch.hub.get_dir()}/checkpoints"
        ) from error


def _package(backbone: str, **settings: Any) -> Any:
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchvision warns about how lpips calls it
        return lpips.LPIPS(net=backbone, verbose=False, **settings)


def _toy_network() -> Any:
    from safetensors.torch import load_file

    network = _package("alex", pnet_rand=True)
    network.net.load_state_dict(load_file(data.FOLDER / "toyworld" / "lpips" / "alexnet.safetensors"))
    return network

"""The pictures that the toy world's networks are trained on and judged by."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import world

PICTURES, PICTURES_SEED = 20_000, 1
"""Number and seed of the pictures that all networks are trained on."""
HELD_OUT, HELD_OUT_SEED = 1_000, 2
"""Number and seed of the pictures that they are judged by."""
Report = dict[str, Any]
"""What a stage reports of its quality, as JSON can hold it."""


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """A generator of NumPy that is seeded by a number from one of torch."""
    return np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))


def as_images(pixels: world.Pixels) -> Tensor:
    """Pixels of shape (count, height, width, 3), 0 to 255, as images of shape (count, 3, height, width), -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1

"""Pictures from tensors to PIL and to files."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ...common.files import whole_file


def save_image(path: Path, image: Tensor) -> None:
    """Write a picture of shape (3, height, width), values 0 to 1, as PNG, whole or not at all."""
    with whole_file(path, "wb") as handle:
        as_pil(image).save(handle, format="PNG")


def as_pil(image: Tensor) -> Image.Image:
    """A picture of shape (3, height, width), values 0 to 1, as a PIL image, rounded as diffusers does."""
    return Image.fromarray((image.permute(1, 2, 0).cpu().float().numpy() * 255).round().astype(np.uint8))

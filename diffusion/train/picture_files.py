"""Pictures of any format that cameras and programs write, as square tensors: upright, on white, of a bounded size."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...common.errors import InputError, reason_of

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Formats that Pillow may take a file for. Others are not tried: some run programs, such as Ghostscript."""
COMMON = (".jpg", ".png", ".webp", ".heic", ".tif", ".gif", ".avif")
HEIF = (".heic", ".heif", ".hif")
"""Suffixes of what phones of Apple take; Pillow reads them with the help of pillow-heif."""
SUFFIXES = frozenset(
    [
        *(*COMMON, *HEIF),
        *(".jpeg", ".jpe", ".jfif", ".mpo", ".apng", ".bmp", ".dib", ".tiff", ".avifs"),
        *(".jp2", ".j2k", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"),
    ]
)
MOVING = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
"""Formats that may hold several pictures."""
DRAFT_ABOVE = 50_000_000
"""Number of pixels above which a JPEG is read at a half, a quarter or an eighth of its size."""
MOST_DRAFTED = 2_000_000_000
"""Most pixels of a JPEG."""
MOST_WHOLE = 180_000_000
"""Most pixels of a picture in any other format, which has to be read whole."""
BACKGROUND = (255, 255, 255, 255)
"""The colour behind what is transparent."""


def read_picture(path: Path, side: int) -> tuple[Tensor, bool]:
    """A picture cropped to a square around its middle.

    Args:
        path: its file.
        side: side to scale it to, in pixels.

    Returns:
        the picture, shape (3, side, side), values -1 to 1; and whether the file holds more than this one.

    Raises:
        InputError: for a file that is not a whole picture, or one with too many pixels.
    """
    try:
        with _quiet(), Image.open(path, formats=_formats()) as image:
            _check_size(path, image)
            moves = image.format in MOVING and getattr(image, "n_frames", 1) > 1
            if image.width * image.height > DRAFT_ABOVE:
                image.draft("RGB", (4 * side, 4 * side))
            upright = _on_white(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a picture of a known format; replace or remove it") from error
    except Exception as error:  # of whatever the file is damaged by
        raise InputError(f"{path}: not a whole picture ({reason_of(error, 80)}); replace or remove it") from error
    square = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(square, dtype=np.float32))
    return pixels.permute(2, 0, 1) / 127.5 - 1, moves


@cache
def has_heif() -> bool:
    """Whether photos of Apple's phones can be read; if so, Pillow is told how."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


@cache
def _formats() -> tuple[str, ...]:
    """The formats that this Pillow has."""
    Image.init()
    known = (*FORMATS, "HEIF") if has_heif() else FORMATS
    return tuple(name for name in known if name in Image.OPEN)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Pillow open pictures of any size, which is checked here by format, and keep its warnings to itself."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _check_size(path: Path, image: Any) -> None:
    most = MOST_DRAFTED if image.format in ("JPEG", "MPO") else MOST_WHOLE
    pixels = image.width * image.height
    if pixels > most:
        raise InputError(
            f"{path}: found {pixels / 1e6:.0f} megapixels, accepted: up to {most / 1e6:.0f} in {image.format}; scale "
            "it down"
        )


def _on_white(image: Any) -> Any:
    """A picture as RGB with 8 bits a colour."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return image.convert("RGB")


def _eight_bits(image: Any) -> Any:
    """A grey picture of larger or fractional numbers as grey with 8 bits; what its white is follows from its format."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity")
    whites = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)[image.mode == "I" :]
    white = next((white for white in whites if values.max(initial=0) <= white), values.max(initial=0))
    return Image.fromarray((values.clip(0) / white * 255).round().clip(0, 255).astype(np.uint8))

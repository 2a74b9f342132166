"""Photos and their captions, from a folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from ..inference.templates import PLAIN, SUBJECT

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True)
class Photos:
    """Pictures of one subject, or of a class.

    Attributes:
        images: the pictures, shape (photos, 3, side, side), values -1 to 1.
        templates: one caption per picture, with `{subject}` where the subject's words go.
    """

    images: Tensor
    templates: list[str]

    def __add__(self, other: "Photos") -> "Photos":
        return Photos(torch.cat([self.images, other.images]), self.templates + other.templates)


def read_photos(folder: Path, side: int) -> Photos:
    """Every picture in a folder, cropped to a square around its middle, with the caption of its .txt if there is one.

    Args:
        folder: folder with .png, .jpg, .webp or .bmp files.
        side: side to scale the pictures to, in pixels.

    Raises:
        InputError: for a folder without pictures, or a picture that cannot be read whole.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.casefold() in SUFFIXES)
    except OSError as error:
        raise InputError(f"{folder}: cannot read: {reason_of(error)}; name a folder of photos") from error
    if not paths:
        raise InputError(f"{folder}: found no pictures, accepted: {', '.join(sorted(SUFFIXES))}; put the photos there")
    return Photos(torch.stack([_read_image(path, side) for path in paths]), [_caption(path) for path in paths])


def _read_image(path: Path, side: int) -> Tensor:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a whole picture ({reason_of(error, 80)}); replace or remove it") from error
    square = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(square, dtype=np.float32))
    return pixels.permute(2, 0, 1) / 127.5 - 1


def _caption(path: Path) -> str:
    text = path.with_suffix(".txt")
    if not text.is_file():
        return PLAIN
    caption = read_text(text).strip()
    if caption.count(SUBJECT) != 1:
        raise InputError(f"{text}: found {shown(caption)}, accepted: a caption with {SUBJECT} once, such as {PLAIN!r}")
    return caption

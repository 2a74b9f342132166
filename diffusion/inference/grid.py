"""Many pictures as one: rows and columns with their titles, small pictures enlarged."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...common.errors import printable
from ...common.files import whole_file
from .pictures import as_pil

LEAST_SIDE = 144
"""Smallest height of a picture in the grid, in pixels; smaller ones are enlarged by a whole number."""
GAP = 6
"""Pixels between two pictures, and around the titles."""
MOST_LINES = 6
"""Most lines of a title."""


def save_grid(path: Path, rows: Sequence[Sequence[Tensor]], columns: Sequence[str], titles: Sequence[str]) -> None:
    """Write pictures of one shape as a PNG, whole or not at all.

    Args:
        path: file to write.
        rows: pictures of every row, each of shape (3, height, width), values 0 to 1.
        columns: title of every column.
        titles: title of every row.
    """
    with whole_file(path, "wb") as handle:
        draw_grid([[as_pil(picture) for picture in row] for row in rows], columns, titles).save(handle, format="PNG")


def draw_grid(rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], titles: Sequence[str]) -> Image.Image:
    """The picture that `save_grid` writes."""
    factor = math.ceil(LEAST_SIDE / rows[0][0].height)
    width, height = (factor * side for side in rows[0][0].size)
    font = _font(max(14, height // 12))
    heads = [_wrapped(column, font, width) for column in columns]
    names = [_wrapped(title, font, width) for title in titles]
    left = 2 * GAP + max(math.ceil(font.getlength(line)) for lines in names for line in lines)
    above = 2 * GAP + max(map(len, heads)) * _line(font)
    size = (left + len(columns) * (width + GAP), above + len(rows) * (height + GAP))
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    for number, lines in enumerate(heads):
        middle = left + number * (width + GAP) + width // 2
        _write(draw, font, lines, (middle, above - GAP - len(lines) * _line(font)), "ma")
    for number, (row, lines) in enumerate(zip(rows, names, strict=True)):
        top = above + number * (height + GAP)
        _write(draw, font, lines, (left - GAP, top + max(0, (height - len(lines) * _line(font)) // 2)), "ra")
        for column, picture in enumerate(row):
            enlarged = picture.resize((width, height), Image.Resampling.BICUBIC) if factor > 1 else picture
            grid.paste(enlarged, (left + column * (width + GAP), top))
    return grid


def _font(size: int) -> Any:
    """Matplotlib's own font, which has Latin, Greek and Cyrillic letters."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def _line(font: Any) -> int:
    """Height of a line, in pixels."""
    return int(1.3 * font.size)


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    """A title in lines of at most this width; what does not fit is cut off and ends in dots."""
    lines = [""]
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(_cut(word, font, width))
        else:
            lines[-1] = _cut(longer, font, width)
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "..."]


def _cut(word: str, font: Any, width: int) -> str:
    if font.getlength(word) <= width:
        return word
    kept = next(n for n in range(len(word), -1, -1) if font.getlength(f"{word[:n]}...") <= width or not n)
    return f"{word[:kept]}..."


def _write(draw: Any, font: Any, lines: Sequence[str], place: tuple[int, int], anchor: str) -> None:
    for number, line in enumerate(lines):
        draw.text((place[0], place[1] + number * _line(font)), line, fill="black", font=font, anchor=anchor)

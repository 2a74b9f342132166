"""The size of the pictures that a step is for: pixels of a square's side, or width and height as "1024x768"."""

import re
from typing import Any

Resolution = int | str
"""Pixels of a square's side, or "1024x768", width and height; a square is always a number."""
MOST_PIXELS = 10**6
"""Bound of a side that no picture comes near."""
SIDES = re.compile(r"([1-9]\d{0,6})x([1-9]\d{0,6})")


def check_resolution(found: Any) -> Any:
    """The value itself.

    Raises:
        ValueError: for what is no resolution.
    """
    if isinstance(found, str) and SIDES.fullmatch(found):
        width, height = sides_of(found)
        if width != height and max(width, height) <= MOST_PIXELS:
            return found
    if type(found) is int and 0 < found <= MOST_PIXELS:
        return found
    raise ValueError(f'pixels of a square\'s side, or "WIDTHxHEIGHT", up to {MOST_PIXELS}, not {found!r}')


def sides_of(resolution: Resolution) -> tuple[int, int]:
    """Width and height, pixels."""
    if isinstance(resolution, int):
        return resolution, resolution
    width, _, height = resolution.partition("x")
    return int(width), int(height)


def resolution_of(width: int, height: int) -> Resolution:
    """The resolution with these sides, pixels."""
    return width if width == height else f"{width}x{height}"

"""Figures as files: the same figure gives the same bytes, written whole or not at all."""

from io import BytesIO
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import whole_file

FORMATS = ("png", "svg")
"""What every command writes beside each other."""
SUFFIXES = (".png", ".svg", ".pdf")
"""Accepted where a user names one picture."""
DPI = 150


def check_picture(path: Path) -> None:
    """Refuse a picture's file name before the work starts.

    Raises:
        InputError: for a suffix that is no picture's.
    """
    if path.suffix.casefold() not in SUFFIXES:
        raise InputError(f"{path}: found suffix '{path.suffix}', accepted: {', '.join(SUFFIXES)}")


def save_figure(path: Path, figure: Any) -> None:
    """Write a matplotlib figure in the format of the file's suffix."""
    with whole_file(path, "wb") as handle:
        handle.write(picture_bytes(figure, path.suffix.casefold().removeprefix(".")))


def save_both(stem: Path, figure: Any) -> list[Path]:
    """Write a matplotlib figure as PNG and SVG beside each other; returns both paths."""
    paths = [stem.with_suffix(f".{kind}") for kind in FORMATS]
    for path in paths:
        save_figure(path, figure)
    return paths


def picture_bytes(figure: Any, kind: str) -> bytes:
    """A matplotlib figure in a format, "png", "svg" or "pdf", without the date of its making."""
    from matplotlib import rc_context

    stream, undated = BytesIO(), {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "edgesplit"}):
        figure.savefig(stream, format=kind, dpi=DPI, metadata=undated.get(kind, {}))
    return stream.getvalue()

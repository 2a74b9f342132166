"""Figures as files: the same figure gives the same bytes, written whole or not at all."""

import re
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from .errors import InputError, printable
from .files import whole_file

FORMATS = ("png", "svg")
"""What every command writes beside each other."""
SUFFIXES = (".png", ".svg", ".pdf")
"""Accepted where a user names one picture."""
DPI = 150
OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Malgun Gothic",
    "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Symbola", "Unifont",
)  # fmt: skip
"""Fonts that have letters which Matplotlib's own lacks; those that are installed are used."""


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


def drawn_text(text: str, most: int = 40) -> str:
    """A name for a picture: one short line, never read as mathematics, never hidden from a legend.

    Letters that no font here has become an ellipsis.
    """
    line = re.sub(".", lambda letter: letter[0] if can_draw(letter[0]) else "\0", printable(" ".join(text.split())))
    line = re.sub("\0[\0 ]*", "\u2026", line)
    short = line if len(line) <= most else f"{line[: most - 1]}~"
    return f"\u200b{short}".replace("$", r"\$") if short.startswith("_") else short.replace("$", r"\$")


def can_draw(text: str) -> bool:
    """Whether a font here has every letter of a text."""
    return all(any(ord(letter) in letters for letters in map(_letters, _fonts())) for letter in text)


@cache
def _fonts() -> tuple[str, ...]:
    """Matplotlib's own font, and those of `OTHER_SCRIPTS` that are installed."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed))


@cache
def _letters(font: str) -> Collection[int]:
    """The letters of an installed font."""
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont(font)).get_charmap())


@contextmanager
def any_script() -> Iterator[None]:
    """Within, letters that Matplotlib's own font lacks come from installed fonts, or are boxes, without a warning."""
    from matplotlib import rc_context

    with rc_context({"font.sans-serif": list(_fonts())}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def picture_bytes(figure: Any, kind: str) -> bytes:
    """A matplotlib figure in a format, "png", "svg" or "pdf", without the date of its making."""
    from matplotlib import rc_context

    stream, undated = BytesIO(), {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "edgesplit"}), any_script():
        figure.savefig(stream, format=kind, dpi=DPI, metadata=undated.get(kind, {}))
    return stream.getvalue()

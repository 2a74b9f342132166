"""Photos and their captions, from a folder."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...common.console import say
from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from ..inference.templates import PLAIN, SUBJECT, with_subject
from .picture_files import COMMON, HEIF, SUFFIXES, has_heif, read_picture

WORDS = ("sks dog", "dog")
"""The words for the subject in a cohort file that names none, of a user's own and of the class."""
HIDDEN = ("desktop.ini", "thumbs.db", "ehthumbs.db", "icon\r", "__macosx")
"""Names, in lower case, of what other systems leave in folders; names with a dot in front are hidden as well."""


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


def read_photos(folder: Path, side: int, words: Collection[str] = WORDS, command: str = "dreambooth") -> Photos:
    """Every picture in a folder, cropped to a square around its middle, with the caption of its .txt if there is one.

    What else lies in the folder is named in one notice.

    Args:
        folder: folder of pictures, of any format that `picture_files` reads.
        side: side to scale the pictures to, in pixels.
        words: words that a caption may have instead of `{subject}`, such as "sks dog".
        command: the command that says the notice.

    Raises:
        InputError: for a folder without pictures, or a picture that cannot be read whole.
    """
    paths, skipped = pictures_in(folder)
    pictures = [read_picture(path, side) for path in paths]
    skipped["moving pictures but for their first frame"] = [
        p.name for p, (_, moves) in zip(paths, pictures, strict=True) if moves
    ]
    photos = Photos(torch.stack([image for image, _ in pictures]), [_caption(path, words) for path in paths])
    if left_out := _in_words(skipped):
        say(f"{command}: {folder}: skipped: {left_out}")
    return photos


# -- what lies in the folder --------------------------------------------------------------------------------

Skipped = dict[str, list[str]]
"""Reason -> names of what is left out."""


def pictures_in(folder: Path) -> tuple[list[Path], Skipped]:
    """The pictures of a folder by name, and what else is there.

    Raises:
        InputError: for a folder without pictures.
    """
    paths, skipped = _sorted_out(folder)
    if not paths:
        beside = f"; skipped: {left_out}" if (left_out := _in_words(skipped)) else ""
        raise InputError(
            f"{folder}: found no pictures, accepted: such as {', '.join(COMMON)}; put the photos there{beside}"
        )
    return paths, skipped


def _sorted_out(folder: Path) -> tuple[list[Path], Skipped]:
    """The pictures of a folder, if there are any, by name, and what else is there."""
    pictures: list[Path] = []
    skipped: Skipped = defaultdict(list)
    try:
        entries = sorted(path for path in folder.iterdir() if not _is_hidden(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot read: {reason_of(error)}; name a folder of photos") from error
    for path in entries:
        if path.is_dir():
            skipped["in subfolders"] += _pictures_below(path, folder)
        elif reason := _why_not(path):
            skipped[reason].append(path.name)
        elif path.suffix.casefold() != ".txt":
            pictures.append(path)
    stems = {path.stem for path in pictures}
    skipped["captions without a picture"] = [p.name for p in entries if _is_caption(p) and p.stem not in stems]
    return pictures, skipped


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.casefold() in HIDDEN


def _is_caption(path: Path) -> bool:
    return path.suffix.casefold() == ".txt" and path.is_file()


def _why_not(path: Path) -> str:
    """Why a file is not read as a picture; nothing for one that is, and for a caption."""
    suffix = path.suffix.casefold()
    if not path.is_file():
        return "not files"
    if suffix in HEIF and not has_heif():
        return "need pillow-heif: pip install 'edgesplit[photos]'"
    return "" if suffix in SUFFIXES or suffix == ".txt" else "neither pictures nor captions in .txt"


def _pictures_below(folder: Path, top: Path) -> list[str]:
    """The pictures in a subfolder, by their paths from the top; hidden ones are left out."""
    inner = sorted(path for path in folder.rglob("*") if path.suffix.casefold() in SUFFIXES and path.is_file())
    below = [path.relative_to(top) for path in inner]
    return [str(path) for path in below if not any(_is_hidden(Path(part)) for part in path.parts)]


def _in_words(skipped: Skipped) -> str:
    """The names by reason, each reason's first ones."""
    return "; ".join(
        f"{len(names)} {reason} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for reason, names in skipped.items()
        if names
    )


def _caption(path: Path, words: Collection[str]) -> str:
    text = path.with_suffix(".txt")
    if not text.is_file():
        return PLAIN
    written = read_text(text).strip()
    try:
        caption = with_subject(written, words)
    except InputError as error:
        raise InputError(f"{text}: {error}") from error
    if caption.count(SUBJECT) != 1:
        own = f", or {' or '.join(map(shown, words))}" if words else ""
        accepted = f"a caption with {SUBJECT} once{own}, such as {PLAIN!r}"
        raise InputError(f"{text}: found {shown(written)}, accepted: {accepted}")
    return caption

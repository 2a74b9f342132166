"""The results of a sweep: a SQLite database beside the pictures, so that a kill loses the unfinished block alone."""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.database import DATABASE, open_results, stored_settings
from ..common.errors import InputError
from ..common.files import make_folder, whole_file
from ..common.result_table import ResultTable
from .settings import Group, SweepSettings

if TYPE_CHECKING:
    from .sweep import MeasuredPicture

COMMAND = "pai-sweep"
FINGERPRINT = re.compile("[0-9a-f]{32}")
"""Two fingerprints of folders, one behind the other."""
TABLE = ResultTable(
    name="measurements",
    columns={
        "prompt": "INTEGER", "seed": "INTEGER", "local_steps": "INTEGER", "user": "TEXT", "clip": "REAL",
        "lpips": "REAL", "picture": "TEXT", "crc32": "INTEGER",
    },
    key=("prompt", "seed", "local_steps", "user"),
    settings_bind=False,
)  # fmt: skip
"""The table of all pictures; settings with which nothing was measured bind no later run."""
OPTIONS = {
    "users": "user",
    "class_word": "subject",
    "descriptions": "describe",
    "templates": "prompts",
    "total_steps": "steps",
    "guidance_scale": "guidance",
    "long_prompts": "long-prompts",
}
"""Field of the settings -> option, where their names differ."""


class Store:
    """The folder of a sweep, open for one process at a time.

    Args:
        folder: folder of the results; it is made if it is not there.
        settings: settings of the sweep; a folder with results of other settings is refused.

    Raises:
        InputError: for results of other settings, another process at work, or a folder that cannot be written.
    """

    def __init__(self, folder: Path, settings: SweepSettings) -> None:
        self.folder = folder
        self.settings = settings
        _check_models(folder, settings.weights)
        self._results = open_results(folder / DATABASE, TABLE, _by_option(settings), COMMAND)
        make_folder(folder / "pictures")
        for left in [*folder.glob(".*.tmp"), *folder.glob("pictures/*/.*.tmp")]:  # written by a process that was killed
            left.unlink()

    def close(self) -> None:
        """Let other processes in."""
        self._results.close()

    def missing(self, groups: Iterable[Group]) -> list[Group]:
        """The groups of which a row or a picture is missing, or a picture has other bytes than were written."""
        whole: dict[Group, int] = {}
        for prompt, seed, *_, picture, crc32 in self._results.rows():
            if _checksum(self.folder / picture) == crc32:
                whole[prompt, seed] = whole.get((prompt, seed), 0) + 1
        return [group for group in groups if whole.get(group, 0) < self.settings.group_pictures]

    def add(self, pictures: "Sequence[MeasuredPicture]") -> None:
        """Keep finished pictures: first their files, then all of their rows at once.

        Raises:
            InputError: for a disk without room.
        """
        rows = []
        for m in pictures:
            picture = _picture_path(m)
            path = self.folder / picture
            make_folder(path.parent)
            with whole_file(path, "wb") as handle:
                handle.write(m.png)
            rows.append((m.prompt, m.seed, m.local_steps, m.user, m.clip, m.lpips, picture, zlib.crc32(m.png)))
        self._results.add(rows)

    def table(self) -> dict[str, list[Any]]:
        """All rows, column by column, in the order of prompts, seeds, splits and users."""
        users = list(self.settings.users)
        rows = sorted(self._results.rows(), key=lambda row: (*row[:3], users.index(row[3])))
        return {name: list(values) for name, values in zip(TABLE.columns, zip(*rows, strict=True), strict=True)}


def settings_in(folder: Path) -> dict[str, Any]:
    """The settings of the sweep in a folder: option -> value; empty where nothing was measured yet.

    Raises:
        InputError: for results of another command, or another process at work.
    """
    return stored_settings(folder / DATABASE, TABLE, COMMAND)


def _check_models(folder: Path, own: Mapping[str, str]) -> None:
    """Refuse results in which no model is the same; fingerprints of older versions are of parts of the files.

    The fingerprint of what is no folder, a name or a hub id, is the same in all versions and tells nothing.
    """
    stored = settings_in(folder).get("weights", {})
    common = [name for name in stored.keys() & own if FINGERPRINT.fullmatch(stored[name] + own[name])]
    if common and all(stored[name] != own[name] for name in common):
        raise InputError(
            f"{folder}: holds results of other models: no fingerprint is the same (if you have changed none, they are "
            "of an older edgesplit, which looked at parts of the files); choose another -o, or --fresh to move it aside"
        )


def _by_option(settings: SweepSettings) -> dict[str, Any]:
    """Settings under the options that set them; settings without an option keep their names."""
    own = asdict(settings)
    inner = {name: own.pop(name) for name in ("weights", "threads")}
    return {f"--{OPTIONS.get(name, name)}": value for name, value in own.items()} | inner


def _picture_path(m: "MeasuredPicture") -> str:
    """The place of a picture in the folder of its sweep."""
    return f"pictures/p{m.prompt:03d}-s{m.seed:04d}/n{m.local_steps:04d}-{m.user}.png"


def _checksum(path: Path) -> int | None:
    try:
        return zlib.crc32(path.read_bytes())
    except OSError:
        return None

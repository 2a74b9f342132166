"""The results of a sweep: one SQLite database beside the pictures; a killed run loses its unfinished block alone."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..common.console import say
from ..common.errors import InputError, shown
from ..common.files import make_folder, whole_file
from .sweep import Cluster, Measurement, SweepSettings

DATABASE = "results.sqlite"
TABLES = """
CREATE TABLE IF NOT EXISTS settings (value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS measurements (
    prompt INTEGER, seed INTEGER, local_steps INTEGER, user TEXT, clip REAL, lpips REAL, picture TEXT, bytes INTEGER,
    PRIMARY KEY (prompt, seed, local_steps, user)
);
"""
COLUMNS = ("prompt", "seed", "local_steps", "user", "clip", "lpips", "picture", "bytes")


class Store:
    """A sweep's folder; one process at a time.

    Args:
        folder: made if it is not there.
        settings: of the sweep; a folder with results of other settings is refused.

    Raises:
        InputError: for other settings, another process at work, a folder that cannot be written.
    """

    def __init__(self, folder: Path, settings: SweepSettings) -> None:
        self.folder = folder
        self.settings = settings
        make_folder(folder / "pictures")
        with _one_line(folder):
            self._database = sqlite3.connect(folder / DATABASE, timeout=1)
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")  # until it is closed
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(TABLES)
            self._check_settings()

    def close(self) -> None:
        """Let other processes in."""
        self._database.close()

    def missing(self, clusters: Iterable[Cluster]) -> list[Cluster]:
        """Those that are not all there, their pictures included."""
        found: dict[Cluster, int] = {}
        for prompt, seed, picture, size in self._select("prompt, seed, picture, bytes"):
            if _size(self.folder / picture) == size:
                found[prompt, seed] = found.get((prompt, seed), 0) + 1
        whole = len(self.settings.users) * len(self.settings.splits)
        return [cluster for cluster in clusters if found.get(cluster, 0) < whole]

    def add(self, measurements: Sequence[Measurement]) -> None:
        """Keep finished pictures: first their files, then all of their rows at once.

        Raises:
            InputError: where there is no room.
        """
        rows = []
        for m in measurements:
            picture = self._picture(m)
            path = self.folder / picture
            make_folder(path.parent)
            with whole_file(path, "wb") as handle:
                handle.write(m.png)
            rows.append((m.prompt, m.seed, m.local_steps, m.user, m.clip, m.lpips, picture, len(m.png)))
        marks = ", ".join("?" * len(COLUMNS))
        with _one_line(self.folder), self._database:
            self._database.executemany(f"INSERT OR REPLACE INTO measurements VALUES ({marks})", rows)  # noqa: S608

    def table(self) -> dict[str, list[Any]]:
        """Every measurement, column by column, in the order of prompts, seeds, splits and users."""
        users = list(self.settings.users)
        rows = sorted(self._select(", ".join(COLUMNS)), key=lambda row: (*row[:3], users.index(row[3])))
        return {name: list(values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)}

    def _select(self, columns: str) -> list[tuple[Any, ...]]:
        with _one_line(self.folder):
            return self._database.execute(f"SELECT {columns} FROM measurements").fetchall()  # noqa: S608

    @staticmethod
    def _picture(m: Measurement) -> str:
        return f"pictures/p{m.prompt:03d}-s{m.seed:04d}/n{m.local_steps:04d}-{m.user}.png"

    def _check_settings(self) -> None:
        own = json.loads(json.dumps(asdict(self.settings)))
        found = self._database.execute("SELECT value FROM settings").fetchone()
        if found is None:
            with self._database:
                self._database.execute("INSERT INTO settings VALUES (?)", [json.dumps(own)])
            return
        if difference := _difference(json.loads(found[0]), own):
            raise InputError(
                f"{self.folder}: holds a sweep with other settings: {difference}; choose another -o, or --fresh to "
                "move it aside"
            )


def stored_batch(folder: Path) -> int | None:
    """The batch of the sweep in a folder: what --batch auto came to before."""
    path = folder / DATABASE
    if not path.is_file():
        return None
    with _one_line(folder):
        database = sqlite3.connect(path, timeout=1)
        try:
            found = database.execute("SELECT value FROM settings").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return None
        finally:
            database.close()
    return int(json.loads(found[0])["batch"]) if found else None


def move_aside(folder: Path) -> None:
    """Rename a folder with results, so that a fresh one can take its place."""
    if not folder.exists():
        return
    aside = folder.with_name(f"{folder.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        folder.rename(aside)
    except OSError as error:
        raise InputError(f"{folder}: cannot move aside: {error.strerror}; choose another -o") from error
    say(f"pai-sweep: moved {folder} to {aside}")


def _difference(found: dict[str, Any], own: dict[str, Any]) -> str:
    before, now = _flat(found), _flat(own)
    changed = [key for key in now | before if before.get(key) != now.get(key)]
    return ", ".join(f"{key} was {shown(before.get(key))} and is {shown(now.get(key))}" for key in changed)


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the entries of a dictionary under names of their own."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{name}": entry for name, entry in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise InputError(
                f"{folder}: another pai-sweep is at work here; wait for it or choose another -o"
            ) from error
        raise InputError(f"{folder / DATABASE}: {error}; free some space, or choose another -o, and repeat") from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise InputError(f"{folder / DATABASE}: damaged ({error}); --fresh moves the folder aside") from error

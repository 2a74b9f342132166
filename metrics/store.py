"""The results of a sweep: one SQLite database beside the pictures; a killed run loses its unfinished block alone."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..common.database import one_line, open_results
from ..common.files import make_folder, whole_file
from .sweep import Cluster, Measurement, SweepSettings

DATABASE, COMMAND = "results.sqlite", "pai-sweep"
TABLES = """
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
        self._database = open_results(folder / DATABASE, TABLES, asdict(settings), COMMAND)

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
        with one_line(self.folder / DATABASE, COMMAND), self._database:
            self._database.executemany(f"INSERT OR REPLACE INTO measurements VALUES ({marks})", rows)  # noqa: S608

    def table(self) -> dict[str, list[Any]]:
        """Every measurement, column by column, in the order of prompts, seeds, splits and users."""
        users = list(self.settings.users)
        rows = sorted(self._select(", ".join(COLUMNS)), key=lambda row: (*row[:3], users.index(row[3])))
        return {name: list(values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)}

    def _select(self, columns: str) -> list[tuple[Any, ...]]:
        with one_line(self.folder / DATABASE, COMMAND):
            return self._database.execute(f"SELECT {columns} FROM measurements").fetchall()  # noqa: S608

    @staticmethod
    def _picture(m: Measurement) -> str:
        return f"pictures/p{m.prompt:03d}-s{m.seed:04d}/n{m.local_steps:04d}-{m.user}.png"


def stored_batch(folder: Path) -> int | None:
    """The batch of the sweep in a folder: what --batch auto came to before."""
    path = folder / DATABASE
    if not path.is_file():
        return None
    with one_line(path, COMMAND):
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


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None

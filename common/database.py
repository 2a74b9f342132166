"""A folder with results that a killed run goes on from: one SQLite database, one process at a time."""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .console import say
from .errors import InputError, shown
from .files import make_folder

SETTINGS = "CREATE TABLE IF NOT EXISTS settings (value TEXT NOT NULL);"


def open_results(path: Path, tables: str, settings: Mapping[str, Any], command: str) -> sqlite3.Connection:
    """Open or make the database of a run, locked for this process.

    Args:
        path: of the database; its folder is made.
        tables: SQL that makes what is not there.
        settings: of the run, as JSON can hold them.
        command: whose results these are, for messages.

    Raises:
        InputError: for results of other settings, another process at work, a place that cannot be written.
    """
    make_folder(path.parent)
    with one_line(path, command):
        database = sqlite3.connect(path, timeout=1)
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")  # until it is closed
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(SETTINGS + tables)
            _check_settings(path.parent, database, settings)
        except BaseException:
            database.close()
            raise
        return database


@contextmanager
def one_line(path: Path, command: str) -> Iterator[None]:
    """Errors of the database at `path` as one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise InputError(
                f"{path.parent}: another {command} is at work here; wait for it or choose another -o"
            ) from error
        raise InputError(f"{path}: {error}; free some space, or choose another -o, and repeat") from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); --fresh moves the folder aside") from error


def move_aside(folder: Path, command: str) -> None:
    """Rename a folder with results, so that a fresh one can take its place."""
    if not folder.exists():
        return
    aside = folder.with_name(f"{folder.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        folder.rename(aside)
    except OSError as error:
        raise InputError(f"{folder}: cannot move aside: {error.strerror}; choose another -o") from error
    say(f"{command}: moved {folder} to {aside}")


def _check_settings(folder: Path, database: sqlite3.Connection, settings: Mapping[str, Any]) -> None:
    own = json.loads(json.dumps(settings))
    found = database.execute("SELECT value FROM settings").fetchone()
    if found is None:
        with database:
            database.execute("INSERT INTO settings VALUES (?)", [json.dumps(own)])
        return
    if difference := _difference(json.loads(found[0]), own):
        raise InputError(
            f"{folder}: holds results with other settings: {difference}; choose another -o, or --fresh to move it aside"
        )


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

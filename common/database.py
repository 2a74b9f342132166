"""A folder with results that a killed run goes on from: one SQLite database, one process at a time."""

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from .console import say
from .errors import InputError, shown
from .files import make_folder

DATABASE = "results.sqlite"
SETTINGS = "CREATE TABLE IF NOT EXISTS settings (value TEXT NOT NULL);"
MOST_DIFFERENCES = 5
REMEDIES = {
    "SQLITE_FULL": "free some space and repeat",
    "SQLITE_IOERR": "see whether the disk is full or failing, and repeat",
    "SQLITE_READONLY": "it may not be written: change its permissions, or choose another -o",
    "SQLITE_CANTOPEN": "it cannot be opened for writing: change its permissions, or choose another -o",
}
"""What to do about an error of SQLite, by the beginning of its name."""


def open_results(path: Path, tables: str, settings: Mapping[str, Any] | None, command: str) -> sqlite3.Connection:
    """Open or make the database of a run, locked for this process.

    Args:
        path: path of the database; its folder is made.
        tables: SQL that makes the tables which are missing.
        settings: settings of the run, as JSON can hold them; None to take the stored ones as they are.
        command: name of the command whose results these are.

    Raises:
        InputError: for results of other settings or of another command, another process at work, a place that cannot
            be written.
    """
    make_folder(path.parent)
    with one_line(path, command):
        database = _locked(path, command)
        try:
            database.executescript(SETTINGS + tables)
            if settings is not None:
                _check_settings(path.parent, database, settings)
        except BaseException:
            database.close()
            raise
        return database


def settings_of(database: sqlite3.Connection) -> dict[str, Any]:
    """The stored settings; empty where none are stored."""
    row = database.execute("SELECT value FROM settings").fetchone()
    settings: dict[str, Any] = json.loads(row[0]) if row else {}
    return settings


@contextmanager
def one_line(path: Path, command: str) -> Iterator[None]:
    """Turn errors of the database at `path` into one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        name = getattr(error, "sqlite_errorname", "")  # SQLite itself sets it
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise InputError(
                f"{path.parent}: another {command} is at work here; wait for it or choose another -o"
            ) from error
        remedy = next((words for start, words in REMEDIES.items() if name.startswith(start)), "choose another -o")
        raise InputError(f"{path}: {error}; {remedy}") from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); --fresh moves the folder aside") from error


def move_aside(folder: Path, command: str) -> None:
    """Rename a folder with results of a command, so that a fresh one can take its place; any other folder stays.

    Raises:
        InputError: for results of another command or at which a process is at work, and where it cannot be renamed.
    """
    path, whole = folder / DATABASE, folder.resolve()
    if not path.exists():
        return
    if whole in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"-o: found {folder}, which --fresh cannot move while you are in it; choose another -o")
    aside = whole.with_name(f"{whole.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    with one_line(path, command), ExitStack() as stack:
        try:
            stack.enter_context(closing(_locked(path, command)))
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            pass  # what is damaged cannot be locked
        try:
            whole.rename(aside)
        except OSError as error:
            raise InputError(f"{folder}: cannot move aside: {error.strerror}; choose another -o") from error
    say(f"{command}: moved {folder} to {aside}")


def _locked(path: Path, command: str) -> sqlite3.Connection:
    """A database that no other process can open until it is closed; a new one is marked as the command's."""
    database = sqlite3.connect(path, timeout=1)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        _check_owner(path.parent, database, command)
    except BaseException:
        database.close()
        raise
    return database


def _check_owner(folder: Path, database: sqlite3.Connection, command: str) -> None:
    """Refuse the results of another command; the database's application id, 31 bits, names its own."""
    own = zlib.crc32(command.encode()) >> 1
    (owner,) = database.execute("PRAGMA application_id").fetchone()
    if not database.execute("SELECT name FROM sqlite_master").fetchone():
        database.execute(f"PRAGMA application_id = {own}")
    elif owner != own:
        raise InputError(
            f"{folder}: holds results of another command than {command}, or of an old version; choose another -o"
        )


def _check_settings(folder: Path, database: sqlite3.Connection, settings: Mapping[str, Any]) -> None:
    own, stored = json.loads(json.dumps(settings)), settings_of(database)
    if not stored:
        with database:
            database.execute("INSERT INTO settings VALUES (?)", [json.dumps(own)])
    elif difference := _difference(stored, own):
        raise InputError(
            f"{folder}: holds results with other settings: {difference}; choose another -o, or --fresh to move it aside"
        )


def _difference(stored: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    before, now = _leaves("", stored), _leaves("", own)
    changed = [place for place in now | before if before.get(place) != now.get(place)]
    words = [_change(place, before.get(place), now.get(place)) for place in changed[:MOST_DIFFERENCES]]
    more = len(changed) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")


def _leaves(place: str, value: Any) -> dict[str, Any]:
    """The values at the ends of nested settings, each under the name of its place: users.anna, splits[3]."""
    if isinstance(value, Mapping):
        inner = {f"{place}.{key}".lstrip("."): entry for key, entry in value.items()}
    elif isinstance(value, list):
        inner = {f"{place}[{number}]": entry for number, entry in enumerate(value)}
    else:
        return {place: value}
    return {name: leaf for key, entry in inner.items() for name, leaf in _leaves(key, entry).items()}


def _change(place: str, before: Any, now: Any) -> str:
    """A difference in words; of two texts, from a little before the place where they part."""
    if isinstance(before, str) and isinstance(now, str):
        same = len(os.path.commonprefix([before, now])) - 20  # noqa: RUF071 - of any texts, not of paths
        before, now = (f"...{text[same:]}" if same > 0 else text for text in (before, now))
    return f"{place} was {_value(before)} and is {_value(now)}"


def _value(value: Any) -> str:
    return "not there" if value is None else shown(value)

"""A folder with results that a killed run goes on from: one SQLite database, one process at a time.

A row that the disk has changed is never taken for a result: what is intact is kept, and the rest is made again.
"""

import json
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from .console import say
from .errors import InputError, counted, shown
from .files import make_folder
from .locks import only_run
from .result_table import Contents, ResultTable, Row, digest_of, is_intact, text_of
from .salvage import UNREADABLE, beginning, contents, database_files, lenient, make_database, salvaged

DATABASE = "results.sqlite"
COMMANDS = ("pai-sweep", "reproduce")
"""The commands that keep results in a database."""
MOST_DIFFERENCES = 5
REMEDIES = {
    "SQLITE_FULL": "free some space and repeat",
    "SQLITE_IOERR": "see whether the disk is full or failing, and repeat",
    "SQLITE_READONLY": "it may not be written: change its permissions, or choose another -o",
    "SQLITE_CANTOPEN": "it cannot be opened for writing: change its permissions, or choose another -o",
}
"""What to do about an error of SQLite, by the beginning of its name."""
ADVICE = "--fresh moves the folder aside"
Reader = Callable[[sqlite3.Connection, ResultTable], Contents]


class ResultDatabase:
    """The open database of a run.

    Args:
        path: path of the database.
        command: name of the command whose results these are.
        table: table of the results.
        settings: text of the run's settings.
        database: connection, which keeps other processes out.
    """

    def __init__(
        self, path: Path, command: str, table: ResultTable, settings: str, database: sqlite3.Connection
    ) -> None:
        self.path, self.command, self.table = path, command, table
        self._settings, self._database = settings, database

    def rows(self) -> Iterator[Row]:
        """All rows.

        Raises:
            InputError: where they cannot be read, or one has changed since it was written.
        """
        with one_line(self.path, self.command):
            for row in self._database.execute(f"SELECT * FROM {self.table.name}"):  # noqa: S608 - a name of ours
                if not is_intact(row, self._settings):
                    raise InputError(
                        f"{self.path}: a row has changed during the run; repeat the command, which mends it"
                    )
                yield row[:-1]

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows, all or none of them; each takes the place of one with the same key.

        Raises:
            InputError: where they cannot be written.
        """
        signed = [(*row, digest_of(self._settings, row)) for row in rows]
        with one_line(self.path, self.command), self._database:
            self._database.executemany(self.table.insertion, signed)

    def close(self) -> None:
        """Let other processes in."""
        self._database.close()


def open_results(path: Path, table: ResultTable, settings: Mapping[str, Any], command: str) -> ResultDatabase:
    """Open or make the database of a run, locked for this process; a damaged one is mended, which is said.

    Args:
        path: path of the database; its folder is made.
        table: table of the results.
        settings: settings of the run, as JSON can hold them.
        command: name of the command whose results these are.

    Raises:
        InputError: for results of other settings or of another command, another process at work, a place that cannot
            be written, and a damaged database without an intact row.
    """
    make_folder(path.parent)
    with one_line(path, command), only_run(path, command):  # nobody else mends it, or opens it half mended
        own = text_of(settings)
        if path.exists() and path.stat().st_size:
            own = _check_and_mend(path, table, own, command)
        else:
            _replace(path, table, own, [], command)
        return ResultDatabase(path, command, table, own, _locked(path, command))


def stored_settings(path: Path, table: ResultTable, command: str) -> dict[str, Any]:
    """The settings of the results that are there; empty where there are none, or none that bind.

    Raises:
        InputError: for results of another command, or another process at work.
    """
    if not path.is_file() or not path.stat().st_size:
        return {}
    with one_line(path, command):
        found = _contents(path, table, command, beginning)  # whoever goes on with it reads and checks the rest
    settings: dict[str, Any] = json.loads(found.settings) if found.settings and _binds(found, table) else {}
    return settings


def _contents(path: Path, table: ResultTable, command: str, read: Reader = contents) -> Contents:
    """What a database holds; of a damaged one what is left."""
    try:
        with closing(_locked(path, command)) as database:
            found = read(database, table)
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            raise
        return salvaged(path, table)
    except UNREADABLE:
        return salvaged(path, table)
    return found if found.whole else salvaged(path, table)


def _check_and_mend(path: Path, table: ResultTable, settings: str, command: str) -> str:
    """Refuse results of other settings, and replace a database that is damaged or of an older version by a new one.

    Returns:
        the text of the settings that the rows are signed with.
    """
    if not os.access(path, os.W_OK):
        raise InputError(f"{path}: {REMEDIES['SQLITE_READONLY']}")
    found = _contents(path, table, command)
    if found.settings is not None and _binds(found, table):
        _check_settings(path.parent, json.loads(found.settings), json.loads(settings))
        settings = found.settings
    kept = found.intact(settings)
    lost = not found.whole or len(kept) < len(found.rows)
    if lost and not kept:
        raise InputError(f"{path}: damaged (no row of it is intact); {ADVICE}")
    if lost:
        shutil.copyfile(path, path.with_name(f"{path.name}.damaged"))
    if lost or found.dated or found.settings != settings:
        _replace(path, table, settings, kept, command)
    if lost:
        say(f"{command}: {path} was damaged: {counted(len(kept), 'intact row')} kept, the others are made again")
    return settings


def _binds(found: Contents, table: ResultTable) -> bool:
    return table.settings_bind or bool(found.rows)


def _replace(path: Path, table: ResultTable, settings: str, rows: Iterable[Row], command: str) -> None:
    """Put a database with these rows in the place of another, if there is one."""
    new = path.with_name(f".{path.name}.tmp")
    try:
        with closing(make_database(new, table, _number(command))) as database:
            _fill(database, table, settings, rows)
        for left in database_files(path)[1:]:  # the log of the old database must not be read into the new one
            left.unlink(missing_ok=True)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _fill(database: sqlite3.Connection, table: ResultTable, settings: str, rows: Iterable[Row]) -> None:
    with database:
        database.execute("INSERT INTO settings VALUES (?, ?)", [settings, digest_of(settings)])
        database.executemany(table.insertion, [(*row, digest_of(settings, row)) for row in rows])


@contextmanager
def one_line(path: Path, command: str) -> Iterator[None]:
    """Turn errors of the database at `path` into one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            raise InputError(
                f"{path.parent}: another {command} is at work here; wait for it or choose another -o"
            ) from error
        name = _name_of(error)
        remedy = next((words for start, words in REMEDIES.items() if name.startswith(start)), "choose another -o")
        raise InputError(f"{path}: {error}; {remedy}") from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); {ADVICE}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; choose another -o") from error


def _name_of(error: sqlite3.Error) -> str:
    """SQLite's own name of an error."""
    return getattr(error, "sqlite_errorname", "")


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether another process is at work."""
    return _name_of(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


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
    """A database that no other process can open until it is closed."""
    database = lenient(sqlite3.connect(path, timeout=1))
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        _check_owner(path.parent, database, command)
    except BaseException:
        database.close()
        raise
    return database


def _number(command: str) -> int:
    """The number, of 31 bits, with which a database says whose it is."""
    return zlib.crc32(command.encode()) >> 1


def _check_owner(folder: Path, database: sqlite3.Connection, command: str) -> None:
    """Refuse the results of another command.

    A number that is no command's is damage, as long as the tables are those of a command.
    """
    (owner,), own = database.execute("PRAGMA application_id").fetchone(), _number(command)
    if owner == own:
        return
    tables = database.execute("SELECT name FROM sqlite_master").fetchall()
    if owner in map(_number, COMMANDS) or ("settings",) not in tables:
        raise InputError(
            f"{folder}: holds results of another command than {command}, or of an old version; choose another -o"
        )
    database.execute(f"PRAGMA application_id = {own}")


def _check_settings(folder: Path, stored: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    if difference := _difference(stored, own):
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

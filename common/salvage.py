"""What a database of results holds, be it in order or damaged.

SQLite keeps rows in pages that are leaves of a tree, and the first page says where the trees begin. It is the same in
every new database of a command. A damaged database gets such a first page, and then each of its leaves in turn takes
the place where the tree begins: all rows of sound leaves are found, whatever else is broken.
"""

import os
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from .result_table import Contents, ResultTable, Row, digest_of

T = TypeVar("T")
PAGE = 4096
"""Bytes of a page."""
PAGE_COUNT = 28
"""Place in the first page of the number of pages."""
VERSIONS, WITH_LOG = 18, b"\2\2"
"""Place in the first page of two numbers, and what they are where there may be a write-ahead log."""
MOST_ONE_BY_ONE = 1_000_000
"""Most rows that are looked for one by one between two damaged places."""
UNREADABLE = (sqlite3.Error, ValueError)
"""What is raised where a database is damaged; the second where an error's own text is."""
LEAF = 0x0D
"""First byte of a page with rows."""
SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"


def database_files(path: Path) -> list[Path]:
    """The file of a database, and those that SQLite keeps beside it."""
    return [path, *(path.with_name(f"{path.name}-{kind}") for kind in ("wal", "shm", "journal"))]


def lenient(database: sqlite3.Connection) -> sqlite3.Connection:
    """The connection, which now gives every text that it finds: one that is no UTF-8 fits no digest."""
    database.text_factory = lambda text: text.decode(errors="surrogateescape")
    return database


def make_database(path: Path, table: ResultTable, owner: int) -> sqlite3.Connection:
    """A new database with empty tables, in place of whatever is there.

    Args:
        path: the file.
        table: table of the command.
        owner: number of the command, which marks the database as its own.
    """
    for left in database_files(path):
        left.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    try:
        database.execute("PRAGMA journal_mode = OFF")  # what a kill leaves unfinished is never read
        database.execute(f"PRAGMA page_size = {PAGE}")
        database.execute(f"PRAGMA application_id = {owner}")
        database.executescript(table.script)
    except BaseException:
        database.close()
        raise
    return database


def contents(database: sqlite3.Connection, table: ResultTable) -> Contents:
    """What an open database holds.

    Raises:
        sqlite3.DatabaseError: where it cannot be read to its end.
    """
    if _is_dated(database, table):
        return Contents(_dated_settings(database), _rows(database, table), _is_sound(database), dated=True)
    whole = _schema(database) == _own_schema(table) and _is_sound(database)
    return Contents(_settings(database), _rows(database, table), whole)


def beginning(database: sqlite3.Connection, table: ResultTable) -> Contents:
    """The settings and the first row that an open database holds; whole where the settings can be trusted.

    Raises:
        sqlite3.DatabaseError: where it cannot be read so far.
    """
    dated = _is_dated(database, table)
    settings = _dated_settings(database) if dated else _settings(database)
    first = database.execute(f"SELECT * FROM {table.name} LIMIT 1").fetchall()  # noqa: S608 - a name of ours
    return Contents(settings, first, whole=settings is not None, dated=dated)


def salvaged(path: Path, table: ResultTable) -> Contents:
    """What a damaged database still holds, its write-ahead log with it; the file itself stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copy, new = Path(folder) / "copy", Path(folder) / "new"
        with closing(make_database(new, table, 0)) as database:
            roots = dict(database.execute("SELECT name, rootpage FROM sqlite_master"))
        for source, target in zip(database_files(path), database_files(copy), strict=True):
            if source.exists():
                shutil.copyfile(source, target)
        for _ in range(2):  # the log is read where the first page is in order, or else with the new one
            with suppress(*UNREADABLE), closing(sqlite3.connect(copy)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            _replace_first_page(copy, new.read_bytes()[:PAGE])
        settings = next(_from_leaves(copy, roots["settings"], lambda database: [_settings(database)]), None)
        rows = list(_from_leaves(copy, roots[table.name], lambda database: _rows(database, table)))
    return Contents(settings, rows, whole=False)


def _replace_first_page(copy: Path, page: bytes) -> None:
    """Give a database another first page, and a whole number of pages."""
    pages, first = max(1, -(-copy.stat().st_size // PAGE)), bytearray(page)
    struct.pack_into(">I", first, PAGE_COUNT, pages)
    first[VERSIONS : VERSIONS + 2] = WITH_LOG
    with copy.open("r+b") as handle:
        handle.write(first)
    os.truncate(copy, pages * PAGE)


def _from_leaves(copy: Path, root: int, read: Callable[[sqlite3.Connection], Iterable[T | None]]) -> Iterator[T]:
    """What can be read of a damaged database while each of its leaves stands where a tree begins.

    Args:
        copy: the database.
        root: number of the page where the tree begins, counted from 1.
        read: function that reads from it; an error of SQLite ends it.
    """
    with copy.open("r+b", buffering=0) as handle:
        file, place = handle.fileno(), (root - 1) * PAGE
        before = os.pread(file, PAGE, place)
        for number in range(1, copy.stat().st_size // PAGE):
            leaf = os.pread(file, PAGE, number * PAGE)
            if leaf[0] == LEAF:
                os.pwrite(file, leaf, place)
                with suppress(*UNREADABLE), closing(_unchanging(copy)) as database:
                    yield from (found for found in read(database) if found is not None)
                os.pwrite(file, before, place)


def _unchanging(path: Path) -> sqlite3.Connection:
    """A connection that takes a file as it is, without a log."""
    return lenient(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True))


def _is_sound(database: sqlite3.Connection) -> bool:
    """Whether SQLite finds nothing wrong."""
    database.execute("PRAGMA cell_size_check = ON")
    return bool(database.execute("PRAGMA integrity_check(1)").fetchall() == [("ok",)])


def _schema(database: sqlite3.Connection) -> list[Row]:
    return database.execute(SCHEMA).fetchall()


def _own_schema(table: ResultTable) -> list[Row]:
    """What the schema of a table's database has to be."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(table.script)
        return _schema(database)


def _is_dated(database: sqlite3.Connection, table: ResultTable) -> bool:
    """Whether the tables are those of a version that kept no digests."""
    columns = {
        name: [row[1:3] for row in database.execute(f"PRAGMA table_info({name})")] for name in ("settings", table.name)
    }
    return columns == {"settings": [("value", "TEXT")], table.name: list(table.columns.items())}


def _dated_settings(database: sqlite3.Connection) -> str | None:
    """The settings' text of a version that kept no digests."""
    for (text,) in database.execute("SELECT value FROM settings"):
        return text if isinstance(text, str) else None
    return None


def _settings(database: sqlite3.Connection) -> str | None:
    """The settings' text as it was written; None where it has changed, or is not there."""
    for text, digest in database.execute("SELECT value, digest FROM settings"):
        if isinstance(text, str) and digest == digest_of(text):
            return text
    return None


def _rows(database: sqlite3.Connection, table: ResultTable) -> list[Row]:
    """The rows of a table, from both its ends up to the first one that cannot be read."""
    rows: list[Row] = []
    for order in ("ASC", "DESC"):
        with suppress(*UNREADABLE):
            rows += database.execute(f"SELECT * FROM {table.name} NOT INDEXED ORDER BY rowid {order}")  # noqa: S608
            return rows
    return rows

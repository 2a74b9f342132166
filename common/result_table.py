"""The rows of a run as its database keeps them: each with a digest of its values and of the run's settings."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Row = tuple[Any, ...]
"""The values of a row, in the order of its table's columns."""


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """The table that a command keeps its results in.

    Attributes:
        name: name of the table.
        columns: names of the columns and their types in SQL.
        key: columns that tell one row from another.
        settings_bind: whether stored settings bind a later run though there is no row yet.
    """

    name: str
    columns: Mapping[str, str]
    key: Sequence[str]
    settings_bind: bool = True

    @property
    def script(self) -> str:
        """SQL that makes the tables of a new database."""
        columns = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        return (
            "CREATE TABLE settings (value TEXT NOT NULL, digest TEXT NOT NULL);"
            f"CREATE TABLE {self.name} ({columns}, digest TEXT NOT NULL, PRIMARY KEY ({', '.join(self.key)}));"
        )

    @property
    def insertion(self) -> str:
        """SQL that puts in a row and its digest, in place of one with the same key."""
        marks = ", ".join("?" * (len(self.columns) + 1))
        return f"INSERT OR REPLACE INTO {self.name} VALUES ({marks})"  # noqa: S608 - a name of ours


@dataclass(frozen=True)
class Contents:
    """What was read from a database.

    Attributes:
        settings: the settings' text; None where none is stored that can be trusted.
        rows: rows as they stand there, each with its digest as the last value.
        whole: whether the database itself is in order.
        dated: whether it is of a version that kept no digests, so that every row is taken as it stands.
    """

    settings: str | None
    rows: Sequence[Row]
    whole: bool
    dated: bool = False

    def intact(self, settings: str) -> list[Row]:
        """The rows that were written with these settings and have not changed since, without their digests."""
        if self.dated:
            return [tuple(row) for row in self.rows]
        return list(dict.fromkeys(tuple(row[:-1]) for row in self.rows if is_intact(row, settings)))


def text_of(settings: Mapping[str, Any]) -> str:
    """Settings as the database keeps them."""
    return json.dumps(settings)


def digest_of(settings: str, values: Iterable[Any] = ()) -> str:
    """What tells whether settings, or the values of a row that was made with them, have changed."""
    plain = [float(value) if isinstance(value, float) else value for value in values]
    digest = _begun(settings).copy()
    digest.update(f", {plain!r}]".encode(errors="surrogatepass"))
    return str(digest.hexdigest()[:16])


@lru_cache(maxsize=2)
def _begun(settings: str) -> Any:
    """The digest of a list that begins with the settings, which are long and the same in every row."""
    return hashlib.sha256(f"[{settings!r}".encode(errors="surrogatepass"))


def is_intact(row: Row, settings: str) -> bool:
    """Whether a row is as it was written, with these settings."""
    return bool(row[-1] == digest_of(settings, row[:-1]))

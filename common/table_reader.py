"""Tables from files and from memory, as columns of text: read wherever the meaning is plain, refused where it is not.

Read as meant: CSV with commas, semicolons or tabs, a `sep=` line, a byte order mark, UTF-16; Parquet, a folder of
parts too; headers in any case, with spaces or hyphens; rows of separators alone, empty trailing columns, an index that
pandas wrote; NA and NaN as blanks, but not in columns of names; a decimal comma where semicolons separate.
"""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Bools, Floats
from .errors import InputError, nearest, reason_of, shown
from .files import read_text
from .tables import PARQUET

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = (",", ";", "\t", "|")
BLANKS = ("", "na", "n/a", "nan", "null")
"""Texts that mean that a value is missing, in any case; in columns of names only the first does."""
INDEX = re.compile(r"|unnamed:_\d+|__index_level_\d+__")
"""Names of columns that hold nothing but the row numbers of a program."""


@dataclass(frozen=True, kw_only=True)
class TableForm:
    """The columns that a kind of table has.

    Attributes:
        rows: plural noun for what the rows are, such as "users".
        known: names of the columns.
        names: columns that hold names of people or things, in which NA and 01 are texts like any other.
        strict: whether another column is refused; if not, it is left out.
        needed: columns without which a table is refused.
        others: whether all other columns are kept, under their titles.
    """

    rows: str
    known: Sequence[str]
    names: Collection[str] = ()
    strict: bool = True
    needed: Sequence[str] = ()
    others: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table as columns of stripped text; a blank text means that the value is missing.

    Attributes:
        source: name of the table in messages, such as its path.
        folder: folder that relative paths in the table start from.
        columns: texts of every column, one per row.
        lines: line of every row in the file; None where the table has no lines.
        decimal_comma: whether a comma may stand for the decimal point.
    """

    source: object
    folder: Path
    columns: dict[str, list[str]]
    lines: Sequence[int] | None = None
    decimal_comma: bool = field(default=False, kw_only=True)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, column: str) -> Sequence[str]:
        return self.columns.get(column) or [""] * len(self)

    def filled(self, column: str) -> Bools:
        """Whether each row fills this column."""
        return np.array([text != "" for text in self[column]], bool)

    def place(self, row: int) -> str:
        """The place of row number `row`, counted from 0, for a message."""
        line = f" (line {self.lines[row]})" if self.lines else ""
        return f"{self.source}: row {row + 1}{line}"

    def refusal(self, row: int, column: str, accepted: str) -> InputError:
        """The error for one value of the table."""
        value = shown(self[column][row]) if self[column][row] else "nothing"
        return InputError(f"{self.place(row)}, column '{column}': found {value}, accepted: {accepted}")

    def refuse_first(self, bad: Bools, column: str, accepted: str) -> None:
        """Refuse the first row that is bad, if there is one.

        Raises:
            InputError: naming row, column, value and what is accepted.
        """
        if bad.any():
            raise self.refusal(int(np.argmax(bad)), column, accepted)

    def numbers(self, column: str, accepted: str, least: float, most: float, *, whole: bool = False) -> Floats:
        """A column as numbers, with NaN where it is blank; shape (rows,).

        Args:
            column: name of the column.
            accepted: words for what is accepted.
            least: smallest number that is accepted.
            most: largest number that is accepted.
            whole: whether only whole numbers are accepted, 5.0 being one.

        Raises:
            InputError: for a text that is no such number.
        """
        values = np.array([_number(text, self.decimal_comma) for text in self[column]], float)
        right = (values >= least) & (values <= most)
        if whole:
            right &= np.floor(values) == values
        self.refuse_first(~right & self.filled(column), column, accepted)
        return values

    def check_names(self, column: str) -> None:
        """Refuse a name that is missing or that holds characters which no terminal shows.

        Raises:
            InputError: naming row and value.
        """
        for row, name in enumerate(self[column]):
            if not name:
                raise self.refusal(row, column, "a name")
            if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
                raise self.refusal(row, column, "a name without control characters; remove them")

    def check_unique(self, *columns: str) -> None:
        """Refuse a row that has the same values in these columns as one before.

        Raises:
            InputError: naming both rows.
        """
        first: dict[tuple[str, ...], int] = {}
        for row, key in enumerate(zip(*(self[column] for column in columns), strict=True)):
            if (before := first.setdefault(key, row)) != row:
                whole = all(texts[row] == texts[before] for texts in self.columns.values())
                what = "repeats" if whole else f"has the {' and '.join(columns)} of"
                raise InputError(
                    f"{self.place(row)}: {what} row {before + 1}, {shown(', '.join(key))}; keep one of them"
                )


def read_table(source: "str | Path | pd.DataFrame", form: TableForm) -> TextTable:
    """Read a table from a file, Parquet by its suffix and else CSV, from a folder of Parquet parts, or from memory.

    Args:
        source: path, or a table of pandas.
        form: columns that the table may have.

    Raises:
        InputError: one line naming file and place, for what cannot be read, unknown columns and ragged rows.
    """
    if not isinstance(source, str | Path):
        return _table(form.rows, Path(), form, *_frame_columns(source))
    path = Path(source)
    if path.suffix.casefold() in PARQUET or (path.is_dir() and any(path.glob("*.parquet"))):
        return _table(path, path.parent, form, *_parquet_columns(path))
    return _read_csv(path, form)


# -- CSV ----------------------------------------------------------------------------------------------------


MAGIC = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "Parquet without the suffix .parquet",
    b"SQLite": "a SQLite database",
    b"{": "JSON",
    b"[": "JSON",
}
"""How files begin that are no CSV, and what they are."""


def _check_kind(path: Path) -> None:
    """Refuse a file that is of another kind than its name says.

    Raises:
        InputError: naming the kind.
    """
    try:
        with path.open("rb") as handle:
            start = handle.read(8)
    except (OSError, ValueError):
        return  # reading it says why
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            raise InputError(f"{path}: found a file that is {kind}, accepted: CSV or Parquet; save it as one of these")


def _read_csv(path: Path, form: TableForm) -> TextTable:
    if path.is_file():  # a pipe can be read only once
        _check_kind(path)
    text = _without_comments(read_text(path))
    separator, skipped = _separator(text, path, form)
    records, lines = _records(path, text, separator)
    records, lines = records[skipped:], lines[skipped:]
    if not records:
        known = ", ".join(form.known)
        raise InputError(
            f"{path}: the file is empty; accepted: a header ({known}) and one row for each of the {form.rows}"
        )
    header, rows = (
        records[0],
        [_fitting(path, line, record, records[0]) for record, line in zip(records[1:], lines[1:], strict=True)],
    )
    columns = [[row[number].strip() for row in rows] for number in range(len(header))]
    return _table(path, path.parent, form, header, columns, lines[1:], decimal_comma=separator == ";")


def _without_comments(text: str) -> str:
    """The text with comments at its beginning, lines that start with #, left blank: lines keep their numbers."""
    comments = re.match(r"(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n|\r|\n))*", text)
    return re.sub(r"[^\r\n]", "", comments[0]) + text[comments.end() :] if comments else text


def _separator(text: str, path: Path, form: TableForm) -> tuple[str, int]:
    """What separates the fields, and the number of lines before the header: a `sep=` line is one."""
    first = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    if first.strip(" ").casefold() in {f"sep={sign}" for sign in SEPARATORS}:
        return first.strip(" ")[4], 1
    if path.suffix.casefold() in (".tsv", ".tab"):
        return "\t", 0
    known = set(form.known)
    return max(SEPARATORS, key=lambda sign: len({plain_title(name) for name in _split(first, sign)} & known)), 0


def _split(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def _records(path: Path, text: str, separator: str) -> tuple[list[list[str]], list[int]]:
    """The records that hold anything, and the line that each ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records, lines = [], []
    try:
        for record in reader:
            if any(text.strip() for text in record):
                records.append(record)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not valid CSV ({error}); mend the quotes") from error
    return records, lines


def _fitting(path: Path, line: int, record: list[str], header: list[str]) -> list[str]:
    """A record of the header's length; surplus fields may be blank."""
    surplus = record[len(header) :]
    if len(record) < len(header) or any(text.strip() for text in surplus):
        raise InputError(
            f"{path}: line {line}: found {len(record)} fields, accepted: {len(header)} as in the header; "
            "quote a field that holds a separator"
        )
    return record[: len(header)]


# -- Parquet, pandas ------------------------------------------------------------------------------------------


def _parquet_columns(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and columns of a Parquet file, or of a folder of parts."""
    import pyarrow as pa  # costs 0.2 s, and CSV files do not need it
    import pyarrow.parquet as pq

    if not path.exists():
        raise InputError(f"{path}: cannot read: not an existing file; name a CSV or Parquet file")
    if path.is_dir() and not any(path.rglob("*.parquet")):
        raise InputError(
            f"{path}: found a folder without .parquet files, accepted: a file, or a folder of Parquet parts"
        )
    if not path.is_dir() and not path.is_file():
        raise InputError(f"{path}: found no regular file, accepted: a Parquet file, or a folder of its parts")
    if path.is_dir() and (other := _other_file(path)):
        raise InputError(
            f"{path}: found a folder that holds {other}, accepted: a file, or a folder of Parquet parts alone"
        )
    try:
        table = pq.read_table(path)
        values = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two: no text, no date
        raise InputError(f"{path}: not valid Parquet ({reason_of(error, 80)}); write the file again") from error
    names = list(table.column_names)
    return names, [_texts(path, name, column) for name, column in zip(names, values, strict=True)]


def _other_file(folder: Path) -> str | None:
    """The name of a file in a folder of Parquet parts that is none, and no mark of the program that wrote them."""
    files = (path for path in sorted(folder.rglob("*")) if not path.is_dir() and not path.name.startswith(("_", ".")))
    return next((path.name for path in files if path.suffix != ".parquet" or not path.is_file()), None)


def _frame_columns(frame: "pd.DataFrame") -> tuple[list[str], list[list[str]]]:
    """Header and columns of a table in memory; its index does not matter."""
    header = [str(name) for name in frame.columns]
    kept = (frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame.columns)
    return header, [_texts("table", name, values) for name, values in zip(header, kept, strict=True)]


def _texts(source: object, column: str, values: list[Any]) -> list[str]:
    """Values as stripped texts; nothing for a missing one."""
    texts = []
    for row, value in enumerate(values):
        if isinstance(value, bytes):
            try:
                value = value.decode()  # noqa: PLW2901 - as some programs write texts
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{source}: row {row + 1}, column {shown(column)}: found {shown(value)}, accepted: text"
                ) from error
        texts.append("" if value is None or value != value else str(value).strip())  # noqa: PLR0124 - NaN
    return texts


# -- every table --------------------------------------------------------------------------------------------


def _table(
    source: object,
    folder: Path,
    form: TableForm,
    header: Sequence[str],
    columns: Sequence[list[str]],
    lines: Sequence[int] | None = None,
    *,
    decimal_comma: bool = False,
) -> TextTable:
    """The columns that the form knows, under its names, blanks made blank."""
    kept: dict[str, list[str]] = {}
    for name, texts in _own_columns(source, header, columns, form):
        if name in kept:
            raise InputError(f"{source}: header: column {shown(name)} stands twice; keep one of them")
        kept[name] = texts if name in form.names else ["" if text.casefold() in BLANKS else text for text in texts]
    if missing := [name for name in form.needed if name not in kept]:
        found = ", ".join(title.strip() for title in header if title.strip()) or "no titles"
        raise InputError(
            f"{source}: header: column {shown(missing[0])} is missing; found {found[:100]}; needed: "
            + ", ".join(form.needed)
        )
    return TextTable(source, folder, kept, lines, decimal_comma=decimal_comma)


def _own_columns(
    source: object, header: Sequence[str], columns: Sequence[list[str]], form: TableForm
) -> Iterator[tuple[str, list[str]]]:
    """Name and texts of every column that is not an index, empty or unknown."""
    for title, texts in zip(header, columns, strict=True):
        name = plain_title(title)
        if name in form.known:
            yield name, texts
        elif INDEX.fullmatch(name) and (name or _is_index(texts)):
            continue
        elif form.others and title.strip():
            yield title.strip(), texts
        elif form.strict:
            raise InputError(f"{source}: header: found {_unknown(title, texts, form)}")


def plain_title(title: str) -> str:
    """A column's title without case, and with underscores for spaces and hyphens."""
    return re.sub(r"[\s-]+", "_", title.strip().casefold())


def _is_index(texts: Sequence[str]) -> bool:
    """Whether a column without a title is empty, or counts the rows."""
    return not any(texts) or all(text.isascii() and text.isdecimal() for text in texts)


def _unknown(title: str, texts: Sequence[str], form: TableForm) -> str:
    if not title.strip():
        value = next(filter(None, texts), "")
        return f"a column without a name that holds {shown(value)}; name it, or remove it"
    return f"unknown column {shown(title.strip())}; {nearest(plain_title(title), form.known)}"


def _number(text: str, decimal_comma: bool) -> float:
    """The number in a text, NaN where there is none ("1_000" is a number in Python alone)."""
    if decimal_comma and text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan

"""Tables: the one look of those that commands print, and those that they write to files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .files import whole_file

if TYPE_CHECKING:
    from rich.table import Table

PARQUET = (".parquet", ".pq")
Columns = Mapping[str, Sequence[Any]]
"""A table: one entry per row under each column's name."""


def plain_table(*headings: str, right_from: int = 1) -> "Table":
    """A table for the terminal, without lines; columns from number `right_from` on are flushed right."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 0, 0, 1), header_style="bold", pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number >= right_from else "left", no_wrap=True)
    return table


def check_table(path: Path) -> None:
    """Refuse a table's file name before the work starts.

    Raises:
        InputError: for a suffix that is no table's.
    """
    if path.suffix.casefold() not in (".csv", *PARQUET):
        raise InputError(f"{path}: found suffix '{path.suffix}', accepted: .csv or .parquet")


def write_table(path: Path, columns: Columns) -> None:
    """Write columns as Parquet or CSV, by the file's suffix; whole or not at all.

    Raises:
        InputError: for another suffix, or where the file cannot be written.
    """
    check_table(path)
    if path.suffix.casefold() in PARQUET:
        _write_parquet(path, columns)
        return
    with whole_file(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(path: Path, columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole_file(path, "wb") as handle:
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), handle)

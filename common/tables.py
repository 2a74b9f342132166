"""Tables: the one look of those that commands print, and those that they write to files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, printable
from .files import whole_file

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

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


def print_table(table: "Table") -> None:
    """Print a table to stdout with every number whole: on a narrow terminal its lines are longer than the screen."""
    from rich.console import Console
    from rich.measure import Measurement

    terminal = Console(highlight=False)
    needed = Measurement.get(terminal, terminal.options.update(max_width=10_000), table).maximum
    Console(highlight=False, width=max(terminal.width, needed)).print(table)  # `print` takes no width beyond its own


def short_name(text: str, cells: int) -> "Text":
    """A name for a table: in so many cells of the terminal at most, never read as markup."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    shown = printable(text)
    return Text(shown if cell_len(shown) <= cells else set_cell_size(shown, cells - 1).rstrip() + "~")


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
        plain, quoted = (csv.writer(handle, lineterminator="\n", quoting=q) for q in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        writer = quoted if _has_returns(columns) else plain
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _has_returns(columns: Columns) -> bool:
    """Whether a text holds a carriage return, which `csv` does not quote before Python 3.13: it would end the row."""
    texts = (values for values in columns.values() if len(values) and isinstance(values[0], str))
    return any("\r" in text for values in texts for text in values)


def _write_parquet(path: Path, columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole_file(path, "wb") as handle:
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), handle)

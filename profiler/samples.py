"""Measurements from elsewhere: a CSV file with one row per timed step."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from ..common.errors import InputError, shown
from ..common.files import read_text
from ..fitting.schemas import SMALLEST

MOST_BATCH = 4096
"""Largest batch size that is accepted."""
MOST_SECONDS = 1e6
"""Bound of a step's duration that no real step comes near."""


def read_samples(path: Path) -> dict[int, list[float]]:
    """Batch size -> seconds of each step, from a CSV file with columns `batch` and `duration_s`.

    Raises:
        InputError: one line naming file, line, column, what was found and what is accepted; also for fewer than two
            batch sizes, from which no line follows.
    """
    durations: dict[int, list[float]] = {}
    for place, row in _rows(path):
        batch = _number(row["batch"])
        if not (batch.is_integer() and 1 <= batch <= MOST_BATCH):
            raise InputError(f"{place}, column 'batch': found {shown(row['batch'])}, accepted: 1 to {MOST_BATCH}")
        seconds = _number(row["duration_s"])
        if not SMALLEST <= seconds < MOST_SECONDS:
            text = shown(row["duration_s"])
            raise InputError(f"{place}, column 'duration_s': found {text}, accepted: a number of seconds above 0")
        durations.setdefault(int(batch), []).append(seconds)
    if not durations:
        raise InputError(f"{path}: no rows below the header; add one row per timed step")
    if len(durations) < 2:
        raise InputError(f"{path}: found one batch size, accepted: two or more; a line needs them")
    return durations


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row, after its place for a message.

    Raises:
        InputError: for another header, for a row with more fields than the header, or for what the csv module cannot
            read.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    columns = [name.strip() for name in reader.fieldnames or []]
    if not {"batch", "duration_s"} <= set(columns):
        raise InputError(f"{path}: header: found {shown(','.join(columns))}, accepted: columns batch and duration_s")
    reader.fieldnames = columns
    try:
        for row in reader:
            place = f"{path}: line {reader.line_num}"
            if None in row:
                raise InputError(f"{place}: found more fields than the header has, accepted: {len(row) - 1}")
            yield place, row
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num + 1}: not CSV ({error}); one step per line") from error


def _number(text: str | None) -> float:
    """The number in a field; NaN where it holds none."""
    try:
        return float(text or "nan") if "_" not in (text or "") else math.nan
    except ValueError:
        return math.nan

"""Measurements from elsewhere: a table with one row per timed step."""

from pathlib import Path

from ..common.errors import InputError
from ..common.table_reader import TableForm, read_table
from ..fitting.schemas import SMALLEST

MOST_BATCH = 4096
"""Largest batch size that is accepted."""
MOST_SECONDS = 1e6
"""Bound of a step's duration that no real step comes near."""
MOST_UNLIKE = 1e9
"""Largest ratio of two durations; with others the sums of a fit lose their digits."""
COLUMNS = ("batch", "duration_s")
FORM = TableForm(rows="timed steps", known=COLUMNS, strict=False, needed=COLUMNS)


def read_samples(path: Path) -> dict[int, list[float]]:
    """Batch size -> seconds of each step, from a table with columns `batch` and `duration_s`; others are left out.

    Raises:
        InputError: one line naming file, row, column, what was found and what is accepted; also for fewer than two
            batch sizes, from which no line follows.
    """
    table = read_table(path, FORM)
    accepted = {"batch": f"a whole number from 1 to {MOST_BATCH}", "duration_s": "a number of seconds above 0"}
    for column, words in accepted.items():
        table.refuse_first(~table.filled(column), column, words)
    batches = table.numbers("batch", accepted["batch"], 1, MOST_BATCH, whole=True)
    seconds = table.numbers("duration_s", accepted["duration_s"], SMALLEST, MOST_SECONDS)
    durations: dict[int, list[float]] = {}
    for batch, duration_s in zip(batches.tolist(), seconds.tolist(), strict=True):
        durations.setdefault(int(batch), []).append(duration_s)
    if not durations:
        raise InputError(f"{path}: no rows below the header; add one row per timed step")
    if (shortest := seconds.min()) * MOST_UNLIKE < (longest := seconds.max()):
        raise InputError(
            f"{path}: column 'duration_s': found {shortest:g} and {longest:g}, accepted: less unlike ones; "
            "are all of them in seconds?"
        )
    if len(durations) < 2:
        raise InputError(f"{path}: found one batch size, accepted: two or more; a line needs them")
    return durations

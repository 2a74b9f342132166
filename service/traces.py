"""Request times of other services: read from their files, written as a trace, and summed up.

GenTD26 is the trace of a production service of Stable Diffusion with LoRA adapters (Lin et al., "Understanding
Diffusion Model Serving in Production", SoCC 2025; github alibaba/clusterdata, cluster-trace-v2026-GenAI). Its columns
are known here; its rows do not ship.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.arrays import Floats, Ints
from ..common.errors import InputError, nearest, shown
from ..common.table_reader import TableForm, TextTable, plain_title, read_table
from ..common.tables import Columns
from .arrivals import MOST_IMAGES, MOST_STEPS, TRACE, times, whole_numbers

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


@dataclass(frozen=True)
class TraceColumns:
    """The columns of a foreign file; None for those that it lacks.

    Attributes:
        time: when the request was made, in seconds or as a date with a time.
        user: who made it.
        images: images of the request.
        steps: denoising steps.
    """

    time: str
    user: str | None = None
    images: str | None = None
    steps: str | None = None


SOURCES: Mapping[str, TraceColumns] = {
    "gentd26": TraceColumns("gmt_create", "groupId", "num_images_per_prompt", "num_inference_steps")
}
"""Published traces whose columns are known."""


def source_columns(source: str, own: Mapping[str, str]) -> TraceColumns:
    """The columns of a source: a published one, or `csv` with columns that the user names.

    Args:
        source: name of the source.
        own: names of columns by the fields of `TraceColumns`.

    Raises:
        InputError: for an unknown source, or columns that do not go with it.
    """
    if source == "csv":
        if "time" not in own:
            raise InputError("--time: found nothing, accepted: the name of the column with the times, for --from csv")
        return TraceColumns(**own)
    if source not in SOURCES:
        raise InputError(
            f"--from: found {shown(source)}, accepted: csv or {', '.join(SOURCES)}; {nearest(source, SOURCES)}"
        )
    if own:
        raise InputError(f"--{next(iter(own))}: found --from {source}, accepted: --from csv, as its columns are known")
    return SOURCES[source]


def import_trace(path: Path, columns: TraceColumns) -> Columns:
    """A foreign file as a trace: its requests in the order of their times, which count from the first one.

    Args:
        path: CSV or Parquet.
        columns: the columns of the file.

    Returns:
        columns of the trace file; blanks stay blank.

    Raises:
        InputError: naming file, row and column.
    """
    wanted = {field: plain_title(name) for field, name in vars(columns).items() if name}
    names = [wanted[field] for field in ("user",) if field in wanted]
    table = read_table(path, TableForm(rows="requests", known=list(wanted.values()), names=names, strict=False,
                                       needed=list(wanted.values())))  # fmt: skip
    if not len(table):
        raise InputError(f"{path}: no rows below the header; is this the right file?")
    time_s = _seconds(table, wanted["time"])
    order = np.argsort(time_s, kind="stable")
    made: dict[str, list[object]] = {"time_s": (time_s - time_s.min())[order].tolist()}
    if "user" in wanted:
        made["user_id"] = [table[wanted["user"]][row] for row in order]
    for field, name, most in (("images", "images", MOST_IMAGES), ("steps", "total_steps", MOST_STEPS)):
        if field in wanted:
            made[name] = _counts(table, wanted[field], most, order)
    return made


def _seconds(table: TextTable, column: str) -> Floats:
    """The times of a column, in seconds."""
    table.refuse_first(~table.filled(column), column, "a time")
    try:
        values: Floats = np.fromiter(map(float, table[column]), np.float64)
    except ValueError:
        return _dates(table, column)
    table.refuse_first(~np.isfinite(values), column, "a finite number of seconds, or a date with a time")
    return values


def _dates(table: TextTable, column: str) -> Floats:
    import pandas as pd

    times = pd.to_datetime(pd.Series(table[column]), format="ISO8601", errors="coerce", utc=True)
    table.refuse_first(times.isna().to_numpy(), column, "a number of seconds, or a date as 2024-11-15 16:57:50")
    seconds: Floats = np.asarray((times - times.min()).dt.total_seconds(), np.float64)
    return seconds


def _counts(table: TextTable, column: str, most: int, order: Ints) -> list[object]:
    values = table.numbers(column, f"a whole number from 1 to {most}", 1, most, whole=True)[order]
    return ["" if math.isnan(value) else int(value) for value in values]


@dataclass(frozen=True, kw_only=True)
class TraceFacts:
    """What a trace is like; the keys of `trace show --json`.

    Attributes:
        requests: rows.
        images: images of all requests.
        users: different users; None where the trace names none.
        seconds: from the first to the last request.
        mean_rate: requests per second.
        median_gap_s: median of the times between requests, seconds; None for one request.
        gap_variation: standard deviation of these times over their mean; 1 for a Poisson process.
        busiest_minute: requests of the minute that has most.
        busiest_hour: requests of the hour that has most.
    """

    requests: int
    images: int
    users: int | None
    seconds: float
    mean_rate: float | None
    median_gap_s: float | None
    gap_variation: float | None
    busiest_minute: int
    busiest_hour: int


@dataclass(frozen=True)
class TraceRows:
    """The rows of a trace file, arrays of shape (requests,).

    Attributes:
        time_s: seconds since the start.
        images: images of the request.
        users: different users; None where the trace names none.
    """

    time_s: Floats
    images: Ints
    users: int | None

    @property
    def gaps_s(self) -> Floats:
        """Seconds between a request and the next."""
        return np.diff(self.time_s)


def read_rows(path: Path) -> TraceRows:
    """Read a trace file to sum it up.

    Raises:
        InputError: naming file, row and column.
    """
    table = read_table(path, TRACE)
    users = len(set(table["user_id"])) if "user_id" in table.columns else None
    return TraceRows(times(table), whole_numbers(table, "images", MOST_IMAGES, 1), users)


def trace_facts(rows: TraceRows) -> TraceFacts:
    """What a trace is like."""
    gaps, seconds = rows.gaps_s, float(rows.time_s[-1] - rows.time_s[0])
    mean = float(np.mean(gaps)) if gaps.size else 0.0
    return TraceFacts(
        requests=rows.time_s.size,
        images=int(rows.images.sum()),
        users=rows.users,
        seconds=seconds,
        mean_rate=gaps.size / seconds if seconds else None,
        median_gap_s=float(np.median(gaps)) if gaps.size else None,
        gap_variation=float(np.std(gaps) / mean) if mean else None,
        busiest_minute=_most_within(rows.time_s, MINUTE_S),
        busiest_hour=_most_within(rows.time_s, HOUR_S),
    )


def _most_within(time_s: Floats, span_s: float) -> int:
    """The most requests within a span of time, wherever it begins."""
    ends = np.searchsorted(time_s, time_s + span_s, side="left")
    return int(np.max(ends - np.arange(time_s.size)))

"""When requests arrive and whose they are: random processes, and tables of what really happened.

`poisson:8` is 8 requests a second, independent of each other. `bursts:2,14,10` changes between 2 and 14 a second, after
times that are exponential with a mean of 10 s. Anything else is the path of a table with the column time_s.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..common.arrays import Floats, Ints
from ..common.errors import InputError, shown
from ..common.table_reader import TableForm, TextTable, read_table
from ..fitting.schemas import LARGEST
from ..optimizer.inputs.users import read_users
from ..optimizer.model.qoe import Scenario, Users
from .simulator import Requests

USER_COLUMNS = ("device", "step_latency_s", "alpha", "emphasis")
"""Columns of a users file that a trace may have: every row is then a user of its own."""
COLUMNS = ("time_s", "user_id", "images", "total_steps", "patience_s", *USER_COLUMNS)
TRACE = TableForm(rows="requests", known=COLUMNS, names=("user_id",), needed=("time_s",))
GPUS = TableForm(rows="changes", known=("time_s", "gpus"), needed=("time_s", "gpus"))
MOST_REQUESTS = 20_000_000
"""Number of requests that fit into memory."""
MOST_IMAGES, MOST_STEPS, MOST_GPUS = 1000, 100_000, 1_000_000
ACCEPTED = "poisson:RATE, bursts:LOW,HIGH,SECONDS, or the path of a table with the column time_s"


@dataclass(frozen=True)
class Process:
    """A random arrival process, as `--arrivals` names it.

    Attributes:
        low: requests per second; the lower rate where there are bursts.
        high: requests per second within bursts; None without.
        change_s: mean seconds until the rate changes; None without bursts.
    """

    low: float
    high: float | None = None
    change_s: float | None = None

    @property
    def mean_rate(self) -> float:
        """Requests per second in the long run."""
        return self.low if self.high is None else (self.low + self.high) / 2

    def times(self, seconds: float, rng: np.random.Generator, in_burst: bool | None = None) -> Floats:
        """Times of requests within so many seconds, ascending.

        Args:
            seconds: length.
            rng: source of the draw.
            in_burst: whether bursts begin at the higher rate; None for either, equally likely.
        """
        if self.high is None or self.change_s is None:
            return np.sort(rng.uniform(0, seconds, rng.poisson(self.low * seconds)))
        parts, start = list[Floats](), 0.0
        if in_burst is None:
            in_burst = rng.random() < 0.5
        while start < seconds:
            lasts, rate = rng.exponential(self.change_s), self.high if in_burst else self.low
            parts.append(np.sort(rng.uniform(start, start + lasts, rng.poisson(rate * lasts))))
            start, in_burst = start + lasts, not in_burst
        times = np.concatenate(parts)
        return times[times < seconds]


def parse_process(text: str) -> Process | None:
    """The process that a text names; None where it names a file.

    Raises:
        InputError: for a process with wrong numbers.
    """
    kind, _, rest = text.partition(":")
    count = {"poisson": 1, "bursts": 3}.get(kind)
    if count is None:
        return None
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    positive = len(numbers) == count and all(0 <= number < LARGEST for number in numbers) and max(numbers) > 0
    if not positive or (kind == "bursts" and numbers[2] <= 0):
        raise InputError(f"--arrivals: found {shown(text)}, accepted: {ACCEPTED}; rates and seconds above 0")
    return Process(*numbers)


def draw_requests(process: Process, seconds: float, users: int, rng: np.random.Generator) -> Requests:
    """Requests of a process, each of a user drawn with replacement.

    Raises:
        InputError: for more requests than memory holds.
    """
    if process.mean_rate * seconds > MOST_REQUESTS:
        raise InputError(
            f"--arrivals: found {process.mean_rate * seconds:.3g} requests in {seconds:g} s, accepted: "
            f"{MOST_REQUESTS:,} at most; shorten --rounds or --hours"
        )
    time_s = process.times(seconds, rng)
    user = rng.integers(0, users, time_s.size)
    return Requests(time_s=time_s, user=user, patience_s=np.full(time_s.size, np.inf))


@dataclass(frozen=True)
class Trace:
    """A table of requests that really happened, one row an image; arrays of shape (requests,).

    Attributes:
        requests: times, patience and steps; its `user` counts the trace's own users.
        names: the trace's own users; empty where it names none.
        own: users with their devices, one a row, where the trace has such columns; else None.
    """

    requests: Requests
    names: list[str]
    own: Users | None


def read_trace(path: Path, scenario: Scenario, speed_up: float = 1.0) -> Trace:
    """Read a trace: requests in the order of their time; a row with several images is that many requests at once.

    Args:
        path: CSV or Parquet.
        scenario: system that turns an emphasis into an alpha.
        speed_up: factor by which time is compressed.

    Raises:
        InputError: one line naming file, row, column and what is accepted.
    """
    table = read_table(path, TRACE)
    time_s = times(table) / speed_up
    images = whole_numbers(table, "images", MOST_IMAGES, 1)
    patience = table.numbers("patience_s", "a number of seconds, 0 or more", 0, LARGEST)
    steps = whole_numbers(table, "total_steps", MOST_STEPS, scenario.total_steps)
    names, user = _users_of(table)
    own = _own_users(table, scenario)
    row = np.repeat(np.arange(len(table)), images)
    requests = Requests(
        time_s=time_s[row],
        user=row if own else user[row],
        patience_s=np.where(np.isnan(patience), np.inf, patience)[row],
        own_steps=None if np.all(steps == scenario.total_steps) else steps[row],
    )
    return Trace(requests, names, own)


def users_of_trace(trace: Trace, names: list[str], users: int, rng: np.random.Generator) -> Requests:
    """The trace's requests with users of a file: of the same name, else drawn once for each of the trace's users.

    Args:
        trace: the trace.
        names: names of the file's users.
        users: their number.
        rng: source of the draw.
    """
    if trace.own is not None:
        return trace.requests
    if not trace.names:
        return replace(trace.requests, user=rng.integers(0, users, len(trace.requests)))
    place = {name: number for number, name in enumerate(names)}
    drawn = rng.integers(0, users, len(trace.names)).tolist()
    number = np.array([place.get(name, other) for name, other in zip(trace.names, drawn, strict=True)])
    return replace(trace.requests, user=number[trace.requests.user])


@dataclass(frozen=True)
class MovingGpus:
    """A number of GPUs that changes at random, as `--gpus-over-time` names it.

    Attributes:
        change_s: mean seconds until the next change.
        gpus: numbers of GPUs, each equally likely.
    """

    change_s: float
    gpus: tuple[int, ...]

    def changes(self, seconds: float, rng: np.random.Generator) -> list[tuple[float, int]]:
        """(time, G) of the start and of every change within so many seconds."""
        time_s, changes = 0.0, list[tuple[float, int]]()
        while time_s < seconds:
            changes.append((time_s, int(rng.choice(self.gpus))))
            time_s += rng.exponential(self.change_s)
        return changes


def parse_gpus(text: str) -> "MovingGpus | list[tuple[float, int]]":
    """How the number of GPUs changes: `random:SECONDS,G,G,...`, or the path of a table with time_s and gpus.

    Raises:
        InputError: for a process with wrong numbers, or a table that cannot be read.
    """
    kind, _, rest = text.partition(":")
    if kind != "random":
        return read_gpus(Path(text))
    try:
        change_s, *gpus = (float(part) for part in rest.split(","))
    except ValueError:
        change_s, gpus = 0.0, []
    if not 0 < change_s < LARGEST or not gpus or not all(0 <= g <= MOST_GPUS and g == int(g) for g in gpus):
        raise InputError(
            f"--gpus-over-time: found {shown(text)}, accepted: random:SECONDS,G,G,... with whole numbers of GPUs, such "
            "as random:10,2,4,8, or the path of a table with time_s and gpus"
        )
    return MovingGpus(change_s, tuple(int(g) for g in gpus))


def read_gpus(path: Path) -> list[tuple[float, int]]:
    """Read how the number of GPUs changes: rows of time_s and gpus; 0 means that none is there.

    Raises:
        InputError: one line naming file, row, column and what is accepted.
    """
    table = read_table(path, GPUS)
    time_s = times(table)
    gpus = table.numbers("gpus", f"a whole number from 0 to {MOST_GPUS}", 0, MOST_GPUS, whole=True)
    table.refuse_first(np.isnan(gpus), "gpus", f"a whole number from 0 to {MOST_GPUS}")
    return list(zip(time_s.tolist(), gpus.astype(int).tolist(), strict=True))


def times(table: TextTable) -> Floats:
    """The column time_s, which no row may leave out or take back."""
    if not len(table):
        raise InputError(f"{table.source}: no rows below the header; add one row per entry")
    accepted = "a number of seconds since the start, 0 or more"
    time_s = table.numbers("time_s", accepted, 0, LARGEST)
    table.refuse_first(np.isnan(time_s), "time_s", accepted)
    back = np.diff(time_s, prepend=time_s[0]) < 0
    table.refuse_first(back, "time_s", "the time of the row before, or later; sort the rows by time_s")
    return time_s


def whole_numbers(table: TextTable, column: str, most: int, blank: int) -> Ints:
    """A column of whole numbers from 1 to `most`, with a number in place of blanks; shape (rows,)."""
    values = table.numbers(column, f"a whole number from 1 to {most}", 1, most, whole=True)
    return np.where(np.isnan(values), blank, values).astype(np.int64)


def _users_of(table: TextTable) -> tuple[list[str], Ints]:
    """The names of the trace's users, and the number of every row's; a blank is a user of its own."""
    if "user_id" not in table.columns:
        return [], np.zeros(len(table), np.int64)
    ids = [name or f"\0{row}" for row, name in enumerate(table["user_id"])]
    names = list(dict.fromkeys(ids))
    number = {name: place for place, name in enumerate(names)}
    return names, np.array([number[name] for name in ids], np.int64)


def _own_users(table: TextTable, scenario: Scenario) -> Users | None:
    """Users with the devices that the trace's rows name; None where it has no such columns."""
    given = [column for column in USER_COLUMNS if column in table.columns]
    if not given:
        return None
    import pandas as pd

    rows = {"user_id": [f"row {row + 1}" for row in range(len(table))], **{name: table[name] for name in given}}
    try:
        return read_users(pd.DataFrame(rows), scenario)
    except InputError as error:
        raise InputError(f"{table.source}: {error}") from error

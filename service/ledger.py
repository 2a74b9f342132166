"""What an edge server knows of its requests: those at work, and for a while the ones that are over.

A request that is over becomes one tuple of plain values: tens of thousands of them cost little memory, and Python's
garbage collector has nothing to go through that would hold the event loop up.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from .protocol import Ask, Decision, ProblemError

KEPT_S = 300.0
"""Seconds for which a request that is over is known."""
MOST_KEPT = 20_000
"""Requests that are over and known, at most; those that ended first are forgotten first."""


@dataclass(eq=False)
class Entry:
    """A request and what became of it.

    Attributes:
        name: its name in later calls.
        ask: what the device asked for.
        asked_s: when it came.
        decision: what was decided, once its device is told.
        handoff: its hand-off as bytes, or a problem; set once it is on the device's side of the radio.
        key: its Idempotency-Key, where it has one.
        made: what was decided; set at the end of its round.
        local_steps: its split n; where splits are revised, the last one.
        steps_left: steps left at the edge; 0 before it is granted and after it has left.
        decided_s: when it was decided.
        left_s: when it left the edge.
        sent_s: when its device was first sent the hand-off.
        over_s: when its hand-off was there, or it was denied, cancelled or had failed; None while it is at work.
        payload: its hand-off while it is on the radio.
        stepping: whether the engine has taken a step of it.
        waiting: calls that wait for one of its answers now.
        reported: whether its device has said what it measured.
    """

    name: str
    ask: Ask
    asked_s: float
    decision: asyncio.Future[Decision]
    handoff: asyncio.Future[bytes]
    key: str | None = None
    made: Decision | None = None
    steps_left: int = 0
    decided_s: float | None = None
    left_s: float | None = None
    sent_s: float | None = None
    over_s: float | None = None
    payload: bytes = b""
    stepping: bool = False
    waiting: int = 0
    reported: bool = False
    local_steps: int = 0

    @property
    def edge_s(self) -> float:
        """Seconds from its decision until it left the edge; 0 where it never did."""
        return 0.0 if self.left_s is None or self.decided_s is None else self.left_s - self.decided_s

    @property
    def waited_s(self) -> float:
        """Seconds from the request until its decision; 0 before it."""
        return max(0.0, (self.decided_s or self.asked_s) - self.asked_s)


class Past(NamedTuple):
    """What is kept of a request that is over, in plain values; see `Entry`."""

    name: str
    ask: bytes
    asked_s: float
    decision: bytes | None
    handoff: bytes | None
    problem: tuple[int, str, str] | None
    key: str | None
    decided_s: float | None
    left_s: float | None
    sent_s: float | None
    over_s: float
    reported: bool
    local_steps: int


EXPIRED = ProblemError(410, "expired", "this hand-off was not fetched in time; run all steps locally")


class Ledger:
    """The requests that are known.

    Attributes:
        entries: those at work, by name.
        past: those that are over, by name, in the order in which they ended.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.past: dict[str, Past] = {}
        self._by_key: dict[str, str] = {}
        self._handoffs: deque[tuple[float, str]] = deque()

    def add(self, entry: Entry) -> None:
        """Know a new request."""
        self.entries[entry.name] = entry
        if entry.key is not None:
            self._by_key[entry.key] = entry.name

    def find(self, name: str) -> Entry | None:
        """A request by its name; one that is over is made up again of what is kept of it."""
        if name in self.entries:
            return self.entries[name]
        return _revived(self.past[name]) if name in self.past else None

    def of_key(self, key: str | None) -> Entry | None:
        """A request by its key."""
        return self.find(self._by_key[key]) if key in self._by_key else None

    def knows_key(self, key: str | None) -> bool:
        """Whether there is a request with a key."""
        return key in self._by_key

    def free_key(self, entry: Entry) -> None:
        """Let the same key make a new request."""
        if entry.key is not None and self._by_key.get(entry.key) == entry.name:
            del self._by_key[entry.key]

    def over(self, entry: Entry, now: float) -> None:
        """Note that a request is over: what is kept of it takes its place."""
        entry.over_s = now
        del self.entries[entry.name]
        past = self.past[entry.name] = _past(entry, now)
        if past.handoff is not None:
            self._handoffs.append((now, entry.name))

    def change(self, name: str, **changes: Any) -> None:
        """Change what is kept of a request that is over."""
        if name in self.past:
            self.past[name] = self.past[name]._replace(**changes)

    def drop_handoff(self, name: str, problem: ProblemError) -> bool:
        """Drop the hand-off of a request; returns whether there was one that nobody had fetched."""
        past = self.past.get(name)
        if past is None or past.handoff is None:
            return False
        self.change(name, handoff=None, problem=_plain(problem))
        return past.sent_s is None

    def expire(self, now: float, expiry_s: float) -> int:
        """Drop hand-offs after their time; returns how many of them nobody had fetched."""
        unfetched = 0
        while self._handoffs and now - self._handoffs[0][0] > expiry_s:
            unfetched += self.drop_handoff(self._handoffs.popleft()[1], EXPIRED)
        return unfetched

    def forget(self, now: float) -> None:
        """Forget what was over long ago, and what there is too much of."""
        while self.past:
            first = next(iter(self.past.values()))
            if len(self.past) <= MOST_KEPT and now - first.over_s <= KEPT_S:
                return
            del self.past[first.name]
            if first.key is not None and self._by_key.get(first.key) == first.name:
                del self._by_key[first.key]


def _past(entry: Entry, now: float) -> Past:
    """A request in plain values; its hand-off, or why there is none, is there."""
    problem = entry.handoff.exception()
    return Past(
        entry.name, entry.ask.model_dump_json().encode(), entry.asked_s,
        None if entry.made is None else entry.made.model_dump_json().encode(),
        entry.handoff.result() if problem is None else None,
        _plain(problem) if isinstance(problem, ProblemError) else None,
        entry.key, entry.decided_s, entry.left_s, entry.sent_s, now, entry.reported,
        entry.local_steps,
    )  # fmt: skip


def _plain(problem: ProblemError) -> tuple[int, str, str]:
    """What makes a problem again."""
    return problem.status, problem.kind, problem.detail


def _revived(past: Past) -> Entry:
    """A request of the past, for one call."""
    made = None if past.decision is None else Decision.model_validate_json(past.decision)
    problem = None if past.problem is None else ProblemError(*past.problem)
    return Entry(
        past.name, Ask.model_validate_json(past.ask), past.asked_s, _answered(made, problem),
        _answered(past.handoff, problem), past.key, made, 0, past.decided_s, past.left_s, past.sent_s, past.over_s,
        reported=past.reported, local_steps=past.local_steps,
    )  # fmt: skip


def _answered(value: Any, problem: ProblemError | None) -> "asyncio.Future[Any]":
    """A future with a value, or with a problem where that is None."""
    future = asyncio.get_running_loop().create_future()
    if value is not None or problem is None:
        future.set_result(value)
    else:
        refuse(future, problem)
    return future


def refuse(future: "asyncio.Future[Any]", problem: ProblemError) -> None:
    """Let a future end in a problem, unless it has ended; asyncio is not to complain where nobody asks."""
    if not future.done():
        future.set_exception(problem)
        future.exception()

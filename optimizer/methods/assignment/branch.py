"""`assign-exact`: branch and bound over the states that servers may be in.

A box allows each server some of its states. Its bound is D (`dual`) with these alone. A state whose best value at the
prices lies so far below its server's best one that D less the difference is no more than a plan's gain is cut: nothing
in it is better. A box with one state for each server is a transportation problem. Others are parted at the server
whose best state varies most while its prices are improved: by the number of granted users, or by the set of models
where that number is always the same. The box of the largest bound goes first.
"""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from ....common.arrays import Bools, Floats, Ints
from ...model.qoe import Scenario, Users
from ...model.servers import Fleet, FleetPlan
from ..ilp import OPTIMAL, TIME_LIMIT, TIME_LIMIT_S
from .dual import Proof, improve, proof
from .flow import Flow, transport
from .search import searched
from .table import CellStatus, States, Table, by_cell, gain_table, split_assigned, status_note

ROUNDS = 40
"""Rounds in which the prices of a box are improved."""
CLOSE = 1e-11
"""Gap, relative to the gain, at which a box counts as closed."""


def assign_exact(scenario: Scenario, users: Users, time_limit_s: float = TIME_LIMIT_S) -> FleetPlan:
    """The proven optimum, or the best plan that time allows with its bound.

    Args:
        scenario: one server or several.
        users: users of one or more cells, solved one after another.
        time_limit_s: seconds for all cells together. The first plan, that of `assign`, is made whatever the time.
    """
    end, told = time.monotonic() + time_limit_s, list[CellStatus]()
    made = by_cell(scenario, users, lambda fleet, own: _planned(fleet, own, end, told))
    return replace(made, note=status_note(told))


def _planned(fleet: Fleet, users: Users, end: float, told: list[CellStatus]) -> FleetPlan:
    table = gain_table(fleet, users)
    search = Branching(table, len(users))
    status = search.run(end)
    flow = search.flow
    told.append(CellStatus(status, flow.total, search.bound))
    made = split_assigned(fleet, users, table, flow.server, flow.placement)
    return replace(made, bound_s=np.array([search.bound]))


@dataclass(frozen=True)
class Box:
    """The states that every server may be in, and what no plan with them exceeds.

    Attributes:
        states: numbers of the allowed states of every server.
        found: prices and the bound that they prove.
        visits: how often each of these states was its server's best one while the prices were improved.
    """

    states: list[Ints]
    found: Proof
    visits: list[Ints]

    @property
    def fixed(self) -> bool:
        """Whether every server has one state left."""
        return all(own.size == 1 for own in self.states)


class Branching:
    """The search for the optimum.

    Attributes:
        flow: the best assignment found.
        bound: what no plan's gain exceeds, seconds.
    """

    def __init__(self, table: Table, users: int) -> None:
        self.table = table
        self.flow, self.first = searched(table, users)
        self.bound = self.first.bound

    def run(self, end: float) -> str:
        """Search until the optimum is proven or the time is over; returns which of them."""
        every = [np.arange(own.count.size) for own in self.table]
        number, whole = count(), Box(every, self.first, [np.zeros(own.size, int) for own in every])
        boxes = [(-whole.found.bound, next(number), whole)]
        while boxes:
            self.bound = max(-boxes[0][0], self.flow.total)
            if self.bound - self.flow.total <= self._close:
                break
            if time.monotonic() >= end:
                return TIME_LIMIT
            _, _, box = heapq.heappop(boxes)
            for part in self._parts(box):
                heapq.heappush(boxes, (-part.found.bound, next(number), part))
        self.bound = self.flow.total
        return OPTIMAL

    @property
    def _close(self) -> float:
        return CLOSE * (1 + abs(self.flow.total))

    def _parts(self, box: Box) -> Iterator[Box]:
        """What is left of a box after cuts: nothing, or its two halves with bounds of their own."""
        cut = self._cut(box)
        if cut.fixed:
            self._reach(transport(self.table, np.array([int(own[0]) for own in cut.states])))
            return
        for states in self._halves(cut):
            half = self._bounded(states, box.found.prices)
            if half.found.bound > self.flow.total + self._close:
                yield half

    def _bounded(self, states: list[Ints], prices: Floats) -> Box:
        """The box of these states, with better prices; its servers' best states are tried as a plan."""
        table = [own.take(allowed) for own, allowed in zip(self.table, states, strict=True)]
        visits = [np.zeros(allowed.size, int) for allowed in states]

        def watch(now: Proof) -> None:
            for own, s in zip(visits, now.state, strict=True):
                own[s] += 1

        found = improve(table, proof(table, prices), self.flow.total, ROUNDS, watch)
        best = np.array([int(allowed[s]) for allowed, s in zip(states, found.state, strict=True)])
        self._reach(transport(self.table, best))
        return Box(states, found, visits)

    def _reach(self, flow: Flow) -> None:
        if flow.total > self.flow.total:
            self.flow = flow

    def _cut(self, box: Box) -> Box:
        """The box without the states that no better plan has."""
        slack = box.found.bound - self.flow.total - self._close
        kept = [worth >= worth.max() - slack for worth in box.found.values]
        states, visits = (
            [own[keep] for own, keep in zip(each, kept, strict=True)] for each in (box.states, box.visits)
        )
        return Box(states, box.found, visits)

    def _halves(self, box: Box) -> Iterator[list[Ints]]:
        """The states of a box, parted at one server."""
        splits = [_split(own, *each) for own, *each in zip(self.table, box.states, box.visits, strict=True)]
        m = max(range(len(splits)), key=lambda m: splits[m][0])
        for part in (splits[m][1], ~splits[m][1]):
            yield [own[part] if other == m else own for other, own in enumerate(box.states)]


def _split(own: States, states: Ints, visits: Ints) -> tuple[float, Bools]:
    """How much a server's best state varies, and which of its states are on one side."""
    if states.size == 1:
        return -1.0, np.ones(1, bool)
    share = visits / max(1, visits.sum())
    counts, sets = own.count[states], own.placement[states]
    mean = share @ counts
    spread, low = float(share @ (counts - mean) ** 2), counts <= mean + 1e-9  # of equal counts, too
    if spread > 1e-9 and not low.all():
        return 1 + spread, low
    of_best = sets == sets[np.argmax(visits)]
    if not of_best.all():
        return float(share @ ~of_best), of_best
    return 0.0, np.arange(states.size) == np.argmax(visits)

"""`assign`: the count search, and dual prices as the proof of how good its plan is.

From all local on, the best of these changes is made while one of them gains: one user more at a server, one fewer, or
one fewer at a server and one more at another, each with the exchange of users along the residual graph that suits it
best (`flow`); then, one server's models and number of users chosen anew among its own and the local users.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ....common.arrays import Floats, Ints
from ...model.qoe import Scenario, Users
from ...model.servers import Fleet, FleetPlan, FleetServer
from .dual import Proof, improve, prove
from .flow import CircleError, Flow, best_of, longest_paths, path_edges, transport
from .table import Table, by_cell, gain_table, split_assigned

WIDE = 2e-4
"""Gap, relative to the gain, above which other sets of models are tried."""
MOST_TRIED = 500_000
"""Other sets of models that are tried at most, times the users: each is a search of its own."""


class CountSearch:
    """The search among numbers of granted users, from an assignment on.

    Attributes:
        flow: the best assignment found.
        tried: number of other sets of models that were tried.
    """

    def __init__(self, start: Flow) -> None:
        self.flow = start
        self.tried = 0

    def run(self) -> Flow:
        """Search until no change gains anything."""
        self._replan_one()
        while self._change_counts() or self._replan_one():
            pass
        return self.flow

    # -- one user more or fewer -----------------------------------------------------------------------------

    def _change_counts(self) -> bool:
        """Make changes of one user while they gain; whether any did."""
        changed, tried = False, set[tuple[int, int]]()
        while True:
            change = Exchange(self.flow)
            start, end, gain = change.best(tried)
            if gain <= self.flow.slack:
                return changed
            if self._kept(lambda: change.apply(start, end)):  # noqa: B023 - called at once
                changed, tried = True, set()
            else:
                tried.add((start, end))

    def _kept(self, change: Callable[[], None]) -> bool:
        """Whether a change gains what it promised; it is taken back where it does not."""
        flow, before = self.flow, self.flow.total
        kept = flow.place.copy(), flow.placement.copy(), flow.count.copy(), flow.value.copy()
        with suppress(CircleError):
            change()
            flow.settle()
            if flow.total > before + flow.slack:
                return True
        flow.place, flow.placement, flow.count, flow.value = kept
        return False

    # -- one server anew --------------------------------------------------------------------------------------

    def _replan_one(self) -> bool:
        """Choose one server's state anew, among its own and the local users, if that gains anything."""
        return sum(self._replan(m) for m in range(self.flow.local)) > 0

    def _replan(self, m: int) -> bool:
        flow, states = self.flow, self.flow.table[m]
        own, pool = flow.place == m, flow.pool(m)
        state, chosen = states.best_choice(pool)
        if states.gain[state, chosen].sum() <= flow.value[m, own].sum() + flow.slack:
            return False
        return self._kept(lambda: flow.occupy(m, int(states.placement[state]), chosen))

    # -- another set of models ---------------------------------------------------------------------------------

    def rehost(self) -> bool:
        """Give one server another set of models and search on from there, if that gains anything in the end."""
        flow = self.flow
        for m, states in enumerate(flow.table):
            for placement in range(len(states.placements)):
                if placement == flow.placement[m] or self.tried * flow.place.size >= MOST_TRIED:
                    continue
                self.tried += 1
                trial = CountSearch(flow.copy())
                only = states.take(np.flatnonzero((states.placement == placement) | (states.count == 0)))
                trial.flow.occupy(m, placement, only.best_choice(flow.pool(m))[1])
                trial._change_counts()
                if trial.run().total > flow.total + flow.slack:
                    self.flow = trial.flow
                    return True
        return False


class Exchange:
    """What one user more or fewer gains, at every pair of nodes; node M is local, where counts do not matter."""

    def __init__(self, flow: Flow) -> None:
        self.flow, servers = flow, flow.local
        self.members = [*flow.members(), np.flatnonzero(flow.place == servers)]
        self.gain, self.who = flow.edges()
        self.paths, self.after = longest_paths(self.gain, flow.slack)
        self.more, self.fewer = (self._rows(step) for step in (1, -1))
        self.enter, self.enter_who = self._edges(flow.value, self.more)
        self.leave, self.leave_who = self._edges(self.fewer, flow.value)
        self.cross, self.cross_who = self._edges(self.fewer, self.more)

    def _rows(self, step: int) -> Floats:
        """Gains in the states with one user more or fewer, shape of `flow.value`."""
        flow = self.flow
        rows = [flow.row(m, int(flow.placement[m]), int(flow.count[m]) + step) for m in range(flow.local)]
        return np.array([*rows, np.zeros(flow.place.size)])

    def _edges(self, here: Floats, there: Floats) -> tuple[Floats, Ints]:
        """The residual graph where the node that is left has the gains `here`, and the one entered `there`."""
        gain, who = np.full(self.gain.shape, -np.inf), np.full(self.gain.shape, -1)
        for x, users in enumerate(self.members):
            if users.size:
                gain[x], who[x] = best_of(there[:, users] - here[x, users], users)
        np.fill_diagonal(gain, -np.inf)
        return gain, who

    def best(self, tried: set[tuple[int, int]]) -> tuple[int, int, float]:
        """The best pair of nodes that was not tried yet: one user fewer at the first, one more at the second."""
        gains = self.gains()
        for pair in tried:
            gains[pair] = -np.inf
        start, end = np.unravel_index(int(np.argmax(gains)), gains.shape)
        return int(start), int(end), float(gains[start, end])

    def gains(self) -> Floats:
        """What every change gains at most by one path, shape (servers + 1, servers + 1)."""
        by_path = max_plus(max_plus(self.leave, self.paths), self.enter)
        gains = np.maximum(by_path, self.cross) + self._change(self.fewer)[:, None] + self._change(self.more)
        np.fill_diagonal(gains, -np.inf)
        return gains

    def _change(self, rows: Floats) -> Floats:
        """What the users of every node gain where its gains become these, shape (servers + 1,)."""
        now = self.flow.value
        return np.array([(rows[x, users] - now[x, users]).sum() for x, users in enumerate(self.members[:-1])] + [0.0])

    def apply(self, start: int, end: int) -> None:
        """Move the users of the best path between two nodes that meets neither again, and change the nodes' states."""
        inner = self.gain.copy()
        inner[[start, end]] = inner[:, [start, end]] = -np.inf
        paths, after = longest_paths(inner, self.flow.slack)
        through = self.leave[start][:, None] + paths + self.enter[:, end]
        x, y = (int(node) for node in np.unravel_index(int(np.argmax(through)), through.shape))
        if not np.isfinite(max(through[x, y], self.cross[start, end])):
            return  # the path that promised a gain meets an end again
        moves = [(int(self.cross_who[start, end]), end)]
        if through[x, y] > self.cross[start, end]:
            moves = [(int(self.leave_who[start, x]), x), (int(self.enter_who[y, end]), end)]
            moves += [(int(self.who[edge]), edge[1]) for edge in path_edges(after, x, y)]
        flow = self.flow
        flow.move(moves)
        for node, step in ((start, -1), (end, 1)):
            if node < flow.local:
                flow.set_state(node, int(flow.placement[node]), int(flow.count[node]) + step)


def max_plus(left: Floats, right: Floats) -> Floats:
    """The product of two matrices in which sums stand for products and the maximum for the sum."""
    product: Floats = (left[:, :, None] + right[None]).max(axis=1)
    return product


def assign(scenario: Scenario, users: Users) -> FleetPlan:
    """The plan of the count search, with the dual bound beside it.

    Args:
        scenario: one server or several.
        users: users of one cell or several, each of which is planned on its own.
    """
    return by_cell(scenario, users, _assigned)


def searched(table: Table, users: int) -> tuple[Flow, Proof]:
    """The assignment of the count search, and its proof.

    The states that the prices prefer are tried as well, and where the gap stays wide, other models at each server.
    """
    search = CountSearch(Flow(table, users))
    found = prove(search.run())
    if found.bound > search.flow.total + search.flow.slack:
        other = CountSearch(transport(table, found.state))
        search = max(search, other, key=lambda each: each.run().total)
        while found.bound > search.flow.total * (1 + WIDE) and search.rehost():
            pass
        found = improve(table, found, search.flow.total)
    return search.flow, found


def placed(fleet: Fleet, users: Users) -> Fleet:
    """The fleet with the models of every server fixed: those with which these users as one round are assigned best.

    A server that has room for all models that it may serve keeps them.
    """
    if all(fleet.sizes[list(server.hosts)].sum() <= server.memory for server in fleet.servers):
        return fleet
    table = gain_table(fleet, users)
    flow, _ = searched(table, len(users))
    servers = zip(fleet.servers, table, flow.placement.tolist(), strict=True)
    fixed = (_with_models(fleet, server, states.placements[chosen:][:1]) for server, states, chosen in servers)
    return replace(fleet, servers=tuple(fixed))


def _with_models(fleet: Fleet, server: FleetServer, chosen: list[tuple[int, ...]]) -> FleetServer:
    """A server with the chosen set of models alone, with none where no set fits into its memory."""
    fits = fleet.sizes[list(server.hosts)].sum() <= server.memory
    return server if fits else replace(server, hosts=tuple(sorted(c for models in chosen for c in models)))


def _assigned(fleet: Fleet, users: Users) -> FleetPlan:
    """The plan for the users of one cell."""
    table = gain_table(fleet, users)
    flow, found = searched(table, len(users))
    made = split_assigned(fleet, users, table, flow.server, flow.placement)
    return replace(made, bound_s=np.array([found.bound]))

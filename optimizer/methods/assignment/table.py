"""What every user gains at every server in every state that the server may be in: all that the methods need to know.

State s of a server: the set of models A that it serves and the number b of users that it may grant. g_i(s): what user i
gains over all local there, with its best split and the best model in A; minus infinity where it cannot reach the
server. More granted users make a server slower, so that g_i falls with b: a server that grants fewer than b users gives
them at least what its state says. Hence the best choice of states, and of at most b(s) users for each, is the optimum.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ....common.arrays import Bools, Floats, Ints
from ....common.errors import InputError
from ....fitting.pai import PaiCurve
from ...model.qoe import Scenario, Users
from ...model.servers import NOWHERE, Fleet, FleetPlan, SharedModel, clusters_of, link_rates, single
from ..ilp import OPTIMAL

MOST_RATINGS = 200_000_000
"""Entries of a table at most: 1.6 GB."""


@dataclass(frozen=True)
class States:
    """The states of one server and the users' gains in them; state 0 grants nobody.

    Attributes:
        gain: g_i(s), seconds, shape (states, users).
        count: b of every state, shape (states,).
        placement: number of every state's set of models in `placements`, shape (states,).
        placements: sets of models that the server may serve.
    """

    gain: Floats
    count: Ints
    placement: Ints
    placements: list[tuple[int, ...]]

    def at(self, placement: int, count: int) -> int:
        """The state with this set of models and this many users; -1 where there is none."""
        if count <= 0:
            return count
        first = int(np.searchsorted(self.placement[1:], placement)) + 1
        state = first + count - 1
        return state if state < self.count.size and self.placement[state] == placement else -1

    def best_choice(self, pool: Ints) -> tuple[int, Ints]:
        """The state in which the best users of a pool gain most, and these users, those who gain nothing left out."""
        state = int(np.argmax(top_sums(self.gain[:, pool], self.count)))
        gain = self.gain[state, pool]
        order = np.argsort(-gain, kind="stable")[: self.count[state]]
        return state, pool[order[gain[order] > 0]]

    def take(self, states: Ints | Bools) -> "States":
        """Some of the states."""
        return States(self.gain[states], self.count[states], self.placement[states], self.placements)


Table = list[States]
"""The states of every server."""


def gain_table(fleet: Fleet, users: Users) -> Table:
    """The states of every server, for users of one cell.

    Raises:
        InputError: for more ratings than memory has room for.
    """
    return [_Rater(fleet, users, m).states() for m in range(len(fleet.servers))]


class _Rater:
    """Rates users at one server; splits are computed once for every curve and number of turns."""

    def __init__(self, fleet: Fleet, users: Users, server: int) -> None:
        self.fleet, self.users, self.server = fleet, users, fleet.servers[server]
        self.placements = fleet.placements(server)
        rate = link_rates(fleet, users)[:, server]
        most = self._largest_count(rate)
        self.counts = np.arange(1, most + 1)
        self.reached = rate > 0
        _check_size(fleet, len(users), most * len(self.placements))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.grant_cost = np.where(self.reached, self.server.grant_cost(self.counts[:, None], rate), np.inf)
        self._known: dict[tuple[PaiCurve, int], Floats] = {}

    def states(self) -> States:
        """All states in which as many users as are granted gain anything."""
        gain, count, placement = [np.zeros((1, len(self.users)))], [np.zeros(1, int)], [np.full(1, NOWHERE)]
        for number, models in enumerate(self.placements):
            rated = self._rated(models)
            useful = int(((rated > 0).sum(axis=1) >= self.counts).sum())  # holds for fewer users if it does for more
            gain.append(rated[:useful])
            count.append(self.counts[:useful])
            placement.append(np.full(useful, number))
        return States(np.concatenate(gain), np.concatenate(count), np.concatenate(placement), self.placements)

    def _largest_count(self, rate: Floats) -> int:
        """The largest b at which some user could gain, as its gain is at most (N - N-hat) d less the transmission."""
        scenario = self.server.scenario
        if not (rate > 0).any():
            return 0
        counts = np.arange(1, min(scenario.max_batch, int((rate > 0).sum())) + 1)
        fewest = max(1, self.server.turns(()))
        saving = self.users.step_latency_s.max(initial=0) - self.server.step_cost(fewest, counts)
        worth = (scenario.total_steps - scenario.min_local_steps) * saving * (1 + 1e-9)
        return int(np.max(counts[worth > self.server.grant_cost(counts, rate.max(initial=0))], initial=0))

    def _rated(self, models: tuple[int, ...]) -> Floats:
        """g_i with these models at every count, shape (counts, users)."""
        turns = self.server.turns(int(self.fleet.bases[c]) for c in models)
        split = np.full(self.grant_cost.shape, -np.inf)
        for c in models:
            split = np.maximum(split, self._of_model(self.fleet.models[c], turns))
        rated: Floats = split - self.grant_cost
        return rated

    def _of_model(self, model: SharedModel, turns: int) -> Floats:
        """The gains of the best splits with one model, before what a grant costs, shape (counts, users)."""
        own = model.serves_own(clusters_of(self.users))
        if own.all() or model.pai == model.pai_others:
            return self._of_curve(model.pai, turns)
        return np.where(own, self._of_curve(model.pai, turns), self._of_curve(model.pai_others, turns))

    def _of_curve(self, curve: PaiCurve, turns: int) -> Floats:
        if (curve, turns) not in self._known:
            saving = self.users.step_latency_s - self.server.step_cost(turns, self.counts)[:, None]
            self._known[curve, turns] = self.server.terms(curve).best_split(self.users.alpha, saving)[1]
        return self._known[curve, turns]


def _check_size(fleet: Fleet, users: int, states: int) -> None:
    if users * states * len(fleet.servers) > MOST_RATINGS:
        most = max(1, MOST_RATINGS // (states * len(fleet.servers)))
        raise InputError(
            f"found {users} users with {states} states of a server, accepted: {most} users at most; lower max_batch, "
            "or give the servers fewer models to choose from"
        )


def top_sums(gain: Floats, count: Ints) -> Floats:
    """The sum of the b(s) largest gains in every state, those below 0 left out; shape (states,).

    Args:
        gain: gains, shape (states, users).
        count: b(s), shape (states,).
    """
    most = min(int(count.max(initial=0)), gain.shape[1])
    if most == 0:
        return np.zeros(count.size)
    largest = gain if most == gain.shape[1] else np.partition(gain, -most, axis=1)[:, -most:]
    sums = np.cumsum(np.maximum(np.sort(largest, axis=1)[:, ::-1], 0), axis=1)
    return np.where(count > 0, sums[np.arange(count.size), np.minimum(count, most) - 1], 0.0)


def by_cell(scenario: Scenario, users: Users, planned: Callable[[Fleet, Users], FleetPlan]) -> FleetPlan:
    """The plans of all cells as one; every cell is a round of its own with all servers to itself.

    Args:
        scenario: one server or several.
        users: users of one or more cells.
        planned: function that plans one cell, whose users are in file order.
    """
    fleet, cells = single(scenario), users.cells
    order = np.argsort(users.cell, kind="stable")
    places = np.split(order, np.cumsum(np.bincount(users.cell, minlength=cells))[:-1]) if cells else []
    one_cell = [replace(users.take(own), cell=np.zeros(own.size, np.int64)) for own in places]
    plans = [planned(fleet, own) for own in one_cell]
    whole = all_at_home(fleet, users)
    for own, plan in zip(places, plans, strict=True):
        for name in ("granted", "local_steps", "server", "model"):
            getattr(whole, name)[own] = getattr(plan, name)
    bounds = [plan.bound_s for plan in plans if plan.bound_s is not None]
    return replace(whole, bound_s=np.concatenate(bounds) if len(bounds) == cells > 0 else None)


@dataclass(frozen=True)
class CellStatus:
    """How far a method that proves has come with one cell.

    Attributes:
        status: `OPTIMAL` where that is proven, else why not.
        gain: gain over all local, seconds.
        bound: what no plan's gain exceeds, seconds; infinite where none is known yet.
    """

    status: str
    gain: float
    bound: float


def status_note(cells: Sequence[CellStatus]) -> str:
    """Status, gain and bound over all cells, in words."""
    gain, bound = math.fsum(cell.gain for cell in cells), math.fsum(cell.bound for cell in cells)
    unproven = [cell.status for cell in cells if cell.status != OPTIMAL]
    if not unproven:
        return f"optimal: gain {gain:.6g} s"
    where = f" in {len(unproven)} of {len(cells)} cells" if len(cells) > 1 else ""
    words = f"bound {bound:.6g} s" if math.isfinite(bound) else "no bound yet"
    return f"not proven, {unproven[0]}{where}: gain {gain:.6g} s, {words}"


def all_at_home(fleet: Fleet, users: Users) -> FleetPlan:
    """The plan that grants nobody."""
    nowhere = np.full(len(users), NOWHERE)
    granted, n = np.zeros(len(users), bool), np.full(len(users), fleet.total_steps)
    return FleetPlan(granted, n, server=nowhere, model=nowhere.copy())


def split_assigned(fleet: Fleet, users: Users, table: Table, server: Ints, placement: Ints) -> FleetPlan:
    """The plan that grants these users at these servers, each with its best model and split.

    Args:
        fleet: the servers and models.
        users: users of one cell.
        table: their gains.
        server: number of every user's server, `NOWHERE` for local; shape (users,).
        placement: number of every server's set of models among its placements, shape (servers,).
    """
    model, local_steps = np.full(len(users), NOWHERE), np.full(len(users), fleet.total_steps)
    for m, states in enumerate(table):
        here = np.flatnonzero(server == m)
        if here.size:
            model[here], local_steps[here] = _served(fleet, users.take(here), m, states.placements[placement[m]])
    return FleetPlan(server != NOWHERE, local_steps, server=server, model=model)


def _served(fleet: Fleet, users: Users, server: int, models: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Model and split of all these users at one server; models that nobody needs take no turns."""
    place, bases = fleet.servers[server], {int(fleet.bases[c]) for c in models}
    saving = users.step_latency_s - place.step_cost(place.turns(bases), len(users))
    own = {c: fleet.models[c].serves_own(clusters_of(users)) for c in models}
    splits, gains = [], []
    for c in models:
        pair = [
            place.terms(curve).best_split(users.alpha, saving)
            for curve in (fleet.models[c].pai, fleet.models[c].pai_others)
        ]
        splits.append(np.where(own[c], pair[0][0], pair[1][0]))
        gains.append(np.where(own[c], pair[0][1], pair[1][1]))
    best = np.argmax(gains, axis=0)
    model, n = np.array(models)[best], np.array(splits)[best, np.arange(len(users))]
    used = set(fleet.bases[model].tolist())
    if used < bases:
        return _served(fleet, users, server, tuple(c for c in models if int(fleet.bases[c]) in used))
    return model, n

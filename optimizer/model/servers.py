"""Several edge servers and several cluster-wide models: who can be served where, at what speed, and any plan's value.

m: a server. c: a cluster-wide model. A: the models that a server's granted users are served by. a: how often a step of
the server runs, which is the number of models in A that share no weights. b: granted users of the server.
r: spectral efficiency of the link of a user and a server. The rest is as in `qoe`, for each server.
A server that is still at work on earlier rounds has their load in its scenario, and their models in `in_turn`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from ...common.arrays import Bools, Floats, Ints
from ...common.errors import InputError
from ...fitting.pai import PaiCurve
from . import qoe
from .qoe import (
    Evaluation,
    Plan,
    Scenario,
    Users,
    edge_step_latency,
    edge_time,
    latency,
    local_time,
    quality_of_experience,
    transmit_time,
    wait_time,
)
from .terms import FREE, Prices, Terms

MOST_CHOICES = 4096
"""Sets of models that are looked through for one server at most."""
NOWHERE = -1
"""Number of the server and of the model of a user who is not granted."""


@dataclass(frozen=True, kw_only=True)
class SharedModel:
    """A cluster-wide model.

    Attributes:
        name: its name.
        size_bytes: memory that it needs beside the weights of its base.
        clusters: numbers of the clusters that it was trained for; empty for everybody.
        pai: PAI curve of the users of these clusters.
        pai_others: PAI curve of all other users.
        base: number of the model whose weights it adapts; its own number where it adapts none.
    """

    name: str
    size_bytes: float
    clusters: tuple[int, ...]
    pai: PaiCurve
    pai_others: PaiCurve
    base: int

    def serves_own(self, cluster: Ints) -> Bools:
        """Whether each user, by the number of its cluster, is of a cluster that the model was trained for."""
        return np.isin(cluster, self.clusters) if self.clusters else np.ones(cluster.shape, bool)


@dataclass(frozen=True, kw_only=True)
class FleetServer:
    """One edge server.

    Attributes:
        name: its name.
        scenario: the paper's system with this server as its edge.
        hosts: numbers of the models that it may serve, bases among them.
        memory_bytes: memory for the models that it serves in a round; None where all fit.
        in_turn: numbers of the models without common weights that images of earlier rounds need.
        prices: what a decision is charged for what it costs others.
    """

    name: str
    scenario: Scenario
    hosts: tuple[int, ...]
    memory_bytes: float | None
    in_turn: tuple[int, ...] = ()
    prices: Prices = FREE

    @property
    def memory(self) -> float:
        """The memory for models, bytes; infinite where all fit."""
        return np.inf if self.memory_bytes is None else self.memory_bytes

    def step_latency(self, turns: ArrayLike, batch: ArrayLike) -> Floats:
        """L_e(b, G) + (a - 1) L_e(0, G): models that share no weights take turns, and each pays for a step of its own.

        Args:
            turns: number of models without common weights, a.
            batch: granted users of the server, b, broadcast against `turns`.
        """
        empty = self.scenario.edge.step_latency(0)
        seconds: Floats = edge_step_latency(self.scenario, batch) + (np.asarray(turns) - 1) * empty
        return seconds

    def turns(self, bases: Iterable[int]) -> int:
        """a: the number of models that take turns where new images need these, beside those of earlier rounds."""
        return len({*bases, *self.in_turn})

    def terms(self, curve: PaiCurve) -> Terms:
        """What the server asks of users with this PAI curve, but for the turns of its models."""
        return Terms(replace(self.scenario, pai=curve), self.prices)

    def step_cost(self, turns: ArrayLike, batch: ArrayLike) -> Floats:
        """What an offloaded step costs with its price, seconds; arguments as of `step_latency`."""
        return self.step_latency(turns, batch) + self.prices.step_price(batch)

    def grant_cost(self, batch: ArrayLike, efficiency: ArrayLike) -> Floats:
        """What a grant costs with its fee, seconds; arguments as of `transmit_time`."""
        return transmit_time(self.scenario, batch, efficiency) + self.prices.grant_fee(batch)


@dataclass(frozen=True, kw_only=True)
class Fleet(Scenario):
    """Several edge servers and cluster-wide models; the numbers of `Scenario` are those of the first server.

    With the first server emphasis becomes alpha; `pai` at N is the PAI of all local.

    Attributes:
        servers: the edge servers.
        models: the cluster-wide models.
        clusters: names of the clusters by their numbers.
    """

    servers: tuple[FleetServer, ...]
    models: tuple[SharedModel, ...]
    clusters: tuple[str, ...]

    @cached_property
    def bases(self) -> Ints:
        """The number of every model's base, shape (models,)."""
        return np.array([model.base for model in self.models])

    @cached_property
    def sizes(self) -> Floats:
        """The size of every model, bytes, shape (models,)."""
        return np.array([model.size_bytes for model in self.models])

    def choosing(self, memory_bytes: float) -> "Fleet":
        """The same fleet where every server has this memory and chooses among all models."""
        hosts = tuple(range(len(self.models)))
        servers = tuple(replace(server, hosts=hosts, memory_bytes=memory_bytes) for server in self.servers)
        return replace(self, servers=servers)

    def roots(self, server: int) -> list[int]:
        """The models that a server may serve and that share no weights, which take turns; ascending."""
        return sorted({int(self.bases[c]) for c in self.servers[server].hosts})

    def placements(self, server: int) -> list[tuple[int, ...]]:
        """The sets of models that a server can serve at a time and that no other set beats: all but the contained ones.

        A set is beaten by a larger one that takes no more turns. Ascending by turns.

        Raises:
            InputError: for a server with more choices than are looked through.
        """
        place, roots = self.servers[server], self.roots(server)
        _check_choices(place, len(roots))
        found = []
        for turns in range(1, len(roots) + 1):
            for chosen in combinations(roots, turns):
                adapters = [c for c in place.hosts if self.bases[c] in chosen and c not in chosen]
                left = place.memory - self.sizes[list(chosen)].sum()
                found += [(*chosen, *more) for more in _largest_fits(place, adapters, self.sizes, left)]
        return found


def _check_choices(server: FleetServer, models: int) -> None:
    if 2**models > MOST_CHOICES:
        most = MOST_CHOICES.bit_length() - 1
        raise InputError(
            f"server {server.name}: found {models} models to choose from, accepted: {most} at most; shorten its hosts"
        )


def _largest_fits(
    server: FleetServer, adapters: Sequence[int], sizes: Floats, left: float
) -> Iterator[tuple[int, ...]]:
    """The sets of adapters that fit into what memory is left, and to which none can be added."""
    if left < 0:
        return
    if sizes[list(adapters)].sum() <= left:
        yield tuple(adapters)
        return
    _check_choices(server, len(adapters))
    for count in range(len(adapters), -1, -1):
        for chosen in combinations(adapters, count):
            rest = left - sizes[list(chosen)].sum()
            if rest >= 0 and all(rest < sizes[c] for c in adapters if c not in chosen):
                yield chosen


@dataclass(frozen=True)
class FleetPlan(Plan):
    """The decisions for all users of a fleet, as arrays of shape (users,); see `Plan`.

    Attributes:
        server: number of the server of every granted user, else `NOWHERE`.
        model: number of the cluster-wide model of every granted user, else `NOWHERE`.
        bound_s: what no plan's gain over all local exceeds, seconds, for every cell; None where that is not known.
    """

    server: Ints = field(kw_only=True)
    model: Ints = field(kw_only=True)
    bound_s: Floats | None = field(default=None, kw_only=True)

    @property
    def bounds(self) -> Floats:
        """The bound of every cell's gain, seconds, shape (cells,); infinite where none is known."""
        return np.array([np.inf]) if self.bound_s is None else self.bound_s


def places_of(plan: Plan, users: int) -> tuple[Ints, Ints]:
    """Server and model of every user, `NOWHERE` where not granted; a plan that names none grants nobody."""
    if isinstance(plan, FleetPlan):
        return plan.server, plan.model
    return np.full(users, NOWHERE), np.full(users, NOWHERE)


def place_names(fleet: Fleet, server: Ints, model: Ints) -> dict[str, Sequence[str]]:
    """The columns `server` and `model`: the names of these numbers, blank for `NOWHERE`."""
    places = (("server", fleet.servers, server), ("model", fleet.models, model))
    return {
        column: ["" if number == NOWHERE else things[number].name for number in numbers.tolist()]
        for column, things, numbers in places
    }


def link_rates(fleet: Fleet, users: Users) -> Floats:
    """r of every user to every server, bit/s/Hz, shape (users, servers); 0 where it cannot be reached."""
    usual = np.array([server.scenario.spectral_efficiency for server in fleet.servers])
    if users.rate is None:
        return np.broadcast_to(usual, (len(users), usual.size))
    return np.where(np.isnan(users.rate), usual, users.rate)


def clusters_of(users: Users) -> Ints:
    """The number of every user's cluster, shape (users,); `NOWHERE` for users of none."""
    return np.full(len(users), NOWHERE) if users.cluster is None else users.cluster


def loads(fleet: Fleet, users: Users, plan: FleetPlan) -> tuple[Ints, Ints]:
    """b and a of every server in every cell, both of shape (cells, servers)."""
    shape = users.cells, len(fleet.servers)
    granted = plan.granted
    server = users.cell[granted] * shape[1] + plan.server[granted]
    pairs = np.unique(server * len(fleet.models) + fleet.bases[plan.model[granted]])
    counts = (np.bincount(numbers, minlength=shape[0] * shape[1]) for numbers in (server, pairs // len(fleet.models)))
    b, a = (count.reshape(shape) for count in counts)
    return b, a


def evaluate(scenario: Scenario, users: Users, plan: Plan) -> Evaluation:
    """What a plan gives every user, with one server or several; `qoe.evaluate` is the case of one."""
    if not isinstance(scenario, Fleet):
        return qoe.evaluate(scenario, users, plan)
    n, granted = plan.local_steps, plan.granted
    transmit, step = _shared_times(scenario, users, plan) if isinstance(plan, FleetPlan) else np.zeros((2, len(users)))
    wait, local = wait_time(scenario, users.request_slot), local_time(n, users.step_latency_s)
    edge = edge_time(scenario, n, step)
    latency_s, pai = latency(granted, wait, transmit, edge, local), _pai(scenario, users, plan)
    qoe_s = quality_of_experience(users.alpha, pai, latency_s)
    return Evaluation(pai, latency_s, wait, granted * transmit, granted * edge, local, qoe_s)


def _shared_times(fleet: Fleet, users: Users, plan: FleetPlan) -> tuple[Floats, Floats]:
    """Seconds of transmission and of one edge step of every user, both (users,); 0 where not granted."""
    transmit, step = np.zeros(len(users)), np.zeros(len(users))
    rate, (b, a) = link_rates(fleet, users), loads(fleet, users, plan)
    for m, server in enumerate(fleet.servers):
        here = plan.granted & (plan.server == m)
        count, turns = b[users.cell[here], m], a[users.cell[here], m]
        transmit[here] = transmit_time(server.scenario, count, rate[here, m])
        step[here] = server.step_latency(turns, count)
    return transmit, step


def _pai(fleet: Fleet, users: Users, plan: Plan) -> Floats:
    """The expected PAI of every user, shape (users,)."""
    return expected_pai(fleet, clusters_of(users), places_of(plan, len(users))[1], plan.local_steps)


def expected_pai(fleet: Fleet, cluster: Ints, chosen: Ints, n: Ints) -> Floats:
    """The expected PAI of images: that of all local, less what their models' curves say is lost.

    Args:
        fleet: the models.
        cluster: number of the cluster of every image's user, shape (images,).
        chosen: number of every image's model, `NOWHERE` for all local, shape (images,).
        n: local steps of every image, shape (images,).
    """
    total, pai = fleet.total_steps, fleet.pai.value(n)
    for c, model in enumerate(fleet.models):
        own = model.serves_own(cluster)
        for curve, of_curve in ((model.pai, own), (model.pai_others, ~own)):
            here = (chosen == c) & of_curve
            if curve != fleet.pai:
                pai[here] = fleet.pai.value(total) + curve.value(n[here]) - curve.value(total)
    return pai


def constraints(scenario: Scenario, users: Users, plan: Plan) -> dict[str, Bools]:
    """Who keeps the constraints, as `qoe.constraints`; with several servers C2 is every server's, and there are more.

    reach: the user's link to its server carries something. hosts: the server may serve the user's model.
    memory: the models that the server's users need fit into it together.
    """
    if not isinstance(scenario, Fleet):
        return qoe.constraints(scenario, users, plan)
    kept = {name: kept for name, kept in qoe.constraints(scenario, users, plan).items() if name != "C2"}
    if not isinstance(plan, FleetPlan):
        return {"reach": ~plan.granted, **kept}
    return {**_kept_by_place(scenario, users, plan), **kept}


def _kept_by_place(fleet: Fleet, users: Users, plan: FleetPlan) -> dict[str, Bools]:
    """The constraints that say where users may be; those of a user in no place at all are not asked further."""
    denied, servers, models = ~plan.granted, len(fleet.servers), len(fleet.models)
    known = (plan.server >= 0) & (plan.server < servers) & (plan.model >= 0) & (plan.model < models)
    if not np.all(known | denied):
        return {"reach": known | denied}
    most = np.array([server.scenario.max_batch for server in fleet.servers])
    hosted = np.array([[c in server.hosts for c in range(models)] for server in fleet.servers])
    b, _ = loads(fleet, users, plan)
    fits = memory_used(fleet, users, plan) <= [server.memory for server in fleet.servers]
    at = users.cell, np.where(denied, 0, plan.server)
    return {
        "reach": denied | (link_rates(fleet, users)[np.arange(len(users)), at[1]] > 0),
        "hosts": denied | hosted[at[1], np.where(denied, 0, plan.model)],
        "C2": denied | (b <= most)[at],
        "memory": denied | fits[at],
    }


def memory_used(fleet: Fleet, users: Users, plan: FleetPlan) -> Floats:
    """Bytes of the models that every server's users need, and of their bases; shape (cells, servers)."""
    needed = np.zeros((users.cells, len(fleet.servers), len(fleet.models)), bool)
    granted = plan.granted
    for model in (plan.model[granted], fleet.bases[plan.model[granted]]):
        needed[users.cell[granted], plan.server[granted], model] = True
    used: Floats = needed @ fleet.sizes
    return used


def single(scenario: Scenario) -> Fleet:
    """One server and one model for everybody as a fleet; a fleet as it is."""
    if isinstance(scenario, Fleet):
        return scenario
    model = SharedModel(name="shared", size_bytes=0.0, clusters=(), pai=scenario.pai, pai_others=scenario.pai, base=0)
    server = FleetServer(name="edge", scenario=scenario, hosts=(0,), memory_bytes=None)
    return Fleet(**qoe.numbers_of(scenario), servers=(server,), models=(model,), clusters=())

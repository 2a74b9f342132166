"""Hours of a service in seconds: requests arrive, rounds are decided, images step, travel and are finished.

Discrete events on a virtual clock. A request of round r, (r Delta, (r + 1) Delta], waits for the round's end. If it is
granted, its first N - n steps run at the edge (`Edge`), its intermediate is sent (`SharedRadio`), and its last n steps
run on its device (`Devices`); if it is denied, all N steps do. Each of several servers has an edge and a radio. What a
plan predicts is kept beside what then happens. All times are in seconds since the start. Nothing here is random: the
world holds what was drawn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heappop, heappush
from itertools import pairwise, repeat
from typing import Any, Literal

import numpy as np

from ..common.arrays import Bools, Floats, Ints
from ..optimizer.model.qoe import Plan, Scenario, Users, transmit_time
from ..optimizer.model.servers import (
    NOWHERE,
    Fleet,
    FleetPlan,
    FleetServer,
    clusters_of,
    expected_pai,
    link_rates,
    single,
)
from ..optimizer.model.terms import with_steps
from .resources import NEVER, Devices, Edge, SharedRadio
from .scheduler import Images, Load, added_arrivals

Physics = Literal["continuous", "queue"]
"""How images of several rounds share the edge: they step together, or a round's batch waits for the one before."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Requests in the order of their time; arrays of shape (requests,).

    Attributes:
        time_s: time of the request, seconds since the start.
        user: number of its user.
        patience_s: seconds after which it is given up; infinite where it never is.
        own_steps: steps N of its image; None where all have the scenario's.
    """

    time_s: Floats
    user: Ints
    patience_s: Floats
    own_steps: Ints | None = None

    def __len__(self) -> int:
        return self.time_s.size

    def take(self, places: Ints | Bools | slice) -> "Requests":
        """The requests at these places."""
        own = None if self.own_steps is None else self.own_steps[places]
        return Requests(
            time_s=self.time_s[places], user=self.user[places], patience_s=self.patience_s[places], own_steps=own
        )


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that happens to a service, whoever decides.

    Attributes:
        scenario: the system; its G is that of the start. With several servers a `Fleet`, whose models stay in place.
        users: whose requests they are.
        requests: the requests.
        gpus_over_time: (time, G) of every change, in order; of the first server.
        physics: how images of several rounds share the edge.
        step_overhead_s: seconds that every edge step takes beyond its latency.
        decode_s: seconds that a device takes to decode the finished image; of every user, or one number for all.
        device_queueing: whether a device works on one of its requests at a time.
        images_each: images that the memory of one edge GPU holds; None if that is not known. With several servers those
            of each.
    """

    scenario: Scenario
    users: Users
    requests: Requests
    gpus_over_time: Sequence[tuple[float, int]] = ()
    physics: Physics = "continuous"
    step_overhead_s: float = 0.0
    decode_s: float | Floats = 0.0
    device_queueing: bool = False
    images_each: int | Sequence[int | None] | None = None

    @cached_property
    def real_scenario(self) -> Scenario:
        """The system with the overhead in every step."""
        scenario, extra = self.scenario, self.step_overhead_s
        if not extra:
            return scenario
        if not isinstance(scenario, Fleet):
            return _slower(scenario, extra)
        servers = (replace(server, scenario=_slower(server.scenario, extra)) for server in scenario.servers)
        return replace(scenario, servers=tuple(servers))

    @property
    def several(self) -> bool:
        """Whether there are several servers, each with a load of its own."""
        return isinstance(self.scenario, Fleet)

    @cached_property
    def fleet(self) -> Fleet:
        """The servers with the overhead in every step; one server as a fleet of one."""
        return single(self.real_scenario)

    @cached_property
    def max_batch(self) -> int:
        """The most requests that can be granted in a round."""
        return sum(server.scenario.max_batch for server in self.fleet.servers)

    @cached_property
    def rate(self) -> Floats:
        """r of every request's link to every server, bit/s/Hz, shape (requests, servers)."""
        return link_rates(self.fleet, self.users)[self.requests.user]

    @cached_property
    def cluster(self) -> Ints:
        """The number of the cluster of every request's user."""
        return clusters_of(self.users)[self.requests.user]

    @cached_property
    def asking(self) -> Users:
        """The user of every request as of a round of its own, at the round's last slot."""
        users, last = self.users, np.full(len(self.users), self.scenario.slots)
        one_cell = np.zeros(len(users), np.int64)
        own = Users(users.step_latency_s, users.alpha, last, one_cell, cluster=users.cluster, rate=users.rate)
        return own.take(self.requests.user)

    @cached_property
    def alone_s(self) -> Floats:
        """Seconds that every request's intermediate is on every server's radio alone, shape (requests, servers)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            servers = zip(self.fleet.servers, self.rate.T, strict=True)
            return np.column_stack([transmit_time(server.scenario, 1, rate) for server, rate in servers])

    @cached_property
    def total_steps(self) -> Ints:
        """Steps N of every request's image."""
        own = self.requests.own_steps
        return np.full(len(self.requests), self.scenario.total_steps) if own is None else own

    @cached_property
    def step_latency_s(self) -> Floats:
        """L_i(1) of every request's user."""
        return self.users.step_latency_s[self.requests.user]

    @cached_property
    def decoding_s(self) -> Floats:
        """Seconds that the device of every request's user takes to decode."""
        return np.broadcast_to(self.decode_s, len(self.users))[self.requests.user]

    @cached_property
    def alpha(self) -> Floats:
        """alpha of every request's user."""
        return self.users.alpha[self.requests.user]

    @cached_property
    def deadline_s(self) -> Floats:
        """When each request is given up."""
        return self.requests.time_s + self.requests.patience_s

    @cached_property
    def round_of(self) -> Ints:
        """The round that each request belongs to."""
        rounds: Floats = np.ceil(self.requests.time_s / self.scenario.interval_s) - 1
        return np.maximum(rounds, 0).astype(np.int64)

    @cached_property
    def rounds(self) -> list[tuple[int, int, int]]:
        """(number, first request, end of its requests) of every round that has requests."""
        starts = np.flatnonzero(np.diff(self.round_of, prepend=-1)).tolist()
        spans = pairwise([*starts, len(self.requests)])
        return [(int(self.round_of[first]), first, end) for first, end in spans]

    def pai(self, local_steps: Ints, model: Ints | None = None) -> Floats:
        """F(n) of every request; of images with own steps at the same share of N.

        Args:
            local_steps: n of every request.
            model: with several servers, number of every request's model, `NOWHERE` for all local; None for all local.
        """
        if self.several:
            chosen = np.full(len(self.requests), NOWHERE) if model is None else model
            return expected_pai(self.fleet, self.cluster, chosen, local_steps)
        if self.requests.own_steps is None:
            return self.scenario.pai.value(local_steps)
        values = np.empty(len(local_steps))
        for total in np.unique(self.total_steps).tolist():
            here = self.total_steps == total
            values[here] = with_steps(self.scenario, total).pai.value(local_steps[here])
        return values

    @cached_property
    def all_local_pai(self) -> Floats:
        """F(N) of every request."""
        return self.pai(self.total_steps)


def _slower(scenario: Scenario, extra_s: float) -> Scenario:
    """The system with so many more seconds in every step."""
    edge = scenario.edge
    slow = replace(edge, intercept_s=edge.intercept_s + extra_s, floor_s=edge.floor_s + extra_s)
    return replace(scenario, edge=slow)


Decisions = tuple[Sequence[bool], Sequence[int]] | tuple[Sequence[bool], Sequence[int], Sequence[int], Sequence[int]]
"""Of the requests of one round: granted, and local steps n; with several servers the numbers of server and model."""
Decide = Callable[[Ints, Any], Decisions]
"""Numbers of the requests of one round, and the `Load` at its end, of several servers a tuple -> decisions."""
Revise = Callable[[Ints, Load, int, Images], Ints]
"""Numbers of the requests of one round, the load at its end, how many of them are granted, and the images in flight ->
their new splits."""


@dataclass(frozen=True)
class Call:
    """One call of the scheduler, as a server would log it.

    Attributes:
        time_s: end of the round.
        requests: numbers of its requests.
        load: what the system was at work on; with several servers that of each.
        granted: decision on each.
        local_steps: split of each.
        server: with several servers number of the server of each.
        model: likewise of the model of each.
        revised: new splits of images in flight, by request; those that changed.
    """

    time_s: float
    requests: Sequence[int]
    load: Load | tuple[Load, ...]
    granted: Sequence[bool]
    local_steps: Sequence[int]
    server: Sequence[int] | None = None
    model: Sequence[int] | None = None
    revised: Mapping[int, int] = field(default_factory=dict)


@dataclass
class Records:
    """What happened to every request; arrays of shape (requests,), times in seconds since the start.

    Attributes:
        granted: whether it was offloaded.
        local_steps: split n; where splits are revised, the last one.
        planned_steps: split as it was decided at the end of its round.
        decided_s: end of its round, or when it was given up before that.
        left_s: when it left the edge.
        arrived_s: when its intermediate was on the device.
        ended_s: when its image was there, or when it was given up.
        given_up: whether it was given up.
        batch: images b_0 + b that its plan reckoned with.
        sending: intermediates q_0 + b that its plan reckoned with.
        met: images in flight that it met, b_0; those of all servers.
        gpus: GPUs at its decision; those of all servers.
        server: number of its server; `NOWHERE` if denied.
        model: number of its model; `NOWHERE` if denied.
        turns: models that take turns, as its plan reckoned.
    """

    granted: Bools
    local_steps: Ints
    planned_steps: Ints
    decided_s: Floats
    left_s: Floats
    arrived_s: Floats
    ended_s: Floats
    given_up: Bools
    batch: Ints
    sending: Ints
    met: Ints
    gpus: Ints
    server: Ints
    model: Ints
    turns: Ints

    @staticmethod
    def empty(requests: int) -> "Records":
        """Records of so many requests, to be filled in."""
        whole, times = np.zeros((7, requests), np.int64), np.full((4, requests), np.nan)
        yes, place = np.zeros((2, requests), bool), np.full((2, requests), NOWHERE)
        return Records(
            granted=yes[0], local_steps=whole[0], decided_s=times[0], left_s=times[1], arrived_s=times[2],
            ended_s=times[3], given_up=yes[1], batch=whole[1], sending=whole[2], met=whole[3], gpus=whole[4],
            server=place[0], model=place[1], turns=whole[5], planned_steps=whole[6],
        )  # fmt: skip

    def copy(self) -> "Records":
        """A copy that goes its own way."""
        return Records(**{name: values.copy() for name, values in vars(self).items()})


@dataclass
class State:
    """The system at some time; a copy goes its own way.

    Attributes:
        edges: images in flight at every server.
        radios: intermediates under way from every server.
        devices: users' devices.
        clock_s: the time.
        changes: number of GPU changes that have happened.
        given_up_s: (time, request) at which requests at the edge or on the radio are given up, a heap.
        rate: recent requests per second.
        last_round: round that was decided last.
    """

    edges: list[Edge]
    radios: list[SharedRadio]
    devices: Devices
    clock_s: float = 0.0
    changes: int = 0
    given_up_s: list[tuple[float, int]] = field(default_factory=list)
    rate: float = 0.0
    last_round: int = -1

    def copy(self) -> "State":
        """A copy that goes its own way."""
        edges, radios = [edge.copy() for edge in self.edges], [radio.copy() for radio in self.radios]
        return replace(self, edges=edges, radios=radios, devices=self.devices.copy(), given_up_s=self.given_up_s.copy())


class Simulation:
    """One run of a world.

    Attributes:
        world: what happens.
        records: what happened to every request so far.
        state: the system now.
        calls: calls of the scheduler; None where they are not kept.
        progress: function that is called with the number of decided requests.
        counts_steps: whether a load has the steps left of every image, which costs time.
        revise: new splits of the images in flight at the end of every round until the last that has requests; None
            where splits stay.
    """

    def __init__(
        self,
        world: World,
        log: bool = False,
        progress: Callable[[int], None] | None = None,
        counts_steps: bool = False,
        revise: Revise | None = None,
    ) -> None:
        self.world, self.progress, self.counts_steps = world, progress, counts_steps or log
        self.revise = revise
        self.records = Records.empty(len(world.requests))
        self.calls: list[Call] | None = [] if log else None
        servers, queue = world.fleet.servers, world.physics == "queue"
        edges = [Edge(_step_table(server), server.scenario.gpus, queue) for server in servers]
        radios = [SharedRadio(float(transmit_time(server.scenario, 1))) for server in servers]
        self.state = State(edges, radios, Devices(world.device_queueing))
        self._takes_turns = [len(world.fleet.roots(m)) > 1 for m in range(len(servers))]

    def run(self, decide: Decide) -> Records:
        """Play the world to its end."""
        for number, first, end in self.world.rounds:
            if self.revise:
                self._play_empty_rounds(number)
            self.play_round(number, first, end, decide)
            if self.progress:
                self.progress(end)
        self.advance(NEVER)
        return self.records

    def play_round(self, number: int, first: int, end: int, decide: Decide) -> None:
        """Go on to the end of a round and decide it."""
        now = (number + 1) * self.world.scenario.interval_s
        self.advance(now)
        waiting = self._still_waiting(now, np.arange(first, end))
        self._count_arrivals(number, end - first)
        if not waiting.size:
            self._revise_alone(now)
            return
        loads = self.loads()
        load = loads if self.world.several else loads[0]
        decisions = decide(waiting, load)
        revised = self._revise(now, waiting, loads[0], decisions[0])
        self.start(now, waiting, load, *decisions)
        self._log(now, waiting, load, decisions, revised)

    def _play_empty_rounds(self, before: int) -> None:
        """Rounds without requests until some round, as long as images are in flight, which may get new splits."""
        delta = self.world.scenario.interval_s
        for number in range(self.state.last_round + 1, before):
            now = (number + 1) * delta
            self.advance(now)
            if not len(self.state.edges[0]):
                return
            self._count_arrivals(number, 0)
            self._revise_alone(now)

    def _revise_alone(self, now: float) -> None:
        """Give images in flight new splits at the end of a round in which nobody waits for a decision."""
        nobody, load = np.zeros(0, np.int64), self.load()
        if revised := self._revise(now, nobody, load, []):
            self._log(now, nobody, load, ([], []), revised)

    def _log(
        self, now: float, requests: Ints, load: Load | tuple[Load, ...], decisions: Decisions, revised: dict[int, int]
    ) -> None:
        """Keep a call of the scheduler, where they are kept."""
        if self.calls is not None:
            granted, local_steps, *places = (list(part) for part in decisions)
            server, model = places or (None, None)
            call = Call(now, requests.tolist(), load, granted, local_steps, server, model, revised)  # type: ignore[arg-type]
            self.calls.append(call)

    def _images(self, requests: Ints, steps_left: Ints) -> Images:
        """The images of some requests as the scheduler sees them."""
        world = self.world
        own = None if world.requests.own_steps is None else world.total_steps[requests]
        n = self.records.local_steps[requests]
        return Images(world.step_latency_s[requests], world.alpha[requests], n, steps_left, own)

    def _revise(self, now: float, requests: Ints, load: Load, granted: Sequence[bool]) -> dict[int, int]:
        """Give images in flight new splits at the end of a round; returns those that change, by request."""
        edge, n = self.state.edges[0], self.records.local_steps
        left = edge.steps_left(now) if self.revise else {}
        if not left or not self.revise:
            return {}
        images, steps = np.array([*left]), np.array([*left.values()])
        new = self.revise(requests, load, sum(granted), self._images(images, steps))
        changed = images[new != n[images]].tolist()
        later = dict(zip(images.tolist(), (steps + n[images] - new).tolist(), strict=True))
        edge.change_steps(now, {image: later[image] for image in changed})
        n[images] = new
        return {image: int(n[image]) for image in changed}

    def load(self) -> Load:
        """What the first server, of one the whole system, is at work on now."""
        return self.loads()[0]

    def loads(self) -> tuple[Load, ...]:
        """What every server is at work on now."""
        return tuple(map(self._load, self.state.edges, self.state.radios))

    def _load(self, edge: Edge, radio: SharedRadio) -> Load:
        now = self.state.clock_s
        left = tuple(edge.steps_left(now).values()) if self.counts_steps else ()
        rate = self.state.rate / len(self.state.edges)  # nobody knows yet who goes where
        return Load(len(edge), len(radio), edge.gpus, rate, edge.queue_s(now), left, edge.models())

    def start(
        self,
        now: float,
        requests: Ints,
        load: Load | tuple[Load, ...],
        granted: Sequence[bool],
        local_steps: Sequence[int],
        server: Sequence[int] | None = None,
        model: Sequence[int] | None = None,
    ) -> None:
        """Do what was decided: granted requests join their edges, the others start on their devices.

        Args:
            now: end of the round.
            requests: numbers of its requests.
            load: what the system is at work on; with several servers that of each.
            granted: whether each request is granted.
            local_steps: split of each request.
            server: number of the server of each granted request; None where there is one.
            model: likewise number of the model.
        """
        at = _span(requests)
        self._note(at, granted, local_steps, server, model)
        self._note_loads(now, at, load)
        joining: list[dict[int, int]] = [{} for _ in self.state.edges]
        places = server or repeat(0)
        for request, offloads, n, m in zip(requests.tolist(), granted, local_steps, places, strict=False):
            steps = int(self.world.total_steps[request]) - n
            if not offloads:
                self._finish_locally(now, request)
                continue
            if steps:
                joining[m][request] = steps
            else:
                self._leave_edge(now, m, [request])
            self._watch(request)
        for m, steps_of in enumerate(joining):
            if steps_of:
                self.state.edges[m].add(now, steps_of, self._models_in_turn(m, steps_of))

    def advance(self, until: float) -> None:
        """Let everything happen that does until some time, that moment included."""
        state, changes = self.state, self.world.gpus_over_time
        edges, radios, alone = state.edges, state.radios, len(state.edges) == 1
        while True:
            edge, at_edge = (edges[0].next_time(), 0) if alone else _first(edges)
            radio, at_radio = (radios[0].next_time(), 0) if alone else _first(radios)
            change = changes[state.changes][0] if state.changes < len(changes) else NEVER
            given_up = state.given_up_s[0][0] if state.given_up_s else NEVER
            first = min(edge, radio, change, given_up)
            if first > until or first == NEVER:
                break
            state.clock_s = now = max(first, state.clock_s)
            if first == edge:
                self._leave_edge(now, at_edge, edges[at_edge].fire(now))
            elif first == radio:
                self._arrive(now, radios[at_radio].fire(now))
            elif first == change:
                edges[0].set_gpus(now, changes[state.changes][1])
                state.changes += 1
            else:
                self._give_up(now, heappop(state.given_up_s)[1])
        if until < NEVER:
            state.clock_s = until

    # -- what happens to a request --------------------------------------------------------------------------

    def _still_waiting(self, now: float, requests: Ints) -> Ints:
        """Requests of a round that nobody has given up yet."""
        gone = requests[self.world.deadline_s[requests] <= now]
        if gone.size:
            records, deadline = self.records, self.world.deadline_s[gone]
            records.given_up[gone] = True
            records.local_steps[gone] = records.planned_steps[gone] = self.world.total_steps[gone]
            records.decided_s[gone] = records.arrived_s[gone] = records.ended_s[gone] = deadline
        return requests if not gone.size else np.setdiff1d(requests, gone)

    def _count_arrivals(self, number: int, requests: int) -> None:
        state, delta = self.state, self.world.scenario.interval_s
        state.rate = added_arrivals(state.rate, requests, number - state.last_round, delta)
        state.last_round = number

    def _note(
        self,
        at: Ints | slice,
        granted: Sequence[bool],
        local_steps: Sequence[int],
        server: Sequence[int] | None,
        model: Sequence[int] | None,
    ) -> None:
        """Keep the decisions."""
        records = self.records
        records.granted[at], records.local_steps[at], records.planned_steps[at] = granted, local_steps, local_steps
        home = [int(offloads) + NOWHERE for offloads in granted] if server is None else server
        records.server[at], records.model[at] = home, home if model is None else model

    def _note_loads(self, now: float, at: Ints | slice, load: Load | tuple[Load, ...]) -> None:
        """Keep the loads that requests were decided at."""
        records = self.records
        records.decided_s[at] = now
        if isinstance(load, tuple):
            records.met[at], records.gpus[at] = sum(one.in_flight for one in load), sum(one.gpus for one in load)
            self._note_plans(np.arange(len(self.world.requests))[at], load)
            return
        granted = records.granted[at]
        b = sum(granted.tolist())
        records.met[at], records.gpus[at], records.turns[at] = load.in_flight, load.gpus, granted
        records.batch[at], records.sending[at] = granted * (load.in_flight + b), granted * (load.on_radio + b)

    def _note_plans(self, requests: Ints, loads: Sequence[Load]) -> None:
        """Keep what the plan reckoned with at every one of several servers."""
        records, bases = self.records, self.world.fleet.bases
        for m, load in enumerate(loads):
            here = requests[records.server[requests] == m]
            records.batch[here], records.sending[here] = load.in_flight + here.size, load.on_radio + here.size
            records.turns[here] = len({*load.models, *bases[records.model[here]].tolist()})

    def _models_in_turn(self, server: int, images: Iterable[int]) -> dict[int, int] | None:
        """The model that each image waits its turn for; None where a server's models take no turns."""
        if not self._takes_turns[server]:
            return None
        return {image: int(self.world.fleet.bases[self.records.model[image]]) for image in images}

    def _watch(self, request: int) -> None:
        """Give a granted request up at its deadline, wherever it is then."""
        deadline = float(self.world.deadline_s[request])
        if deadline < NEVER:
            heappush(self.state.given_up_s, (deadline, request))

    def _leave_edge(self, now: float, server: int, requests: Sequence[int]) -> None:
        for request in requests:
            self.records.left_s[request] = now
        radio, world = self.state.radios[server], self.world
        if radio.alone_s:
            own = None if world.users.rate is None else world.alone_s[requests, server].tolist()
            radio.add(now, requests, own)
        else:
            for request in requests:
                self._arrive(now, request)

    def _arrive(self, now: float, request: int) -> None:
        """The intermediate is on the device, which goes on."""
        self._finish_locally(now, request)

    def _finish_locally(self, now: float, request: int) -> None:
        world, records = self.world, self.records
        work = float(records.local_steps[request] * world.step_latency_s[request]) + float(world.decoding_s[request])
        deadline = float(world.deadline_s[request])
        end = self.state.devices.run(now, int(world.requests.user[request]), work, deadline)
        records.arrived_s[request], records.ended_s[request] = now, end
        records.given_up[request] = end >= deadline

    def _give_up(self, now: float, request: int) -> None:
        records = self.records
        if not np.isnan(records.arrived_s[request]):
            return  # its device has it, and knows the deadline
        places = self.state.edges if np.isnan(records.left_s[request]) else self.state.radios
        places[records.server[request]].remove(now, request)
        records.given_up[request] = True
        records.arrived_s[request] = records.ended_s[request] = now


def _span(requests: Ints) -> Ints | slice:
    """The places of ascending requests, as a slice where none is missing, which is quicker."""
    first, end = int(requests[0]), int(requests[-1]) + 1
    return slice(first, end) if end - first == requests.size else requests


def _first(places: Sequence[Edge] | Sequence[SharedRadio]) -> tuple[float, int]:
    """When something happens next at one of these, and the number of the one."""
    times = [place.next_time() for place in places]
    first = min(times)
    return first, times.index(first)


def _step_table(server: FleetServer) -> Callable[[int, int, int], float]:
    """L_e(b, G, a) as a look-up: a run asks for the same few numbers again and again."""
    known: dict[tuple[int, int, int], float] = {}

    def latency(batch: int, gpus: int, turns: int) -> float:
        key = batch, gpus, turns
        if key not in known:
            now = replace(server, scenario=replace(server.scenario, gpus=gpus))
            known[key] = float(now.step_latency(turns, batch))
        return known[key]

    return latency


def reviser(world: World, revise: Callable[..., Ints]) -> Revise:
    """What gives a world's images in flight new splits, by a function as `scheduler.revise` without its prices."""
    asking, scenario = world.asking, world.real_scenario

    def revise_images(requests: Ints, load: Load, newly: int, images: Images) -> Ints:
        return revise(scenario, load, asking.take(requests), newly, images)

    return revise_images


def fixed(*decisions: Sequence[Any]) -> Decide:
    """Decisions that are known before, by request: granted, local steps, and with several servers server and model."""

    def decide(requests: Ints, load: Any) -> Any:  # noqa: ARG001 - whatever the load
        at = _span(requests)
        if isinstance(at, slice):
            return tuple(part[at] for part in decisions)
        return tuple([part[i] for i in requests] for part in decisions)

    return decide


def decider(world: World, plan: Callable[..., Plan]) -> Decide:
    """A scheduler for a world's rounds.

    Args:
        world: the world.
        plan: as `scheduler.decide` without its rule; with several servers as `scheduler.decide_several`.
    """
    own, asking, scenario = world.requests.own_steps, world.asking, world.real_scenario

    def decide(requests: Ints, load: Any) -> Decisions:
        more = {} if own is None else {"own_steps": own[requests]}
        made = plan(scenario, load, asking.take(requests), images_each=world.images_each, **more)
        decided = made.granted.tolist(), made.local_steps.tolist()
        if not isinstance(made, FleetPlan):
            return decided
        return *decided, made.server.tolist(), made.model.tolist()

    return decide

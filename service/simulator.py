"""Hours of a service in seconds: requests arrive, rounds are decided, images step, travel and are finished.

Discrete events on a virtual clock. A request of round r, (r Delta, (r + 1) Delta], waits for the round's end. If it is
granted, its first N - n steps run at the edge (`Edge`), its intermediate is sent (`SharedRadio`), and its last n steps
run on its device (`Devices`); if it is denied, all N steps do. What a plan predicts is kept beside what then happens.
All times are in seconds since the start. Nothing here is random: the world holds what was drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heappop, heappush
from itertools import pairwise
from typing import Literal

import numpy as np

from ..common.arrays import Bools, Floats, Ints
from ..optimizer.model.qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from ..optimizer.model.terms import with_steps
from .resources import NEVER, Devices, Edge, SharedRadio
from .scheduler import Load, added_arrivals

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


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that happens to a service, whoever decides.

    Attributes:
        scenario: the system; its G is that of the start.
        users: whose requests they are.
        requests: the requests.
        gpus_over_time: (time, G) of every change, in order.
        physics: how images of several rounds share the edge.
        step_overhead_s: seconds that every edge step takes beyond its latency.
        decode_s: seconds that a device takes to decode the finished image; of every user, or one number for all.
        device_queueing: whether a device works on one of its requests at a time.
        images_each: images that the memory of one edge GPU holds; None if that is not known.
    """

    scenario: Scenario
    users: Users
    requests: Requests
    gpus_over_time: Sequence[tuple[float, int]] = ()
    physics: Physics = "continuous"
    step_overhead_s: float = 0.0
    decode_s: float | Floats = 0.0
    device_queueing: bool = False
    images_each: int | None = None

    @cached_property
    def real_scenario(self) -> Scenario:
        """The system with the overhead in every step."""
        edge, extra = self.scenario.edge, self.step_overhead_s
        slow = replace(edge, intercept_s=edge.intercept_s + extra, floor_s=edge.floor_s + extra)
        return replace(self.scenario, edge=slow) if extra else self.scenario

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

    def pai(self, local_steps: Ints) -> Floats:
        """F(n) of every request; of images with own steps at the same share of N."""
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


Decisions = tuple[Sequence[bool], Sequence[int]]
"""Of the requests of one round: granted, and local steps n."""
Decide = Callable[[Ints, Load], Decisions]
"""Numbers of the requests of one round, and the load at its end -> decisions."""


@dataclass(frozen=True)
class Call:
    """One call of the scheduler, as a server would log it.

    Attributes:
        time_s: end of the round.
        requests: numbers of its requests.
        load: what the system was at work on.
        granted: decision on each.
        local_steps: split of each.
    """

    time_s: float
    requests: Sequence[int]
    load: Load
    granted: Sequence[bool]
    local_steps: Sequence[int]


@dataclass
class Records:
    """What happened to every request; arrays of shape (requests,), times in seconds since the start.

    Attributes:
        granted: whether it was offloaded.
        local_steps: split n.
        decided_s: end of its round, or when it was given up before that.
        left_s: when it left the edge.
        arrived_s: when its intermediate was on the device.
        ended_s: when its image was there, or when it was given up.
        given_up: whether it was given up.
        batch: images b_0 + b that its plan reckoned with.
        sending: intermediates q_0 + b that its plan reckoned with.
        met: images in flight that it met, b_0.
        gpus: GPUs at its decision.
    """

    granted: Bools
    local_steps: Ints
    decided_s: Floats
    left_s: Floats
    arrived_s: Floats
    ended_s: Floats
    given_up: Bools
    batch: Ints
    sending: Ints
    met: Ints
    gpus: Ints

    @staticmethod
    def empty(requests: int) -> "Records":
        """Records of so many requests, to be filled in."""
        whole, times = np.zeros((5, requests), np.int64), np.full((4, requests), np.nan)
        yes = np.zeros((2, requests), bool)
        return Records(
            granted=yes[0], local_steps=whole[0], decided_s=times[0], left_s=times[1], arrived_s=times[2],
            ended_s=times[3], given_up=yes[1], batch=whole[1], sending=whole[2], met=whole[3], gpus=whole[4],
        )  # fmt: skip


@dataclass
class State:
    """The system at some time; a copy goes its own way.

    Attributes:
        edge: images in flight.
        radio: intermediates under way.
        devices: users' devices.
        clock_s: the time.
        changes: number of GPU changes that have happened.
        given_up_s: (time, request) at which requests at the edge or on the radio are given up, a heap.
        rate: recent requests per second.
        last_round: round that was decided last.
    """

    edge: Edge
    radio: SharedRadio
    devices: Devices
    clock_s: float = 0.0
    changes: int = 0
    given_up_s: list[tuple[float, int]] = field(default_factory=list)
    rate: float = 0.0
    last_round: int = -1

    def copy(self) -> "State":
        """A copy that goes its own way."""
        edge, radio, devices = self.edge.copy(), self.radio.copy(), self.devices.copy()
        return replace(self, edge=edge, radio=radio, devices=devices, given_up_s=self.given_up_s.copy())


class Simulation:
    """One run of a world.

    Attributes:
        world: what happens.
        records: what happened to every request so far.
        state: the system now.
        calls: calls of the scheduler; None where they are not kept.
        progress: function that is called with the number of decided requests.
        counts_steps: whether a load has the steps left of every image, which costs time.
    """

    def __init__(
        self,
        world: World,
        log: bool = False,
        progress: Callable[[int], None] | None = None,
        counts_steps: bool = False,
    ) -> None:
        self.world, self.progress, self.counts_steps = world, progress, counts_steps or log
        self.records = Records.empty(len(world.requests))
        self.calls: list[Call] | None = [] if log else None
        scenario = world.real_scenario
        edge = Edge(_step_table(scenario), scenario.gpus, world.physics == "queue")
        self.state = State(edge, SharedRadio(float(transmit_time(scenario, 1))), Devices(world.device_queueing))

    def run(self, decide: Decide) -> Records:
        """Play the world to its end."""
        for number, first, end in self.world.rounds:
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
        if waiting.size:
            load = self.load()
            granted, local_steps = decide(waiting, load)
            self.start(now, waiting, load, granted, local_steps)

    def load(self) -> Load:
        """What the system is at work on now."""
        state = self.state
        left = tuple(state.edge.steps_left(state.clock_s)) if self.counts_steps else ()
        queue_s = state.edge.queue_s(state.clock_s)
        return Load(len(state.edge), len(state.radio), state.edge.gpus, state.rate, queue_s, left)

    def start(
        self, now: float, requests: Ints, load: Load, granted: Sequence[bool], local_steps: Sequence[int]
    ) -> None:
        """Do what was decided: granted requests join the edge, the others start on their devices."""
        if self.calls is not None:
            self.calls.append(Call(now, requests.tolist(), load, list(granted), list(local_steps)))
        self._note(now, requests, load, granted, local_steps)
        joining: dict[int, int] = {}
        for request, offloads, n in zip(requests.tolist(), granted, local_steps, strict=True):
            steps = int(self.world.total_steps[request]) - n
            if not offloads:
                self._finish_locally(now, request)
                continue
            if steps:
                joining[request] = steps
            else:
                self.records.left_s[request] = now
                self._send(now, [request])
            self._watch(request)
        if joining:
            self.state.edge.add(now, joining)

    def advance(self, until: float) -> None:
        """Let everything happen that does until some time, that moment included."""
        state, changes = self.state, self.world.gpus_over_time
        while True:
            edge, radio = state.edge.next_time(), state.radio.next_time()
            change = changes[state.changes][0] if state.changes < len(changes) else NEVER
            given_up = state.given_up_s[0][0] if state.given_up_s else NEVER
            first = min(edge, radio, change, given_up)
            if first > until or first == NEVER:
                break
            state.clock_s = now = max(first, state.clock_s)
            if first == edge:
                self._leave_edge(now, state.edge.fire(now))
            elif first == radio:
                self._arrive(now, state.radio.fire(now))
            elif first == change:
                state.edge.set_gpus(now, changes[state.changes][1])
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
            records.local_steps[gone] = self.world.total_steps[gone]
            records.decided_s[gone] = records.arrived_s[gone] = records.ended_s[gone] = deadline
        return requests if not gone.size else np.setdiff1d(requests, gone)

    def _count_arrivals(self, number: int, requests: int) -> None:
        state, delta = self.state, self.world.scenario.interval_s
        state.rate = added_arrivals(state.rate, requests, number - state.last_round, delta)
        state.last_round = number

    def _note(
        self, now: float, requests: Ints, load: Load, granted: Sequence[bool], local_steps: Sequence[int]
    ) -> None:
        """Keep the decisions and the load that they were made at."""
        records, b = self.records, sum(granted)
        records.granted[requests], records.local_steps[requests] = granted, local_steps
        records.decided_s[requests], records.met[requests], records.gpus[requests] = now, load.in_flight, load.gpus
        records.batch[requests], records.sending[requests] = load.in_flight + b, load.on_radio + b

    def _watch(self, request: int) -> None:
        """Give a granted request up at its deadline, wherever it is then."""
        deadline = float(self.world.deadline_s[request])
        if deadline < NEVER:
            heappush(self.state.given_up_s, (deadline, request))

    def _leave_edge(self, now: float, requests: Sequence[int]) -> None:
        for request in requests:
            self.records.left_s[request] = now
        self._send(now, requests)

    def _send(self, now: float, requests: Sequence[int]) -> None:
        if self.state.radio.alone_s:
            self.state.radio.add(now, requests)
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
        place = self.state.edge if np.isnan(records.left_s[request]) else self.state.radio
        place.remove(now, request)
        records.given_up[request] = True
        records.arrived_s[request] = records.ended_s[request] = now


def _step_table(scenario: Scenario) -> Callable[[int, int], float]:
    """L_e(b, G) as a look-up: a run asks for the same few numbers again and again."""
    known: dict[tuple[int, int], float] = {}

    def latency(batch: int, gpus: int) -> float:
        key = batch, gpus
        if key not in known:
            known[key] = float(edge_step_latency(replace(scenario, gpus=gpus), batch))
        return known[key]

    return latency


def fixed(granted: Sequence[bool], local_steps: Sequence[int]) -> Decide:
    """Decisions that are known before, by request."""

    def decide(requests: Ints, load: Load) -> Decisions:  # noqa: ARG001 - whatever the load
        first, end = int(requests[0]), int(requests[-1]) + 1
        if end - first == requests.size:
            return granted[first:end], local_steps[first:end]
        return [granted[i] for i in requests], [local_steps[i] for i in requests]

    return decide


def decider(world: World, plan: Callable[..., Plan]) -> Decide:
    """A scheduler for a world's rounds; `plan` as `scheduler.decide` without its rule."""
    own, latency, alpha = world.requests.own_steps, world.step_latency_s, world.alpha
    slots, scenario = np.full(len(world.requests), world.scenario.slots), world.real_scenario
    cell = np.zeros(len(world.requests), np.int64)

    def decide(requests: Ints, load: Load) -> Decisions:
        users = Users(latency[requests], alpha[requests], slots[requests], cell[requests])
        steps = None if own is None else own[requests]
        made = plan(scenario, load, users, own_steps=steps, images_each=world.images_each)
        return made.granted.tolist(), made.local_steps.tolist()

    return decide

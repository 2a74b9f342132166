"""Many worlds played in step with each other: the vectorised twin of `service.simulator`.

All worlds decide their rounds at the same times, so a round of all of them is one call of the exact solver. Between two
rounds each world goes on by its own next event, those of all worlds at once. Decisions and times are those of
`Simulation`; the twin knows the `continuous` physics of one server, and neither patience, nor queues of devices, nor
own numbers of steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ...common.errors import InputError
from ...optimizer.methods.counts import Group
from ...optimizer.methods.exact import best_decision
from ...optimizer.model.qoe import BusyScenario, Scenario, numbers_of
from ...optimizer.model.split import pai_change
from ...optimizer.model.terms import Prices, Terms
from ..price_policy import NOBODY_S, Sight
from ..resources import NEVER
from ..scheduler import Images, TrainedPrices, formula, recent_rate, revised_split, revision_cost, sending
from ..simulator import World

FREE = 1 << 40
"""Steps left of a place at the edge that nobody has."""
PLACES = 64
"""Places for images at an edge, and on a radio, at first."""

STATE = (
    "rate", "_left", "_waits", "_image", "_began_s", "_step_s", "_due",
    "_sent", "_sent_end", "_head", "_tail", "_work", "_since_s", "_gpus", "_change",
)  # fmt: skip
BY_REQUEST = ("_decided_s", "_known", "local_steps", "gain")
"""What a world's state consists of between two rounds, and of that what has an entry for each request."""

Pricing = Callable[[Scenario, Sight], Prices]
"""The system with the GPUs of now and what is seen of a round, arrays of shape (worlds,) -> its prices, likewise."""


def formula_pricing(now: Scenario, sight: Sight) -> Prices:
    """The rule `price` in all worlds."""
    return formula(now, sight.in_flight, sight.on_radio)


def tuned_pricing(rule: TrainedPrices) -> Pricing:
    """The rule `trained` in all worlds."""
    return lambda now, sight: rule.prices(now, sight.in_flight, sight.on_radio, sight.arrivals_per_s)


class VectorSimulation:
    """Runs of many worlds.

    Attributes:
        worlds: the worlds; their scenarios may differ in GPUs and bandwidth alone.
        round: number of the round that is decided next.
        rounds: number of rounds of the longest world.
        asking: the requests of the round that `begin_round` began: their numbers, the users as cells, and which of the
            places are somebody, each of shape (worlds, places).
        gain: what each request of each world turned out to gain over all local, seconds, shape (worlds, requests);
            NaN while it is not known.
        local_steps: split of each request, the same shape.
        rate: exponential mean of the requests per second until the last round, shape (worlds,).
        revises: whether images in flight get new splits at the end of every round.
    """

    def __init__(self, worlds: Sequence[World], revises: bool = False) -> None:
        """Worlds at their start.

        Raises:
            InputError: for worlds that the twin cannot play.
        """
        for world in worlds:
            _check(world, worlds[0])
        self.worlds, self.scenario, self.round, self.revises = worlds, worlds[0].real_scenario, 0, revises
        self._read_requests(worlds)
        self._read_gpus(worlds)
        count, most = self._latency.shape
        self._rows, self.rate = np.arange(count), np.zeros(count)
        self._decided_s, self.local_steps = np.full((count, most), np.nan), np.zeros((count, most), np.int64)
        self.gain, self._known = np.full((count, most), np.nan), np.zeros((count, most), np.int64)
        self._decided = -1  # the round that was decided last
        self._start_edge(count)
        self._start_radio(count)

    def _read_requests(self, worlds: Sequence[World]) -> None:
        """Everybody's device and weight, and where each round's requests begin."""
        most = max(len(world.requests) for world in worlds)
        self._latency = _padded([world.step_latency_s for world in worlds], most)
        self._alpha = _padded([world.alpha for world in worlds], most)
        self.rounds = 1 + max(int(world.round_of.max(initial=0)) for world in worlds)
        self._first = np.array([np.searchsorted(world.round_of, np.arange(self.rounds + 1)) for world in worlds])
        self._last_round = np.array([world.round_of.max(initial=-1) for world in worlds])

    def _read_gpus(self, worlds: Sequence[World]) -> None:
        """Bandwidth, and the changes of the number of GPUs."""
        self._bandwidth_hz = np.array([world.scenario.bandwidth_hz for world in worlds])
        self._alone_s = np.array([sending(world.real_scenario) for world in worlds])
        self._changes = [[*world.gpus_over_time, (NEVER, 0)] for world in worlds]
        self._change = np.zeros(len(worlds), np.int64)
        self._change_s = np.array([changes[0][0] for changes in self._changes])
        self._gpus = np.array([world.scenario.gpus for world in worlds])

    def _start_edge(self, count: int) -> None:
        """Idle edges."""
        self._left = np.full((count, PLACES), FREE)  # steps left of images that step
        self._waits = np.zeros((count, PLACES), np.int64)  # steps of images that join between two steps
        self._image = np.zeros((count, PLACES), np.int64)
        self._began_s, self._step_s = np.zeros(count), np.full(count, NEVER)
        self._due = np.zeros(count)  # steps from `began_s` until somebody joins or leaves, or the GPUs change

    def _start_radio(self, count: int) -> None:
        """Silent radios."""
        self._sent = np.zeros((count, PLACES), np.int64)  # a ring of requests, the first to come first
        self._sent_end = np.zeros((count, PLACES))  # the radio's work at which each is there
        self._head, self._tail = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._work, self._since_s = np.zeros(count), np.zeros(count)

    @property
    def gpus(self) -> Ints:
        """GPUs of now, shape (worlds,); where it is 0, nobody is granted whatever is decided."""
        return self._gpus

    # -- rounds ---------------------------------------------------------------------------------------------

    def run(self, pricing: Pricing) -> Floats:
        """Play all worlds to their end; returns what each gains over all local, seconds, shape (worlds,)."""
        while self.round < self.rounds:
            now, sight = self.begin_round()
            self.end_round(now, sight, pricing(now, sight))
        self.advance(NEVER)
        total: Floats = self.gains_by_round().sum(axis=1)
        return total

    def branch(self, worlds: Sequence[World]) -> "VectorSimulation":
        """The first world at the end of its last round, going on as each of these worlds, whose past is the same."""
        other, count = VectorSimulation(worlds, self.revises), len(worlds)
        for name in (*STATE, *BY_REQUEST):
            now = np.repeat(getattr(self, name)[:1], count, axis=0)
            if name in BY_REQUEST:  # worlds differ in the number of requests to come, of which nothing is known
                fresh = getattr(other, name)
                known = min(now.shape[1], fresh.shape[1])
                fresh[:, :known] = now[:, :known]
            else:
                setattr(other, name, now)
        other.round, other._decided = self.round, self._decided
        other._change_s = np.array([row[at][0] for row, at in zip(other._changes, other._change, strict=True)])
        return other

    def gains_by_round(self) -> Floats:
        """What the requests of each round turned out to gain, seconds, shape (worlds, rounds); unknown ones count 0."""
        sums = np.zeros((len(self.worlds), self.gain.shape[1] + 1))
        np.cumsum(np.nan_to_num(self.gain), axis=1, out=sums[:, 1:])
        return np.diff(np.take_along_axis(sums, self._first, axis=1), axis=1)

    def gains_by_time(self) -> Floats:
        """What became known of the gains after the decision of each round and until that of the next, likewise.

        All that the decision of a round changes, for those in flight as well, stands there or later.
        """
        sums = np.zeros((len(self.worlds), self.rounds))
        np.add.at(sums, (self._rows[:, None], self._known), np.nan_to_num(self.gain))
        return sums

    def begin_round(self) -> tuple[Scenario, Sight]:
        """Go on to the end of the next round; returns the system of now, and what is seen, of all worlds."""
        delta = self.scenario.interval_s
        self.advance((self.round + 1) * delta)
        asked = self._first[:, self.round + 1] - self._first[:, self.round]
        self.rate = recent_rate(self.rate, asked.astype(float), delta)
        self.asking = self._asking()
        mean = self.asking[1].latency.sum(axis=1) / np.maximum(1, asked)
        in_flight = (self._left < FREE).sum(axis=1) + (self._waits > 0).sum(axis=1)
        sight = Sight(in_flight, self._tail - self._head, self.rate, asked, np.where(asked > 0, mean, NOBODY_S))
        numbers = {**numbers_of(self.scenario), "gpus": np.maximum(self._gpus, 1), "bandwidth_hz": self._bandwidth_hz}
        return Scenario(**numbers), sight

    def end_round(self, now: Scenario, sight: Sight, prices: Prices) -> None:
        """Decide the round that `begin_round` began, at these prices, by the exact solver."""
        terms = _terms(now, sight, prices)
        self._end(terms, *best_decision(terms, self.asking[1]))

    def split_round(self, now: Scenario, sight: Sight, prices: Prices, granted: Bools) -> None:
        """Decide it by granting these users, shape (worlds, places), each with the best split at that batch."""
        terms, batch = _terms(now, sight, prices), granted.sum(axis=1)
        local_steps, _ = self.asking[1].best_split(terms, terms.step_cost(batch)[:, None])
        self._end(terms, granted, local_steps)

    def _end(self, terms: Terms, granted: Bools, local_steps: Ints) -> None:
        request, _, there = self.asking
        granted, self._decided = granted & there & (self._gpus > 0)[:, None], self.round
        if self.revises:
            self._revise(revision_cost(terms, granted.sum(axis=1)))
        self._start(request, there, granted, local_steps)
        self.round += 1

    def _asking(self) -> tuple[Ints, Group, Bools]:
        """The requests of the round: their numbers, the users as cells, and which of the places are somebody."""
        first, end = self._first[:, self.round], self._first[:, self.round + 1]
        request = first[:, None] + np.arange(max(1, int(np.max(end - first))))
        there = request < end[:, None]
        request = np.where(there, request, 0)
        latency, alpha = (np.take_along_axis(of, request, axis=1) * there for of in (self._latency, self._alpha))
        return request, Group(latency, alpha), there

    def steps_left(self) -> Ints:
        """Steps left of the images in flight at the end of the round, shape (worlds, places); 0 at free places."""
        now = (self.round + 1) * self.scenario.interval_s
        steps = np.maximum(0, (now - self._began_s) / self._step_s) + 1e-9  # none where nothing steps: by infinity
        left = self._left - steps.astype(np.int64)[:, None]
        return np.where(self._left < FREE, left, self._waits)

    def _revise(self, step_cost_s: Floats) -> None:
        """Give images in flight the splits that are best where a step costs so much, shape (worlds,)."""
        left, goes_on = self.steps_left(), (self._last_round >= self.round) & (self._gpus > 0)
        at, place = np.nonzero((left > 0) & goes_on[:, None])
        request, m = self._image[at, place], left[at, place]
        n = self.local_steps[at, request]
        images = Images(self._latency[at, request], self._alpha[at, request], n, m)
        new = revised_split(self.scenario, images, step_cost_s[at])
        self.local_steps[at, request] = new
        stepping = self._left[at, place] < FREE
        for steps, here in ((self._left, stepping), (self._waits, ~stepping)):
            steps[at[here], place[here]] += (n - new)[here]
        self._due = np.minimum(self._due, self._left.min(axis=1))

    def _start(self, request: Ints, there: Bools, granted: Bools, local_steps: Ints) -> None:
        """Do what was decided for the requests of the round, arrays of shape (worlds, places)."""
        now, total = (self.round + 1) * self.scenario.interval_s, self.scenario.total_steps
        rows = np.broadcast_to(self._rows[:, None], request.shape)
        self._decided_s[rows[there], request[there]] = now
        self.local_steps[rows[there], request[there]] = np.where(granted, local_steps, total)[there]
        denied = there & ~granted
        self.gain[rows[denied], request[denied]] = 0.0
        steps = total - local_steps
        self._join(now, granted & (steps > 0), request, steps)
        at, place = np.nonzero(granted & (steps == 0))
        self._put_on_radio(at, request[at, place], np.full(at.size, now))

    # -- events ---------------------------------------------------------------------------------------------

    def advance(self, until: float) -> None:
        """Let everything happen in every world that does until some time, that moment included."""
        while True:
            with np.errstate(invalid="ignore"):
                edge = np.where(np.isfinite(self._step_s), self._began_s + self._due * self._step_s, NEVER)
            sending_now = self._tail > self._head
            first_end = self._sent_end[self._rows, self._head % self._sent.shape[1]]
            radio = np.where(sending_now, self._since_s + (first_end - self._work) * (self._tail - self._head), NEVER)
            first = np.minimum(np.minimum(edge, radio), self._change_s)
            happens = (first <= until) & (first < NEVER)
            if not happens.any():
                return
            self._fire(np.flatnonzero(happens & (edge == first)), edge)
            self._arrive(np.flatnonzero(happens & (radio == first) & (edge != first)), radio)
            for row in np.flatnonzero(happens & (edge != first) & (radio != first)).tolist():
                self._set_gpus(row)

    def _fire(self, rows: Ints, time_s: Floats) -> None:
        """Images leave, join and set off again between two steps."""
        if not rows.size:
            return
        left = self._left[rows]
        left = np.where(left < FREE, left - self._due[rows].astype(np.int64)[:, None], FREE)
        gone = left <= 0
        self._left[rows] = np.where(gone, FREE, left)
        if gone.any():
            at, place = np.nonzero(gone)
            self._put_on_radio(rows[at], self._image[rows[at], place], time_s[rows[at]])
        self._begin(rows, time_s[rows])

    def _begin(self, rows: Ints, now: Floats) -> None:
        """Waiting images join, and a step starts."""
        waits = self._waits[rows]
        left = np.where(waits > 0, waits, self._left[rows])
        self._left[rows], self._waits[rows] = left, 0
        batch, gpus = (left < FREE).sum(axis=1), self._gpus[rows]
        latency = self.scenario.edge.step_latency(batch / np.maximum(gpus, 1))
        self._began_s[rows], self._due[rows] = now, left.min(axis=1)
        self._step_s[rows] = np.where((batch > 0) & (gpus > 0), latency, NEVER)

    def _wake(self, rows: Ints, now: float) -> None:
        """Stop at the first step that ends now or later; idle edges start at once."""
        idle = ~np.isfinite(self._step_s[rows])
        self._begin(rows[idle], np.full(int(idle.sum()), now))
        busy = rows[~idle]
        self._due[busy] = np.ceil((now - self._began_s[busy]) / self._step_s[busy] - 1e-9)

    def _join(self, now: float, granted: Bools, request: Ints, steps: Ints) -> None:
        """New images wait at the edge for the next step."""
        rows = np.flatnonzero(granted.any(axis=1))
        if not rows.size:
            return
        at, place = np.nonzero(granted)
        order = np.cumsum(granted, axis=1)[at, place] - 1
        self._make_room(int(order.max()) + 1)
        free = (self._left == FREE) & (self._waits == 0)
        spot = np.argsort(~free, axis=1, kind="stable")[at, order]
        self._waits[at, spot], self._image[at, spot] = steps[at, place], request[at, place]
        self._wake(rows, now)

    def _make_room(self, most: int) -> None:
        """Give every edge room for so many more images."""
        used = (self._left < FREE) | (self._waits > 0)
        missing = int(used.sum(axis=1).max()) + most - used.shape[1]
        if missing > 0:
            more = ((0, 0), (0, max(missing, used.shape[1])))
            self._left = np.pad(self._left, more, constant_values=FREE)
            self._waits, self._image = np.pad(self._waits, more), np.pad(self._image, more)

    def _set_gpus(self, row: int) -> None:
        """The next change of a world's number of GPUs."""
        now, self._gpus[row] = self._changes[row][self._change[row]]
        self._change[row] += 1
        self._change_s[row] = self._changes[row][self._change[row]][0]
        if ((self._left[row] < FREE) | (self._waits[row] > 0)).any():
            self._wake(np.array([row]), now)

    def _put_on_radio(self, rows: Ints, requests: Ints, now: Floats) -> None:
        """Intermediates start to be sent; several of a world in the order of their requests' places."""
        silent = self._alone_s[rows] == 0
        self._finish(rows[silent], requests[silent], now[silent])
        rows, requests, now = rows[~silent], requests[~silent], now[~silent]
        if not rows.size:
            return
        self._work_until(rows, now)
        missing = int((self._tail - self._head).max() + np.bincount(rows).max()) + 1 - self._sent.shape[1]
        if missing > 0:
            self._widen_radio(missing)
        order = np.arange(rows.size) - np.searchsorted(rows, rows)  # rows come sorted
        spot = (self._tail[rows] + order) % self._sent.shape[1]
        self._sent[rows, spot], self._sent_end[rows, spot] = requests, self._work[rows] + self._alone_s[rows]
        np.add.at(self._tail, rows, 1)

    def _widen_radio(self, missing: int) -> None:
        """At least so many more places in every ring, and twice those there are; its first one in the first place."""
        size = self._sent.shape[1]
        places, more = (self._head[:, None] + np.arange(size)) % size, ((0, 0), (0, max(missing, size)))
        self._sent = np.pad(np.take_along_axis(self._sent, places, axis=1), more)
        self._sent_end = np.pad(np.take_along_axis(self._sent_end, places, axis=1), more)
        self._tail, self._head = self._tail - self._head, np.zeros_like(self._head)

    def _work_until(self, rows: Ints, now: Floats) -> None:
        """Send on until some time, with what is on the radio."""
        there = self._tail[rows] - self._head[rows]
        work = (now - self._since_s[rows]) / np.maximum(there, 1)
        self._work[rows] = np.where(there > 0, self._work[rows] + work, self._work[rows])
        self._since_s[rows] = now

    def _arrive(self, rows: Ints, time_s: Floats) -> None:
        """The first intermediate of some worlds is on its device, which goes on."""
        if not rows.size:
            return
        now, spot = time_s[rows], self._head[rows] % self._sent.shape[1]
        self._work_until(rows, now)
        self._work[rows] = self._sent_end[rows, spot]
        self._head[rows] += 1
        self._finish(rows, self._sent[rows, spot], now)

    def _finish(self, rows: Ints, requests: Ints, now: Floats) -> None:
        """What requests turned out to gain: alpha (F(n) - F(N)) + (N - n) L_i, less their time at edge and radio."""
        n = self.local_steps[rows, requests]
        saved = (self.scenario.total_steps - n) * self._latency[rows, requests]
        away = now - self._decided_s[rows, requests]
        self._known[rows, requests] = self._decided
        self.gain[rows, requests] = self._alpha[rows, requests] * pai_change(self.scenario)[n] + saved - away


def _terms(now: Scenario, sight: Sight, prices: Prices) -> Terms:
    """The terms of a round in every world."""
    load = {"in_flight": sight.in_flight, "on_radio": sight.on_radio}
    return Terms(BusyScenario(**numbers_of(now), **load), prices)  # type: ignore[arg-type]


def _padded(rows: Sequence[Floats], most: int) -> Floats:
    """Arrays of different lengths as the rows of one, with zeros behind them."""
    return np.array([np.pad(np.asarray(row, float), (0, most - len(row))) for row in rows])


def _check(world: World, other: World) -> None:
    """Refuse a world that the twin cannot play beside another."""
    one, two = (replace(each.real_scenario, gpus=1, bandwidth_hz=1.0) for each in (world, other))
    plain = world.physics == "continuous" and not world.device_queueing and not world.several
    patient = np.all(np.isinf(world.requests.patience_s)) and world.requests.own_steps is None
    if not (one == two and plain and patient and world.images_each is None):
        raise InputError(
            "a vectorised world: found several servers, queues, patience, own steps, or scenarios that differ in more "
            "than GPUs and bandwidth, accepted: continuous worlds of one scenario and one server"
        )

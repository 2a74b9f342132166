"""The edge server without its HTTP: rounds on the real clock, what is in flight, and hand-offs on the radio.

The requests of a round are decided at its end by the same `scheduler.decide` as in the simulator; granted ones go to
the engine. All times are of the monotonic clock, in seconds.
"""

import asyncio
import contextlib
import itertools
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..common.console import say
from ..common.errors import reason_of
from ..fitting.latency import LatencyModel, fit_latency
from ..optimizer.model.qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from .engines import EdgeEngine, EdgeImage, EngineError, Tick
from .protocol import Ask, Decision, LatencyParts, ProblemError
from .resources import NEVER, SharedRadio
from .scheduler import Load, added_arrivals, decide

WINDOW_TICKS = 400
"""Ticks from which the step latency is estimated."""
FEWEST_TICKS = 20
"""Ticks below which it stays the profile's."""
KEPT_S = 600.0
"""Seconds for which a finished request is known by its key."""
MOST_KEPT = 20_000
"""Finished requests that are known at most; those that ended first are forgotten first."""
SWEEP_S = 5.0
"""Seconds between two looks for what is to be forgotten."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
"""Seconds before an engine is started again: the first time, and after it ended again and again."""


@dataclass(eq=False)
class Entry:
    """A request and what became of it.

    Attributes:
        name: its name in later calls.
        ask: what the device asked for.
        asked_s: when it came.
        decision: what was decided; set at the end of its round.
        key: its Idempotency-Key, where it has one.
        payload: its hand-off while it is on the radio.
        handoff: its hand-off as bytes, or a problem; set once it is on the device's side of the radio.
        steps_left: steps left at the edge; 0 before it is granted and after it has left.
        decided_s: when its round ended.
        left_s: when it left the edge.
        arrived_s: when its hand-off had crossed the radio.
        over_s: when it was finished, cancelled or had failed; None while it is at work.
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
    steps_left: int = 0
    decided_s: float | None = None
    left_s: float | None = None
    arrived_s: float | None = None
    over_s: float | None = None
    payload: bytes = b""
    stepping: bool = False
    waiting: int = 0
    reported: bool = False

    @property
    def edge_s(self) -> float:
        """Seconds from the end of its round until it left the edge; 0 where it never did."""
        return 0.0 if self.left_s is None or self.decided_s is None else self.left_s - self.decided_s


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """How a server decides and what it allows.

    Attributes:
        scenario: the system.
        plan: function as `scheduler.decide` without its rule.
        counts_steps: whether it needs the steps left of every image.
        images_each: images that the memory of one GPU holds; None if that is not known.
        emulate_radio: whether hand-offs are paced as on the paper's radio.
        frozen_profile: whether the step latency stays the profile's, whatever the ticks take.
        most_pending: requests that may wait for the end of their round.
        expiry_s: seconds after which a hand-off that nobody fetched is forgotten.
    """

    scenario: Scenario
    plan: Callable[..., Plan] = decide
    counts_steps: bool = False
    images_each: int | None = None
    emulate_radio: bool = False
    frozen_profile: bool = False
    most_pending: int = 1000
    expiry_s: float = 60.0


@dataclass
class Counters:
    """What the metrics show beside the states."""

    granted: int = 0
    denied: int = 0
    cancelled: int = 0
    failed: int = 0
    expired: int = 0
    rejected: int = 0
    rounds: int = 0
    deaths: int = 0


class Rounds:
    """The core of an edge server.

    Attributes:
        settings: how it decides; known once it has started.
        engine: what runs the steps.
        entries: every request that is known, by name.
        counters: what happened so far.
        calls: listeners to the scheduler's calls, as dictionaries.
        estimate: the step latency that plans reckon with.
        ready: whether the engine can take images.
        stopping: whether the server is about to end.
    """

    def __init__(self, prepare: Callable[[dict[str, Any]], RoundSettings], engine: EdgeEngine) -> None:
        """A server that has not started.

        Args:
            prepare: function of what the engine says of its model.
            engine: what runs the steps.
        """
        self._prepare, self.engine = prepare, engine
        self.entries: dict[str, Entry] = {}
        self.by_key: dict[str, Entry] = {}
        self.counters = Counters()
        self.calls: list[Callable[[dict[str, Any]], None]] = []
        self.ticks: list[Callable[[Tick], None]] = []
        self.ready = False
        self._facts: dict[str, Any] | None = None
        self._begins: list[Callable[[RoundSettings], object]] = []
        self._pending: dict[str, Entry] = {}
        self._in_flight: dict[str, Entry] = {}
        self._radio_moved = asyncio.Event()
        self._sending: dict[int, Entry] = {}
        self._numbers = itertools.count()
        self._rate, self._last_round = 0.0, -1
        self._start_s = self._swept_s = self._engine_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._tasks: list[asyncio.Task[None]] = []
        self.stopping = False

    def watch(self, begin: Callable[[RoundSettings], object], call: Callable[[dict[str, Any]], None]) -> None:
        """Tell a listener of the settings, once they are known, and of every call of the scheduler."""
        self._begins.append(begin)
        self.calls.append(call)

    # -- life -----------------------------------------------------------------------------------------------

    async def start(self) -> dict[str, Any]:
        """Start the engine and the rounds, once; returns what the engine says of its model.

        Raises:
            EngineError: where the engine cannot start.
        """
        if self._facts is not None:
            return self._facts
        self._facts = facts = await self.engine.start(self._on_tick, self._on_death)
        self.settings = self._prepare(facts)
        for begin in self._begins:
            begin(self.settings)
        scenario = self.settings.scenario
        self.estimate = LatencyEstimate(scenario.edge, scenario.gpus)
        self._radio = SharedRadio(float(transmit_time(scenario, 1)))
        self.ready, self._start_s = True, time.monotonic()
        self._engine_s = self._start_s
        self._tasks = [asyncio.create_task(self._run_rounds()), asyncio.create_task(self._run_radio())]
        return facts

    async def stop(self, grace_s: float = 10.0) -> None:
        """Answer everybody, once: who waits is denied, images in flight have some time to be finished."""
        if self.stopping:
            return
        self.stopping = True
        for entry in self._pending.values():
            self._deny(entry, "the server stops")
        self._pending.clear()
        end = time.monotonic() + grace_s
        while (self._in_flight or self._sending) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self._fail([*self._in_flight.values(), *self._sending.values()], "stopping", "the server stops")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.engine.stop()

    # -- what devices do ------------------------------------------------------------------------------------

    def ask(self, ask: Ask, key: str | None = None) -> Entry:
        """Take a request into the round under way; the same key gives the same request again.

        Raises:
            ProblemError: where too many wait, or the key was used for another request.
        """
        if key is not None and key in self.by_key:
            known = self.by_key[key]
            if known.ask != ask:
                raise ProblemError(422, "key-reused", "Idempotency-Key: found one of another request; take a new one")
            return known
        self._check_room()
        loop = asyncio.get_running_loop()
        name = secrets.token_urlsafe(9)  # nobody else can guess it
        entry = Entry(name, ask, time.monotonic(), loop.create_future(), loop.create_future(), key)
        entry.handoff.add_done_callback(_seen)
        self.entries[name] = entry
        if key is not None:
            self.by_key[key] = entry
        self._pending[name] = entry
        return entry

    def _check_room(self) -> None:
        """Refuse a request that cannot wait for the end of a round.

        Raises:
            ProblemError: with the seconds after which it may be asked again.
        """
        if self.stopping:
            raise ProblemError(503, "stopping", "the server stops; run all steps locally", {"Retry-After": "60"})
        if len(self._pending) >= self.settings.most_pending:
            self.counters.rejected += 1
            again_s = max(1, math.ceil(self.settings.scenario.interval_s))
            detail = f"found {len(self._pending)} requests waiting; ask again later, or run all steps locally"
            raise ProblemError(429, "queue-full", detail, {"Retry-After": str(again_s)})

    def find(self, name: str) -> Entry:
        """A request by its name.

        Raises:
            ProblemError: where none is known.
        """
        if name not in self.entries:
            raise ProblemError(
                404,
                "unknown-request",
                f"{name[:40]!r}: no such request; it may have expired, or the server is a new one",
            )
        return self.entries[name]

    def cancel(self, entry: Entry) -> None:
        """Let a request go, wherever it is."""
        if entry.over_s is not None:
            return
        self._pending.pop(entry.name, None)
        self._drop(entry)
        self.counters.cancelled += 1
        _refuse(entry.handoff, ProblemError(409, "cancelled", "this request was cancelled; ask anew"))
        _refuse(entry.decision, ProblemError(409, "cancelled", "this request was cancelled; ask anew"))
        entry.over_s = time.monotonic()

    def hung_up(self, entry: Entry) -> None:
        """Let a request go whose device is gone; the same key makes a new one, for a device that tries again."""
        self.cancel(entry)
        if entry.key is not None and self.by_key.get(entry.key) is entry:
            del self.by_key[entry.key]

    def fetched(self, entry: Entry) -> None:
        """Note that the device has its hand-off."""
        entry.over_s = entry.over_s or time.monotonic()
        if not self.settings.emulate_radio:
            entry.arrived_s = time.monotonic()

    # -- the load -------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Requests that wait for the end of their round."""
        return len(self._pending)

    @property
    def in_flight(self) -> int:
        """Images at the edge, b_0."""
        return len(self._in_flight)

    @property
    def on_radio(self) -> int:
        """Hand-offs on the radio, q_0."""
        return len(self._radio) if self.settings.emulate_radio else 0

    def scenario(self) -> Scenario:
        """The system with the step latency as it is now."""
        edge = self.settings.scenario.edge if self.settings.frozen_profile else self.estimate.model()
        return replace(self.settings.scenario, edge=edge)

    def load(self) -> Load:
        """What the edge and the radio are at work on."""
        left = tuple(entry.steps_left for entry in self._in_flight.values()) if self.settings.counts_steps else ()
        gpus = self.settings.scenario.gpus if self.ready else 0
        return Load(self.in_flight, self.on_radio, gpus, self._rate, steps_left=left)

    # -- rounds ---------------------------------------------------------------------------------------------

    async def _run_rounds(self) -> None:
        """Decide at every multiple of Delta."""
        delta = self.settings.scenario.interval_s
        number = 0
        while True:
            end = self._start_s + (number + 1) * delta
            await asyncio.sleep(max(0.0, end - time.monotonic()))
            self._end_round(number, end)
            self._forget_old()
            number = max(number + 1, int((time.monotonic() - self._start_s) / delta))

    def _end_round(self, number: int, end_s: float) -> None:
        requests = [entry for entry in self._pending.values() if entry.asked_s <= end_s]
        for entry in requests:
            del self._pending[entry.name]
        self._rate = added_arrivals(
            self._rate, len(requests), number - self._last_round, self.settings.scenario.interval_s
        )
        self._last_round = number
        self.counters.rounds += 1
        if not requests:
            return
        try:
            self._decide(requests, end_s)
        except Exception as error:  # noqa: BLE001 - a round that cannot be planned must not be the last one
            what = f"{type(error).__name__}: {reason_of(error)}"
            say(f"serve: a round of {len(requests)} requests was not planned ({what}); all of them are denied")
            self._fail([entry for entry in requests if entry.name in self._in_flight], "edge-failed", "no plan")
            for entry in requests:
                if not entry.decision.done():
                    self._deny(entry, "the round could not be planned")

    def _decide(self, requests: list[Entry], end_s: float) -> None:
        scenario, load = self.scenario(), self.load()
        users = Users(
            np.array([entry.ask.step_latency_s for entry in requests]),
            np.array([entry.ask.alpha for entry in requests]),
            np.full(len(requests), scenario.slots),
            np.zeros(len(requests), np.int64),
        )
        plan = self.settings.plan(scenario, load, users, images_each=self.settings.images_each)
        granted, steps = plan.granted.tolist(), plan.local_steps.tolist()
        self._log(end_s, requests, scenario, load, granted, steps)
        b = sum(granted)
        step_s = float(edge_step_latency(scenario, load.in_flight + b))
        transmit_s = float(transmit_time(scenario, load.on_radio + b))
        images = []
        for entry, offloads, n in zip(requests, granted, steps, strict=True):
            entry.decided_s = end_s
            if offloads and n < scenario.total_steps:
                self._grant(entry, n, step_s, transmit_s)
                images.append(_image(entry, n))
            else:
                self._deny(entry, None)
        if images:
            self.engine.add(images)

    def _grant(self, entry: Entry, n: int, step_s: float, transmit_s: float) -> None:
        offloaded = entry.ask.total_steps - n
        entry.steps_left = offloaded
        self._in_flight[entry.name] = entry
        self.counters.granted += 1
        planned = LatencyParts(
            wait_s=_waited(entry),
            edge_s=offloaded * step_s,
            transmit_s=transmit_s,
            local_s=n * entry.ask.step_latency_s,
        )
        made = Decision(id=entry.name, decision="grant", local_steps=n, offloaded_steps=offloaded, planned=planned)
        _resolve(entry.decision, made)

    def _deny(self, entry: Entry, reason: str | None) -> None:
        total = entry.ask.total_steps
        entry.decided_s = entry.decided_s or time.monotonic()
        entry.over_s = time.monotonic()
        self.counters.denied += 1
        planned = LatencyParts(wait_s=_waited(entry), edge_s=0, transmit_s=0, local_s=total * entry.ask.step_latency_s)
        made = Decision(
            id=entry.name, decision="deny", local_steps=total, offloaded_steps=0, planned=planned, reason=reason
        )
        _resolve(entry.decision, made)
        _refuse(entry.handoff, ProblemError(409, "denied", "this request was denied; run all steps locally"))

    def _log(
        self, end_s: float, requests: list[Entry], scenario: Scenario, load: Load, granted: list[bool], steps: list[int]
    ) -> None:
        """Tell the listeners of this call, with everything that `decide` got."""
        if not self.calls:
            return
        call = {
            "time_s": end_s - self._start_s,
            "requests": [entry.name for entry in requests],
            "step_latency_s": [entry.ask.step_latency_s for entry in requests],
            "alpha": [entry.ask.alpha for entry in requests],
            "edge": asdict(scenario.edge),
            "load": asdict(load),
            "granted": granted,
            "local_steps": steps,
        }
        for listener in self.calls:
            listener(call)

    # -- the engine -----------------------------------------------------------------------------------------

    def _on_tick(self, tick: Tick) -> None:
        self._count_steps(tick)
        if tick.batch and tick.seconds:
            self.estimate.note(tick.batch, tick.seconds)
        for name, payload in tick.done.items():
            if name in self._in_flight:
                entry = self._in_flight.pop(name)
                entry.left_s = tick.ended_s
                self._send(entry, payload)
        for name, reason in tick.failed.items():
            if name in self._in_flight:
                self._fail([self._in_flight.pop(name)], "not-servable", reason)
        for listener in self.ticks:
            listener(tick)

    def _count_steps(self, tick: Tick) -> None:
        """Count the step of every image that was in a tick."""
        for name in tick.joined:
            if name in self._in_flight:
                self._in_flight[name].stepping = True
        for entry in self._in_flight.values():
            entry.steps_left = max(0, entry.steps_left - entry.stepping)

    def _on_death(self, reason: str) -> None:
        """The engine is gone: its requests go on locally, and a new one is started."""
        if not self.ready or self.stopping:
            return  # one of several workers said so already
        self.ready = False
        self.counters.deaths += 1
        entries = list(self._in_flight.values())
        self._in_flight.clear()
        self._fail(entries, "edge-failed", reason)
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._restart(reason)))

    async def _restart(self, reason: str) -> None:
        """Start the engine again, after pauses that double while it does not live longer than they last."""
        lived_s = time.monotonic() - self._engine_s
        self._pause_s = FIRST_PAUSE_S if lived_s > LONGEST_PAUSE_S else min(2 * self._pause_s, LONGEST_PAUSE_S)
        while True:
            say(f"serve: {reason}; it is started again in {self._pause_s:g} s, and everybody is denied until then")
            await self.engine.stop()
            await asyncio.sleep(self._pause_s)
            try:
                await self.engine.start(self._on_tick, self._on_death)
            except (EngineError, OSError) as error:
                reason, self._pause_s = str(error), min(2 * self._pause_s, LONGEST_PAUSE_S)
                continue
            self.ready, self._engine_s = True, time.monotonic()
            return

    def _fail(self, entries: list[Entry], kind: str, reason: str) -> None:
        for entry in entries:
            self._drop(entry)
            entry.over_s = time.monotonic()
            self.counters.failed += 1
            _refuse(entry.handoff, ProblemError(503, kind, f"{reason}; run all steps locally"))

    def _drop(self, entry: Entry) -> None:
        """Take a request out of the engine and off the radio."""
        if self._in_flight.pop(entry.name, None) is not None:
            self.engine.cancel([entry.name])
        entry.payload = b""
        for number, other in list(self._sending.items()):
            if other is entry:
                self._radio.remove(time.monotonic(), number)
                del self._sending[number]
                self._radio_moved.set()

    # -- the radio ------------------------------------------------------------------------------------------

    def _send(self, entry: Entry, payload: bytes) -> None:
        """Let a hand-off cross the radio, emulated or real."""
        entry.steps_left = 0
        if not self.settings.emulate_radio or not self._radio.alone_s:
            entry.arrived_s = entry.left_s
            _resolve(entry.handoff, payload)
            return
        number = next(self._numbers)
        self._sending[number] = entry
        entry.payload = payload
        self._radio.add(time.monotonic(), [number])
        self._radio_moved.set()

    async def _run_radio(self) -> None:
        """Let hand-offs arrive when they have crossed the emulated radio."""
        while True:
            self._radio_moved.clear()
            next_s = self._radio.next_time()
            wait_s = None if next_s == NEVER else max(0.0, next_s - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._radio_moved.wait(), wait_s)
            if self._radio_moved.is_set():
                continue  # somebody joined or left: look again
            now = max(next_s, self._radio.next_time())
            entry = self._sending.pop(self._radio.fire(now))
            entry.arrived_s = now
            _resolve(entry.handoff, entry.payload)
            entry.payload = b""

    # -- keeping --------------------------------------------------------------------------------------------

    def _forget_old(self) -> None:
        """Forget hand-offs that nobody fetched, and requests that were over long ago."""
        now = time.monotonic()
        if now - self._swept_s < SWEEP_S:
            return
        self._swept_s = now
        for entry in self.entries.values():
            if entry.over_s is None and entry.arrived_s is not None and now - entry.arrived_s > self.settings.expiry_s:
                self.counters.expired += 1
                entry.over_s = entry.arrived_s
            if entry.over_s is not None and now - entry.over_s > self.settings.expiry_s:
                _expire(entry)
        over = sorted((entry.over_s, name) for name, entry in self.entries.items() if entry.over_s is not None)
        surplus = len(over) - MOST_KEPT
        for number, (over_s, name) in enumerate(over):
            if number < surplus or now - over_s > KEPT_S:
                del self.entries[name]
        self.by_key = {key: entry for key, entry in self.by_key.items() if entry.name in self.entries}


class LatencyEstimate:
    """L_e as the last ticks took it: the profile, scaled or fitted again.

    Medians of each batch size withstand single slow ticks. Few sizes scale the profile; many fit its line anew.
    """

    def __init__(self, profile: LatencyModel, gpus: int) -> None:
        self.profile, self.gpus = profile, gpus
        self._ticks: list[tuple[int, float]] = []
        self._known: LatencyModel | None = None

    def note(self, batch: int, seconds: float) -> None:
        """Note a tick."""
        self._ticks.append((batch, seconds))
        del self._ticks[:-WINDOW_TICKS]
        self._known = None

    def model(self) -> LatencyModel:
        """The step latency as it is now, of one GPU."""
        if len(self._ticks) < FEWEST_TICKS:
            return self.profile
        if self._known is None:
            self._known = self._estimated()
        return self._known

    def _estimated(self) -> LatencyModel:
        batch, seconds = np.array(self._ticks).T
        sizes, counts = np.unique(batch, return_counts=True)
        medians = np.array([np.median(seconds[batch == size]) for size in sizes])
        often = counts >= 5
        if np.count_nonzero(often) >= 4 and sizes[often].max() >= 2 * sizes[often].min():
            return fit_latency(sizes[often] / self.gpus, medians[often], counts[often].astype(float)).model
        expected = self.profile.step_latency(sizes / self.gpus)
        ratio = float(np.average(medians / expected, weights=counts))
        edge = self.profile
        return LatencyModel(ratio * edge.slope_s, ratio * edge.intercept_s, ratio * edge.floor_s)


def _expire(entry: Entry) -> None:
    """Forget a hand-off."""
    if entry.handoff.done() and entry.handoff.exception() is None:
        entry.handoff = asyncio.get_running_loop().create_future()
        late = ProblemError(410, "expired", "this hand-off was not fetched in time; run all steps locally")
        _refuse(entry.handoff, late)


def _image(entry: Entry, n: int) -> EdgeImage:
    """What the engine has to do for a request."""
    ask = entry.ask
    return EdgeImage(
        name=entry.name,
        prompt_template=ask.prompt_template,
        seed=ask.seed,
        local_steps=n,
        total_steps=ask.total_steps,
    )


def _waited(entry: Entry) -> float:
    """Seconds from the request to the end of its round."""
    return max(0.0, (entry.decided_s or entry.asked_s) - entry.asked_s)


def _resolve(future: "asyncio.Future[Any]", value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _refuse(future: "asyncio.Future[Any]", problem: ProblemError) -> None:
    if not future.done():
        future.set_exception(problem)
        future.exception()  # nobody may ask


def _seen(future: "asyncio.Future[Any]") -> None:
    """Mark an error as seen, so that asyncio does not complain of one that nobody asked for."""
    if not future.cancelled():
        future.exception()

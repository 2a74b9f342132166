"""The edge server without its HTTP: rounds on the real clock, what is in flight, and hand-offs on the radio.

The requests of a round are decided at its end by the same `scheduler.decide` as in the simulator; granted ones go to
the engine. All times are of the monotonic clock, in seconds.
"""

import asyncio
import contextlib
import itertools
import math
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from ..common.arrays import Ints
from ..common.console import say
from ..common.errors import reason_of
from ..optimizer.model.qoe import Plan, Scenario, edge_step_latency, transmit_time
from .engines import EdgeEngine, EdgeImage, EngineError, Tick
from .estimates import BandwidthEstimate, LatencyEstimate
from .ledger import Entry, Ledger, refuse
from .protocol import Ask, Decision, LatencyParts, ProblemError
from .resources import NEVER, SharedRadio
from .round_call import RoundCall
from .scheduler import Load, added_arrivals, decide

T = TypeVar("T")
SWEEP_S = 5.0
"""Seconds between two looks for what is to be forgotten."""
AT_ONCE = 16
"""Devices that are served in one turn of the event loop, at most."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
"""Seconds before an engine is started again: the first time, and after it ended again and again."""


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """How a server decides and what it allows.

    Attributes:
        scenario: the system.
        plan: function as `scheduler.decide` without its rule.
        revise: function as `scheduler.revise` without its prices; None where splits stay.
        counts_steps: whether it needs the steps left of every image.
        images_each: images that the memory of one GPU holds; None if that is not known.
        emulate_radio: whether hand-offs are paced as on the paper's radio.
        frozen_profile: whether step latency and bandwidth stay the scenario's, whatever ticks and transfers take.
        most_pending: requests that may wait for the end of their round.
        expiry_s: seconds after which a hand-off that nobody fetched is forgotten.
    """

    scenario: Scenario
    plan: Callable[..., Plan] = decide
    revise: Callable[..., Ints] | None = None
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
    revised: int = 0
    rounds: int = 0
    deaths: int = 0


class Rounds:
    """The core of an edge server.

    Attributes:
        settings: how it decides; known once it has started.
        engine: what runs the steps.
        ledger: the requests that are known.
        counters: what happened so far.
        calls: listeners to the scheduler's calls, as dictionaries.
        latency: the step latency that plans reckon with.
        bandwidth: the bandwidth that they reckon with, where no radio is emulated.
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
        self.ledger = Ledger()
        self.counters = Counters()
        self.calls: list[Callable[[dict[str, Any]], None]] = []
        self.ticks: list[Callable[[Tick], None]] = []
        self.ready = False
        self._facts: dict[str, Any] | None = None
        self._begins: list[Callable[[RoundSettings], object]] = []
        self._pending: dict[str, Entry] = {}
        self._deciding: list[Entry] = []
        self._in_flight: dict[str, Entry] = {}
        self._radio_moved = asyncio.Event()
        self._sending: dict[int, Entry] = {}
        self._sent: dict[str, float] = {}
        self._numbers = itertools.count()
        self._rate, self._last_round = 0.0, -1
        self._start_s = self._swept_s = self._engine_s = self._grace_end_s = 0.0
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
        self.latency = LatencyEstimate(scenario.edge, scenario.gpus)
        self.bandwidth = BandwidthEstimate(scenario)
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
        for entry in [*self._pending.values(), *self._deciding]:
            if entry.name not in self._in_flight:
                self._deny(entry, "the server stops")
        self._pending.clear()
        self._grace_end_s = time.monotonic() + grace_s
        while (self._in_flight or self._sending) and time.monotonic() < self._grace_end_s:
            await asyncio.sleep(0.02)
        self._fail([*self._in_flight.values(), *self._sending.values()], "stopping", "the server stops")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.engine.stop()

    def hurry(self) -> None:
        """Give images in flight no more time, while it stops."""
        self._grace_end_s = 0.0

    # -- what devices do ------------------------------------------------------------------------------------

    def ask(self, ask: Ask, key: str | None = None) -> Entry:
        """Take a request into the round under way; the same key gives the same request again.

        Raises:
            ProblemError: where too many wait, or the key was used for another request.
        """
        known = self.ledger.of_key(key)
        if known is not None:
            if known.ask != ask:
                raise ProblemError(422, "key-reused", "Idempotency-Key: found one of another request; take a new one")
            return known
        self.check_room(key)
        loop = asyncio.get_running_loop()
        name = secrets.token_urlsafe(9)  # nobody else can guess it
        entry = Entry(name, ask, time.monotonic(), loop.create_future(), loop.create_future(), key)
        self.ledger.add(entry)
        self._pending[name] = entry
        return entry

    def check_room(self, key: str | None) -> None:
        """Refuse a new request that cannot wait for the end of a round.

        Args:
            key: its key; a request that is known by it needs no room.

        Raises:
            ProblemError: with the seconds after which it may be asked again.
        """
        if self.ledger.knows_key(key):
            return
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
        entry = self.ledger.find(name)
        if entry is None:
            raise ProblemError(
                404,
                "unknown-request",
                f"{name[:40]!r}: no such request; it may have expired, or the server is a new one",
            )
        return entry

    def cancel(self, entry: Entry) -> None:
        """Let a request go, wherever it is."""
        cancelled = ProblemError(409, "cancelled", "this request was cancelled; ask anew")
        if entry.over_s is not None:
            self.counters.cancelled += self.ledger.drop_handoff(entry.name, cancelled)
            return
        self._pending.pop(entry.name, None)
        self._drop(entry)
        self.counters.cancelled += 1
        self._end(entry, cancelled)

    def hung_up(self, entry: Entry) -> None:
        """Let a request go whose device is gone; the same key makes a new one, for a device that tries again."""
        self.cancel(entry)
        self.ledger.free_key(entry)

    def fetched(self, entry: Entry) -> None:
        """Note that a device is sent its hand-off."""
        if entry.sent_s is not None or entry.made is None:
            return
        entry.sent_s = now = time.monotonic()
        self.ledger.change(entry.name, sent_s=now)
        if not self.settings.emulate_radio:
            self._sent[entry.name] = now + entry.made.planned.transmit_s

    def reported(self, entry: Entry, measured: LatencyParts) -> bool:
        """Note what a device measured; returns whether it had not said so before."""
        if entry.reported:
            return False
        entry.reported = True
        self.ledger.change(entry.name, reported=True)
        self._sent.pop(entry.name, None)
        if entry.sent_s is not None and entry.left_s is not None:
            took_s = measured.transmit_s - (entry.sent_s - entry.left_s)  # that long it was not asked for
            self.bandwidth.note(entry.sent_s, min(took_s, time.monotonic() - entry.sent_s))
        return True

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
        """Hand-offs on the radio, q_0: the emulated one, or the network as far as the plan goes."""
        if self.settings.emulate_radio:
            return len(self._radio)
        now = time.monotonic()
        self._sent = {name: end_s for name, end_s in self._sent.items() if end_s > now}
        return len(self._sent)

    def scenario(self) -> Scenario:
        """The system with the step latency and the bandwidth as they are now."""
        scenario = self.settings.scenario
        if self.settings.frozen_profile:
            return scenario
        bandwidth_hz = scenario.bandwidth_hz if self.settings.emulate_radio else self.bandwidth.bandwidth_hz()
        return replace(scenario, edge=self.latency.model(), bandwidth_hz=bandwidth_hz)

    def load(self) -> Load:
        """What the edge and the radio are at work on."""
        left = tuple(entry.steps_left for entry in self._in_flight.values()) if self.settings.counts_steps else ()
        gpus = self.settings.scenario.gpus if self.ready else 0
        return Load(self.in_flight, self.on_radio, gpus, self._rate, steps_left=left)

    def expected_s(self, entry: Entry) -> float:
        """Seconds until a hand-off is on its device, with the batch and the radio as they are now."""
        scenario = self.scenario()
        step_s = float(edge_step_latency(scenario, max(1, self.in_flight)))
        return entry.steps_left * step_s + float(transmit_time(scenario, max(1, self.on_radio)))

    # -- rounds ---------------------------------------------------------------------------------------------

    async def _run_rounds(self) -> None:
        """Decide at every multiple of Delta."""
        delta = self.settings.scenario.interval_s
        number = 0
        while True:
            end = self._start_s + (number + 1) * delta
            await asyncio.sleep(max(0.0, end - time.monotonic()))
            await self._end_round(number, end)
            self._forget_old()
            number = max(number + 1, int((time.monotonic() - self._start_s) / delta))

    async def _end_round(self, number: int, end_s: float) -> None:
        requests = [entry for entry in self._pending.values() if entry.asked_s <= end_s]
        for entry in requests:
            del self._pending[entry.name]
        self._rate = added_arrivals(
            self._rate, len(requests), number - self._last_round, self.settings.scenario.interval_s
        )
        self._last_round = number
        self.counters.rounds += 1
        if not requests and not (self.settings.revise and self._in_flight):
            return
        self._deciding = requests
        try:
            await self._decide(requests, end_s)
        except Exception as error:  # noqa: BLE001 - a round that cannot be planned must not be the last one
            what = f"{type(error).__name__}: {reason_of(error)}"
            say(f"serve: a round of {len(requests)} requests was not planned ({what}); all of them are denied")
            for entry in requests:
                self._drop(entry)
                self._deny(entry, "the round could not be planned")
        self._deciding = []

    async def _decide(self, requests: list[Entry], end_s: float) -> None:
        """Plan a round beside the event loop, and tell its devices and the engine."""
        scenario, load, flying = self.scenario(), self.load(), list(self._in_flight.values())
        call = RoundCall.of(scenario, load, requests, flying)
        own = self.settings
        plan, splits = await beside(partial(call.decided, own.plan, own.revise, own.images_each))
        granted, steps = plan.granted.tolist(), plan.local_steps.tolist()
        self._log(end_s, requests, call, plan, splits)
        self._revise(flying, splits.tolist())
        b = sum(granted)
        step_s = float(edge_step_latency(scenario, load.in_flight + b))
        transmit_s = float(transmit_time(scenario, load.on_radio + b))
        told, images = [], []
        for entry, offloads, n in zip(requests, granted, steps, strict=True):
            if entry.over_s is not None:
                continue  # cancelled while the round was planned
            if offloads and n < scenario.total_steps and self.ready:
                self._grant(entry, n, step_s, transmit_s)
                told.append(entry)
                images.append(_image(entry, n))
            else:
                self._deny(entry, None if self.ready else "the model's process ended")
        if images:
            self.engine.add(images)
        await _tell(told)

    def _revise(self, flying: list[Entry], splits: list[int]) -> None:
        """Let images that are still in flight leave at other splits, as far as the engine has not passed them."""
        changed = {}
        for entry, n in zip(flying, splits, strict=True):
            if entry.name in self._in_flight and n != entry.local_steps:
                entry.steps_left = max(1, entry.steps_left + entry.local_steps - n)
                entry.local_steps = changed[entry.name] = n
        if changed:
            self.counters.revised += len(changed)
            self.engine.revise(changed)

    def _grant(self, entry: Entry, n: int, step_s: float, transmit_s: float) -> None:
        offloaded = entry.ask.total_steps - n
        entry.decided_s = time.monotonic()
        entry.steps_left, entry.local_steps = offloaded, n
        self._in_flight[entry.name] = entry
        self.counters.granted += 1
        planned = LatencyParts(
            wait_s=entry.waited_s,
            edge_s=offloaded * step_s,
            transmit_s=transmit_s,
            local_s=n * entry.ask.step_latency_s,
        )
        least = self.settings.scenario.min_local_steps
        entry.made = Decision(
            id=entry.name,
            decision="grant",
            local_steps=n,
            offloaded_steps=offloaded,
            planned=planned,
            most_offloaded_steps=entry.ask.total_steps - least if self.settings.revise else None,
        )

    def _deny(self, entry: Entry, reason: str | None) -> None:
        """Deny a request that is not decided yet."""
        if entry.decision.done():
            return
        total = entry.ask.total_steps
        entry.decided_s = time.monotonic()
        self.counters.denied += 1
        planned = LatencyParts(wait_s=entry.waited_s, edge_s=0, transmit_s=0, local_s=total * entry.ask.step_latency_s)
        entry.made = Decision(
            id=entry.name, decision="deny", local_steps=total, offloaded_steps=0, planned=planned, reason=reason
        )
        entry.decision.set_result(entry.made)
        self._end(entry, ProblemError(409, "denied", "this request was denied; run all steps locally"))

    def _end(self, entry: Entry, problem: ProblemError) -> None:
        """Let a request be over without a hand-off."""
        refuse(entry.decision, problem)
        refuse(entry.handoff, problem)
        self.ledger.over(entry, time.monotonic())

    def _log(self, end_s: float, requests: list[Entry], call: RoundCall, plan: Plan, splits: Ints) -> None:
        """Tell the listeners of this call."""
        if not self.calls:
            return
        names = [entry.name for entry in requests]
        told = {"time_s": end_s - self._start_s, "requests": names, **call.record(plan)}
        if self.settings.revise:
            told |= call.record_of_images(splits)
        for listener in self.calls:
            listener(told)

    # -- the engine -----------------------------------------------------------------------------------------

    def _on_tick(self, tick: Tick) -> None:
        self._count_steps(tick)
        if tick.batch and tick.seconds:
            self.latency.note(tick.batch, tick.seconds)
        for name, payload in tick.done.items():
            if name in self._in_flight:
                entry = self._in_flight.pop(name)
                entry.left_s, entry.local_steps = tick.ended_s, tick.splits.get(name, entry.local_steps)
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
            self.counters.failed += 1
            self._end(entry, ProblemError(503, kind, f"{reason}; run all steps locally"))

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
            self._arrive(entry, payload)
            return
        number = next(self._numbers)
        self._sending[number] = entry
        entry.payload = payload
        self._radio.add(time.monotonic(), [number])
        self._radio_moved.set()

    def _arrive(self, entry: Entry, payload: bytes) -> None:
        """Let a device have its hand-off."""
        entry.payload = b""
        entry.handoff.set_result(payload)
        self.ledger.over(entry, time.monotonic())

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
            self._arrive(entry, entry.payload)

    # -- keeping --------------------------------------------------------------------------------------------

    def _forget_old(self) -> None:
        """Forget hand-offs that nobody fetched, and requests that were over long ago."""
        now = time.monotonic()
        if now - self._swept_s < SWEEP_S:
            return
        self._swept_s = now
        self.counters.expired += self.ledger.expire(now, self.settings.expiry_s)
        self.ledger.forget(now)


async def beside(function: Callable[[], T]) -> T:
    """Run a function in a thread of its own; one that never ends holds up neither the event loop nor the exit."""
    made: Future[T] = Future()
    made.set_running_or_notify_cancel()

    def run() -> None:
        try:
            made.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            made.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(made)


async def _tell(granted: list[Entry]) -> None:
    """Tell devices their decisions, some at a time, so that nobody else waits for all of them."""
    for number, entry in enumerate(granted, start=1):
        if not entry.decision.done() and entry.made is not None:
            entry.decision.set_result(entry.made)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)


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

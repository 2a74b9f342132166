"""The core of the edge server: rounds on the clock, what is in flight, and what becomes of it when something fails."""

import asyncio
import threading
import time
from unittest import mock

import numpy as np
import psutil
import pytest
from edges import DEAF_S, deaf_worker, dying_worker, stillborn_worker
from oracles import make_users
from servers import DENIED, SCENARIO, SLOW, make_ask, make_rounds

from edgesplit.service import ledger
from edgesplit.service import rounds as core
from edgesplit.service.comparison import find_way
from edgesplit.service.engines import EmulatedEngine, EngineError, ProcessEngine
from edgesplit.service.protocol import ProblemError
from edgesplit.service.scheduler import Load, decide

PATIENCE_S = 60
"""Seconds after which something counts as hanging, on busy cores."""


def played(play, rounds, facts=None):
    """Run a coroutine function of started rounds; returns what it returns."""

    async def run():
        await rounds.start()
        try:
            return await asyncio.wait_for(play(rounds), PATIENCE_S)
        finally:
            await rounds.stop(0.1)

    return asyncio.run(run())


async def until(holds):
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def problem_of(future):
    error = future.exception()
    assert isinstance(error, ProblemError)
    return error.status, error.kind


def test_a_granted_request_gets_its_plan_and_its_handoff():
    async def play(rounds):
        entry = rounds.ask(make_ask())
        decision = await entry.decision
        assert decision.decision == "grant"
        assert decision.local_steps + decision.offloaded_steps == SCENARIO.total_steps
        assert decision.planned.local_s == decision.local_steps * 1.0
        assert await entry.handoff == b"x"
        assert rounds.in_flight == 0
        return entry

    entry = played(play, make_rounds())
    assert entry.edge_s > 0


def test_a_denied_request_runs_on_its_device_alone():
    async def play(rounds):
        entry = rounds.ask(make_ask(**DENIED))
        decision = await entry.decision
        assert (decision.decision, decision.local_steps, decision.reason) == ("deny", SCENARIO.total_steps, None)
        assert problem_of(entry.handoff) == (409, "denied")

    played(play, make_rounds())


def test_an_equal_key_is_an_equal_request_and_one_run():
    async def play(rounds):
        first = rounds.ask(make_ask(), "key")
        assert rounds.ask(make_ask(), "key") is first
        with pytest.raises(ProblemError, match="Idempotency-Key") as refused:
            rounds.ask(make_ask(seed=2), "key")
        assert refused.value.status == 422
        await first.handoff
        again = rounds.ask(make_ask(), "key")  # it is over, and made up again
        assert (again.name, again.decision.result()) == (first.name, first.decision.result())
        assert again.handoff.result() == b"x"
        assert rounds.counters.granted == 1

    played(play, make_rounds())


def test_a_device_that_hung_up_may_try_again_with_its_key():
    async def play(rounds):
        first = rounds.ask(make_ask(), "key")
        rounds.hung_up(first)
        again = rounds.ask(make_ask(), "key")
        assert again is not first
        assert (await again.decision).decision == "grant"

    played(play, make_rounds())


def test_a_cancelled_request_is_gone_wherever_it_is():
    async def play(rounds):
        waiting = rounds.ask(make_ask())
        rounds.cancel(waiting)
        assert rounds.pending == 0
        assert problem_of(waiting.decision) == (409, "cancelled")
        entry, other = rounds.ask(make_ask(seed=2)), rounds.ask(make_ask(seed=3))
        await entry.decision
        assert rounds.in_flight == 2
        rounds.cancel(entry)
        rounds.cancel(entry)
        assert rounds.in_flight == 1
        assert problem_of(entry.handoff) == (409, "cancelled")
        assert rounds.counters.cancelled == 2
        assert not other.handoff.done()

    played(play, make_rounds(EmulatedEngine(SLOW)))


def test_names_cannot_be_guessed():
    async def play(rounds):
        names = {rounds.ask(make_ask()).name for _ in range(100)}
        assert len(names) == 100
        assert min(map(len, names)) >= 12
        with pytest.raises(ProblemError, match="no such request"):
            rounds.find("r0")

    played(play, make_rounds())


def test_a_full_queue_turns_away():
    async def play(rounds):
        for number in range(5):
            rounds.ask(make_ask(seed=number))
        with pytest.raises(ProblemError) as refused:
            rounds.ask(make_ask())
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        assert rounds.counters.rejected == 1

    played(play, make_rounds(most_pending=5))


@pytest.mark.parametrize("emulate_radio", [False, True])
def test_handoffs_that_nobody_fetches_expire_and_free_their_memory(emulate_radio):
    async def play(rounds):
        entry = rounds.ask(make_ask())
        await entry.handoff
        await until(lambda: rounds.counters.expired == 1)
        assert problem_of(rounds.find(entry.name).handoff) == (410, "expired")
        assert entry.payload == b""
        await until(lambda: not rounds.ledger.past)
        assert not rounds.ledger.entries

    with mock.patch.object(core, "SWEEP_S", 0.02), mock.patch.object(ledger, "KEPT_S", 0.5):
        played(play, make_rounds(expiry_s=0.1, emulate_radio=emulate_radio))


def test_what_is_known_of_finished_requests_is_bounded():
    async def play(rounds):
        for number in range(300):
            entry = rounds.ask(make_ask(**DENIED), str(number))
        await entry.decision
        await until(lambda: len(rounds.ledger.past) == len(rounds.ledger._by_key) == 20)
        assert rounds.find(entry.name).ask == entry.ask

    with mock.patch.object(core, "SWEEP_S", 0.02), mock.patch.object(ledger, "MOST_KEPT", 20):
        played(play, make_rounds())


def aborts(count, seed, **settings):
    """So many requests that are cancelled at random moments; what is left of them."""

    async def play(rounds):
        rng = np.random.default_rng(seed)
        entries = []
        for number in range(count):
            entries.append(rounds.ask(make_ask(seed=number)))
            if rng.random() < 0.05:
                await asyncio.sleep(float(rng.uniform(0, 0.06)))
            for chosen in rng.choice(len(entries), min(3, len(entries)), replace=False):
                rounds.cancel(entries[chosen])
        for entry in entries:
            rounds.cancel(entry)
        assert rounds.pending == rounds.in_flight == rounds.on_radio == 0
        assert not rounds._sending
        assert not rounds.engine._left
        assert all(entry.payload == b"" and entry.decision.done() and entry.handoff.done() for entry in entries)
        last = rounds.ask(make_ask())
        assert await last.handoff == b"x"

    played(play, make_rounds(**settings))


@pytest.mark.parametrize("emulate_radio", [False, True])
def test_random_aborts_leave_nothing(emulate_radio):
    aborts(150, 7, emulate_radio=emulate_radio)


@pytest.mark.slow
def test_a_thousand_random_aborts_leave_nothing():
    aborts(1000, 0)  # what is made once is made
    before = psutil.Process().memory_info().rss
    for seed in range(1, 7):
        aborts(1000, seed, emulate_radio=bool(seed % 2))
    grown = psutil.Process().memory_info().rss - before
    print(f"6,000 aborts: {grown / 2**20:.1f} MiB more")
    assert grown < 8 * 2**20


def test_stopping_answers_everybody():
    async def play(rounds):
        entry = rounds.ask(make_ask())
        await entry.decision
        waiting = rounds.ask(make_ask(seed=2))
        await rounds.stop(0.05)
        decision = waiting.decision.result()
        assert (decision.decision, decision.reason) == ("deny", "the server stops")
        assert problem_of(entry.handoff) == (503, "stopping")
        with pytest.raises(ProblemError) as refused:
            rounds.ask(make_ask())
        assert refused.value.status == 503

    played(play, make_rounds(EmulatedEngine(SLOW)))


def test_images_in_flight_are_finished_when_the_server_stops():
    async def play(rounds):
        entry = rounds.ask(make_ask())
        await entry.decision
        await rounds.stop(30)
        assert entry.handoff.result() == b"x"

    played(play, make_rounds())


def test_a_round_that_cannot_be_planned_denies_and_is_not_the_last(capsys):
    calls = []

    def plan(*given, **more):
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("a defect")
        return decide(*given, **more)

    async def play(rounds):
        first = await rounds.ask(make_ask()).decision
        second = await rounds.ask(make_ask()).decision
        assert (first.decision, first.reason) == ("deny", "the round could not be planned")
        assert second.decision == "grant"

    played(play, make_rounds(plan=plan))
    assert "ZeroDivisionError: a defect" in capsys.readouterr().err


def test_a_slow_plan_is_made_beside_the_event_loop():
    """Whoever plans for long holds up its round alone; who leaves meanwhile is not granted."""

    def plan(*given, **more):
        time.sleep(0.3)
        return decide(*given, **more)

    async def play(rounds):
        first, leaving = rounds.ask(make_ask()), rounds.ask(make_ask(seed=2))
        turns = 0
        while not first.decision.done():
            await asyncio.sleep(0.01)
            turns += 1
            if rounds._deciding and leaving.over_s is None:
                rounds.cancel(leaving)
        assert turns > 10
        assert first.decision.result().decision == "grant"
        assert first.decision.result().planned.wait_s >= 0.3
        assert problem_of(leaving.decision) == (409, "cancelled")
        assert rounds.counters.granted == 1

    played(play, make_rounds(plan=plan))


def test_a_plan_without_end_does_not_keep_a_server_from_stopping():
    over = threading.Event()

    async def play(rounds):
        entry = rounds.ask(make_ask())
        await until(lambda: rounds._deciding)
        await rounds.stop(0.05)
        assert entry.decision.result().reason == "the server stops"

    try:
        played(play, make_rounds(plan=lambda *given, **more: over.wait(PATIENCE_S)))
    finally:
        over.set()


def test_a_model_that_ends_while_a_round_is_planned_is_not_asked():
    engine = Stillborn(0)

    def plan(*given, **more):
        engine.loop.call_soon_threadsafe(engine.die, "gone")
        time.sleep(0.1)
        return decide(*given, **more)

    async def play(rounds):
        engine.loop = asyncio.get_running_loop()
        decision = await rounds.ask(make_ask()).decision
        assert (decision.decision, decision.reason) == ("deny", "the model's process ended")
        assert rounds.in_flight == 0

    played(play, make_rounds(engine, plan=plan))


@pytest.mark.parametrize("method", ["drl", "ilp-joint", "genetic"])
def test_slow_methods_do_not_hold_up_the_loop(method):
    """What they hold of Python's lock is released every few milliseconds; a turn is far shorter than their plan."""
    way = find_way(method)
    way.plan(SCENARIO, Load(), make_users([0.2, 0.4], 1.0), images_each=None)  # what is read once is read

    async def play(rounds):
        entries = [rounds.ask(make_ask(seed=seed, step_latency_s=0.1 + 0.1 * seed)) for seed in range(12)]
        late = [0.0]
        while not entries[-1].decision.done():
            before = time.monotonic()
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - before - 0.005)
        assert len(late) > 3
        assert entries[-1].decision.result().reason is None

    played(play, make_rounds(plan=way.plan))


@pytest.mark.parametrize("latency", [1e-12, 1e12])
@pytest.mark.parametrize("alpha", [0.0, 1e12])
def test_extreme_requests_are_answered_and_harm_nobody(latency, alpha):
    async def play(rounds):
        extreme, other = rounds.ask(make_ask(step_latency_s=latency, alpha=alpha)), rounds.ask(make_ask(seed=2))
        decision = await extreme.decision
        assert decision.reason is None
        assert (await other.decision).reason is None

    played(play, make_rounds())


# -- the process with the model ------------------------------------------------------------------------------


def test_a_process_that_dies_is_started_again_and_its_requests_go_on_locally(capsys):
    async def play(rounds):
        served = rounds.ask(make_ask())
        assert await served.handoff == b"made"
        doomed = [rounds.ask(make_ask(seed=1)), rounds.ask(make_ask(prompt_template="{subject} to die"))]
        for entry in doomed:
            await asyncio.wait([entry.handoff])
            assert problem_of(entry.handoff) == (503, "edge-failed")
        assert not rounds.ready
        assert rounds.in_flight == 0
        denied = rounds.ask(make_ask())
        assert (await denied.decision).decision == "deny"
        await until(lambda: rounds.ready)
        assert await rounds.ask(make_ask()).handoff == b"made"
        assert rounds.counters.deaths == 1

    engine = ProcessEngine(dying_worker, {})
    with mock.patch.object(core, "FIRST_PAUSE_S", 0.2):
        played(play, make_rounds(engine))
    assert engine.pid is None
    assert "the process with the model ended; it is started again" in capsys.readouterr().err


def test_a_killed_process_is_noticed():
    async def play(rounds):
        entry = rounds.ask(make_ask())
        await entry.decision
        rounds.engine._process.kill()
        await asyncio.wait([entry.handoff])
        assert problem_of(entry.handoff) == (503, "edge-failed")

    played(play, make_rounds(ProcessEngine(dying_worker, {"tick_s": 0.5})))


def test_a_process_that_cannot_load_its_model_says_why():
    async def start():
        await make_rounds(ProcessEngine(stillborn_worker, {})).start()

    with pytest.raises(EngineError, match="the weights are damaged"):
        asyncio.run(start())


class Stillborn(EmulatedEngine):
    """An engine that starts once, and then fails so many times."""

    def __init__(self, fails):
        super().__init__(SCENARIO.edge, payload=b"x")
        self.fails, self.starts = fails, []

    async def start(self, on_tick, on_death):
        self.starts.append(time.monotonic())
        self.die = on_death
        if 1 < len(self.starts) <= 1 + self.fails:
            raise EngineError("no memory")
        return await super().start(on_tick, on_death)


def test_starts_that_fail_again_and_again_are_spaced():
    engine = Stillborn(3)

    async def play(rounds):
        engine.die("gone")
        engine.die("gone")
        await until(lambda: rounds.ready)
        assert await rounds.ask(make_ask()).handoff == b"x"
        assert rounds.counters.deaths == 1

    with mock.patch.object(core, "FIRST_PAUSE_S", 0.02):
        played(play, make_rounds(engine))
    gaps = np.diff(engine.starts)[1:]
    assert len(gaps) == 3
    assert (gaps >= 0.04 * 2 ** np.arange(1, 4)).all()


def test_a_server_stops_while_its_engine_cannot_start():
    engine = Stillborn(1000)

    async def play(rounds):
        engine.die("gone")
        await asyncio.sleep(0.1)

    with mock.patch.object(core, "FIRST_PAUSE_S", 0.02):
        played(play, make_rounds(engine))


def test_a_busy_process_does_not_block_the_loop():
    async def play(rounds):
        before = time.monotonic()
        for number in range(10):  # far more than a pipe holds
            for seed in range(20):
                rounds.ask(make_ask(seed=100 * number + seed, prompt_template="{subject}" + "x" * 3900))
            await asyncio.sleep(0.06)
        assert rounds.counters.granted > 100
        return time.monotonic() - before

    with mock.patch("edgesplit.service.engines.STOP_S", 0.1):
        assert played(play, make_rounds(ProcessEngine(deaf_worker, {}))) < DEAF_S / 2

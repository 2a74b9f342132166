"""Splits of images in flight that change: against brute force, the simulator, a running server and its devices."""

import asyncio
import json
from contextlib import closing
from dataclasses import replace
from functools import partial

import httpx
import numpy as np
import pytest
from commands import call_root, refused
from oracles import make_scenario, make_users
from servers import SCENARIO, make_ask, make_rounds, serving
from stepper import DT, stepped
from worlds import random_world

from edgesplit.common.errors import InputError
from edgesplit.fitting.latency import LatencyModel
from edgesplit.optimizer.model.qoe import edge_step_latency, with_load
from edgesplit.optimizer.model.split import split_gain
from edgesplit.optimizer.model.terms import with_steps
from edgesplit.service import outcome
from edgesplit.service.call_log import CallLog, replay_revised
from edgesplit.service.client import EdgeClient, EdgeError, HandedOff
from edgesplit.service.comparison import REVISABLE, REVISED, find_way, play_way, revising
from edgesplit.service.device import _checked, run_device
from edgesplit.service.engines import EdgeImage, EmulatedEngine
from edgesplit.service.protocol import Decision, LatencyParts
from edgesplit.service.scheduler import (
    Images,
    Load,
    added_step,
    by_load,
    decide,
    price,
    revise,
    revised_split,
    revision_cost,
)
from edgesplit.service.simulator import Records, Requests, Simulation, World, decider, fixed, reviser
from edgesplit.service.tuning import Kind, worlds_of

BY_PRICE = partial(revise, terms_of=by_load(price))
WAYS = [f"{name}{REVISED}" for name in REVISABLE]
BUSY = Kind("bursts:2,14,10", 20, None, "random:10,2,4,8")


def random_images(rng, scenario, own_steps=None):
    """Images that have come some way."""
    count = 12
    total = np.full(count, scenario.total_steps) if own_steps is None else own_steps
    least = np.ceil(scenario.min_local_steps * total / scenario.total_steps).astype(int)
    n = rng.integers(least, total)
    left = rng.integers(1, total - n + 1)
    return Images(rng.uniform(0.02, 0.6, count), rng.uniform(0, 400, count), n, left, own_steps)


@pytest.mark.parametrize("seed", range(20))
def test_new_splits_are_the_best_that_an_image_can_still_have(seed):
    rng, scenario = np.random.default_rng([3, seed]), make_scenario()
    own = rng.choice([100, 200], 12) if seed % 2 else None
    images, cost = random_images(rng, scenario, own), float(rng.uniform(0.0, 0.3))
    found = revised_split(scenario, images, cost)
    for i, n in enumerate(found.tolist()):
        own_scenario = scenario if own is None else with_steps(scenario, int(own[i]))
        open_to_it = np.arange(own_scenario.min_local_steps, images.local_steps[i] + images.steps_left[i])
        gain = split_gain(own_scenario, images.alpha[i], images.step_latency_s[i] - cost, open_to_it)
        assert n in open_to_it
        assert gain[open_to_it == n] == pytest.approx(gain.max(), abs=1e-9)


def test_a_step_in_flight_costs_what_it_delays_all_others():
    scenario, load = make_scenario(), Load(in_flight=7, on_radio=2, gpus=4)
    now = scenario.with_gpus(4)
    for newly in (0, 3):
        others = load.in_flight - 1 + newly
        own = float(edge_step_latency(with_load(now, load.in_flight, 0), newly))
        assert float(revision_cost(price(now, load), newly)) == pytest.approx(own + added_step(now) * others)


def test_where_nothing_has_changed_splits_stay():
    """An image alone at the edge is told the same again and again."""
    scenario = make_scenario()
    users = make_users([0.2], 40.0)
    plan = decide(scenario, Load(gpus=scenario.gpus), users, price)
    n = plan.local_steps
    images = Images(users.step_latency_s, users.alpha, n, scenario.total_steps - n - 3)
    nobody = users.take(np.zeros(0, np.int64))
    assert BY_PRICE(scenario, Load(in_flight=1, gpus=scenario.gpus), nobody, 0, images).tolist() == n.tolist()
    assert BY_PRICE(scenario, Load(in_flight=1, gpus=0), nobody, 0, images) is images.local_steps


def at_random(world, rng):
    """New splits that an image can still have, whatever they are worth."""

    def revise_images(requests, load, newly, images):
        total = world.total_steps[0]
        done = total - images.local_steps - images.steps_left
        return rng.integers(world.scenario.min_local_steps, total - done)

    return revise_images


# -- the simulator ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"step_overhead_s": 0.004, "gpus_over_time": [(1.5, 4), (3.25, 0), (6.5, 2)]}]
)
def test_splits_that_change_on_the_way_are_splits_that_were_known_from_the_start(settings):
    revised = 0
    for seed in range(12):
        world, granted, n = random_world(np.random.default_rng([21, seed]), **settings)
        world = replace(world, scenario=replace(world.scenario, edge=LatencyModel(0.05, 0.06, 0.09)))
        simulation = Simulation(world, log=True, revise=at_random(world, np.random.default_rng(seed)))
        records = simulation.run(fixed(granted, n))
        again = Simulation(world).run(fixed(records.granted.tolist(), records.local_steps.tolist()))
        for name, values in vars(records).items():
            if name != "planned_steps":
                assert np.allclose(values, getattr(again, name), rtol=0, atol=1e-9, equal_nan=True), name
        revised += sum(len(call.revised) for call in simulation.calls)
        if seed < 4:
            ended, left, _ = stepped(world, records.granted, records.local_steps)
            done = ~records.given_up & records.granted
            assert np.allclose(records.ended_s, ended, atol=10 * DT)
            assert np.allclose(records.left_s[done], left[done], atol=10 * DT)
    assert revised > 20


def test_a_plan_keeps_what_it_predicted():
    (world,), _ = worlds_of(BUSY, "default", 40, 5, 1)
    records = Simulation(world, revise=reviser(world, BY_PRICE)).run(decider(world, partial(decide, rule=price)))
    changed = records.local_steps != records.planned_steps
    assert 0 < changed.sum() < records.granted.sum()
    assert not changed[~records.granted].any()
    local_s = outcome.planned(world, records).local_s
    assert np.array_equal(local_s, records.planned_steps * world.step_latency_s)


@pytest.mark.parametrize("name", WAYS)
def test_every_constraint_holds_and_runs_are_logged(name):
    (world,), _ = worlds_of(BUSY, "default", 30, 6, 1)
    way = find_way(name)
    run = play_way(world, way, 0, log=True)
    n, granted = run.rows["local_steps"], run.rows["granted"]
    least, total = world.scenario.min_local_steps, world.scenario.total_steps
    assert np.all((n >= least) & (n <= total))
    assert np.all(n[~granted] == total)
    assert np.all(np.bincount(world.round_of, granted) <= world.scenario.max_batch)
    last = {request: split for call in run.calls for request, split in call.revised.items()}
    planned = run.rows["planned_local_steps"]
    assert [last.get(request, planned[request]) for request in range(len(n))] == n.tolist()


def test_rounds_without_requests_revise_as_well():
    """Until the last round that has requests, at the end of every round at which images are in flight."""
    asked = Requests(time_s=np.array([0.5, 9.5]), user=np.zeros(2, int), patience_s=np.full(2, np.inf))
    world = World(scenario=make_scenario(gpus=1), users=make_users([0.2], 1.0), requests=asked)
    times = []

    def look(requests, load, newly, images):
        times.append((simulation.state.clock_s, requests.tolist(), newly, images.steps_left.tolist()))
        return images.local_steps

    simulation = Simulation(world, revise=look)
    records = simulation.run(fixed([True, True], [10, 10]))
    there = np.arange(2, int(records.left_s[0]) + 1)
    assert 2 < len(there) < 8, there
    assert [(time, requests, newly) for time, requests, newly, _ in times] == [(time, [], 0) for time in there]
    step_s = float(edge_step_latency(world.scenario, 1))
    for time, *_, (left,) in times:
        assert left == 190 - int((time - 1) / step_s + 1e-9)


def test_revising_gains_where_the_edge_changes():
    worlds, _ = worlds_of(BUSY, "default", 60, 7, 6)
    total = {
        name: sum(play_way(world, find_way(name), 0).rows["qoe"].sum() for world in worlds)
        for name in ("aware", "price", "trained")
        for name in (name, f"{name}{REVISED}")
    }
    assert total["price+revise"] > total["price"] > total["aware"]
    assert total["aware+revise"] > total["aware"]
    assert total["trained+revise"] > total["trained"]


def test_batches_that_wait_keep_their_splits():
    (world,), _ = worlds_of(Kind("poisson:4", 20), "default", 10, 0, 1)
    waiting: World = replace(world, physics="queue")
    assert revising(waiting, find_way("price+revise")) is None
    assert revising(world, find_way("price")) is None
    plain: Records = Simulation(waiting).run(decider(waiting, find_way("learned").plan))
    assert np.array_equal(play_way(waiting, find_way("learned"), 0).rows["local_steps"], plain.local_steps)


@pytest.mark.parametrize("name", ["blind+revise", "aware-delay+revise", "exact+revise", "learned+revise", "+revise"])
def test_other_ways_do_not_revise(name):
    with pytest.raises(InputError, match=r"price\+revise"):
        find_way(name)


def test_the_command_compares_them_and_refuses_what_it_cannot():
    found = call_root("simulate", "--rounds", "8", "--compare", "price,price+revise,learned", "--json")
    assert found.returncode == 0, found.stderr
    assert list(json.loads(found.stdout)["methods"]) == ["all-local", "price", "price+revise", "learned", "hindsight"]
    line = refused(call_root("simulate", "--rounds", "4", "--method", "price+revise", "--physics", "queue"))
    assert "--method price+revise: found --physics queue" in line


# -- a server and its devices -------------------------------------------------------------------------------


def played(rounds, count, rng):
    """So many requests in a crowd, and what became of them."""

    async def play():
        await rounds.start()
        entries = []
        for number in range(count):
            latency, alpha = float(rng.uniform(0.05, 0.2)), float(rng.uniform(0, 2))
            entries.append(rounds.ask(make_ask(seed=number, step_latency_s=latency, alpha=alpha)))
            await asyncio.sleep(float(rng.exponential(0.004)))
        for entry in entries:
            await asyncio.wait([entry.handoff])
        splits = {entry.name: entry.local_steps for entry in entries if entry.handoff.exception() is None}
        await rounds.stop(0.0)
        return splits

    return asyncio.run(play())


def test_a_server_revises_and_its_log_gives_the_same_splits(tmp_path):
    log = CallLog(tmp_path / "calls.jsonl", "price+revise", "mixed")
    rounds = make_rounds(EmulatedEngine(LatencyModel(0.002, 0.01, 0.0)), revise=BY_PRICE)
    rounds.watch(log.begin, log.write)
    with closing(log):
        splits = played(rounds, 120, np.random.default_rng(4))
    assert rounds.counters.revised > 0
    assert set(splits.values()) <= set(range(SCENARIO.min_local_steps, SCENARIO.total_steps))
    calls = replay_revised(tmp_path / "calls.jsonl", decide, BY_PRICE)
    assert any(not call["requests"] for call, *_ in calls)
    for call, plan, new in calls:
        assert (plan.local_steps.tolist(), new.tolist()) == (call["local_steps"], call["revised"])


def test_an_image_that_is_past_its_new_split_leaves_with_the_next_tick():
    engine, told = EmulatedEngine(LatencyModel(0.0, 0.02, 0.0)), []
    image = EdgeImage(name="early", prompt_template="{subject}", seed=0, local_steps=5, total_steps=20)

    def tell(tick):
        told.append(tick)
        if len(told) == 3:
            engine.revise({"early": 19, "late": 14, "nobody": 3})

    async def play():
        await engine.start(tell, None)
        engine.add([image, replace(image, name="late")])
        while len(told) < 6:
            await asyncio.sleep(0.001)
        await engine.stop()

    asyncio.run(play())
    left = {name: (place + 1, n) for place, tick in enumerate(told) for name, n in tick.splits.items()}
    assert left == {"early": (4, 16), "late": (6, 14)}


def test_a_device_goes_on_from_the_split_that_its_hand_off_has():
    rounds = make_rounds(
        EmulatedEngine(LatencyModel(0.0, 0.01, 0.0), payload=b"x"), revise=lambda *given: np.array([9])
    )
    ran = []

    async def finish(payload, n):
        ran.append((payload, n))

    async def run(address):
        async with EdgeClient(address) as client:
            return await run_device(client, make_ask(), SCENARIO.interval_s, finish)

    with serving(rounds) as (address, _):
        result = asyncio.run(run(address))
        shown = httpx.get(f"{address}/metrics").text
    assert result.granted
    assert result.decision.local_steps < 9 == result.local_steps
    assert result.decision.most_offloaded_steps == SCENARIO.total_steps - SCENARIO.min_local_steps
    assert ran == [(b"x", 9)]
    assert "edgesplit_revised_splits 1.0" in shown


@pytest.mark.parametrize(("n", "most"), [(9, None), (20, 15), (4, 15)])
def test_a_split_that_was_not_granted_is_not_believed(n, most):
    nothing = LatencyParts(wait_s=0, edge_s=0, transmit_s=0, local_s=0)
    granted = Decision(
        id="a", decision="grant", local_steps=8, offloaded_steps=12, planned=nothing, most_offloaded_steps=most
    )
    assert _checked(HandedOff(b"x", 0.0, 8), make_ask(), granted)[2] == 8
    assert _checked(HandedOff(b"x", 0.0, None), make_ask(), granted)[2] == 8
    with pytest.raises(EdgeError, match="which it had not granted"):
        _checked(HandedOff(b"x", 0.0, n), make_ask(), granted)


def test_the_process_with_the_model_hands_off_where_it_is_told_last():
    """The hand-off is that of an image which was to leave there from the start, and says so."""
    from edgesplit import data
    from edgesplit.diffusion.inference.handoff import Handoff
    from edgesplit.service.edge_worker import EdgeWorker

    settings = {
        "cluster": str(data.FOLDER / "toyworld" / "cluster"), "dtype": "fp32", "handoff_dtype": "fp32", "device": "cpu",
        "total_steps": 10, "guidance_scale": 3.0, "scheduler": "ddim", "most": 4, "measure": False,
    }  # fmt: skip
    worker = EdgeWorker(settings)
    asked = {"prompt_template": "a photo of {subject}", "seed": 1, "total_steps": 10}

    def handed_off(n, revised=None):
        worker.obey({"add": [asked | {"name": "image", "local_steps": n}]})
        told = [worker.tick() for _ in range(3)]
        worker.obey({"revise": {"image": revised, "gone": 2} if revised is not None else {}})
        while not told[-1][1]:
            told.append(worker.tick())
        fields, payloads = told[-1]
        return len(told), fields["splits"]["image"], Handoff.from_bytes(payloads["image"])

    for n, revised, expected, ticks in ((4, 2, 2, 8), (4, 6, 6, 4), (2, 9, 7, 4)):
        took, split, handoff = handed_off(n, revised)
        assert (split, handoff.step) == (expected, expected)
        assert took == ticks
        if expected < 7:
            _, _, plain = handed_off(expected)
            assert np.allclose(handoff.latents, plain.latents, rtol=0, atol=1e-4)

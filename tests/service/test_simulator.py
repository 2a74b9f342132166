"""The simulator against a slow stepper, and its laws: conservation, the paper's plan as the worst case."""

from dataclasses import replace

import numpy as np
import pytest
from oracles import make_scenario, make_users
from stepper import DT, stepped
from worlds import random_world

from edgesplit.optimizer.model.qoe import Plan, edge_step_latency, evaluate, transmit_time
from edgesplit.service import outcome
from edgesplit.service.scheduler import decide, price
from edgesplit.service.simulator import Requests, Simulation, World, decider, fixed

WORLDS = 4
SETTINGS = [
    {},
    {"physics": "queue"},
    {"device_queueing": True, "decode_s": 0.3},
    {"step_overhead_s": 0.004, "gpus_over_time": [(1.5, 4), (3.25, 0), (6.5, 2)]},
    {"physics": "queue", "gpus_over_time": [(0.5, 1), (2.5, 0), (4.75, 8)], "device_queueing": True},
]


def played(world, granted, n):
    return Simulation(world).run(fixed(granted, n))


def agrees(seed, settings):
    world, granted, n = random_world(np.random.default_rng([17, seed]), **settings)
    records = played(world, granted, n)
    ended, left, arrived = stepped(world, granted, n)
    latency = ended - world.requests.time_s
    assert np.allclose(outcome.latency(world, records), latency, rtol=1e-3, atol=3 * DT)
    done = ~records.given_up & records.granted
    assert np.allclose(records.left_s[done], left[done], atol=10 * DT)
    assert np.allclose(records.arrived_s[done], arrived[done], atol=10 * DT)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", range(WORLDS))
def test_it_agrees_with_a_slow_stepper(seed, settings):
    agrees(seed, settings)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", range(WORLDS, 40))
def test_it_agrees_with_a_slow_stepper_in_many_worlds(seed, settings):
    agrees(seed, settings)


@pytest.mark.parametrize("settings", SETTINGS)
def test_everything_is_conserved(settings):
    """Every request ends once, nothing is left at work, and the radio has sent what the granted ones send."""
    for seed in range(30):
        world, granted, n = random_world(np.random.default_rng([18, seed]), **settings)
        simulation = Simulation(world)
        records = simulation.run(fixed(granted, n))
        assert np.all(np.isfinite(records.ended_s))
        assert np.all(records.ended_s >= world.requests.time_s)
        assert len(simulation.state.edges[0]) == len(simulation.state.radios[0]) == 0
        reached = records.granted & np.isfinite(records.left_s) & (records.arrived_s > records.left_s)
        if world.scenario.latent_bits and not records.given_up.any():
            assert simulation.state.radios[0].sent == np.count_nonzero(reached)
        parts = outcome.realised(world, records)
        assert np.allclose(sum(vars(parts).values()), outcome.latency(world, records))
        assert all(np.all(values >= -1e-9) for values in vars(parts).values())


def one_round(n):
    """A round of an empty edge: users with splits n, who ask at the ends of their slots."""
    count = len(n)
    users = make_users(np.linspace(0.05, 0.3, count), 10.0, slot=np.arange(1, count + 1))
    requests = Requests(time_s=np.arange(1, count + 1) / 10, user=np.arange(count), patience_s=np.full(count, np.inf))
    return World(scenario=make_scenario(), users=users, requests=requests), [True] * count, list(n)


def test_the_papers_plan_is_the_worst_case_of_one_round():
    world, granted, n = one_round([80, 100, 120, 120, 160, 199])
    records = played(world, granted, n)
    happened, planned = outcome.realised(world, records), outcome.planned(world, records)
    for name, values in vars(happened).items():
        assert np.all(values <= getattr(planned, name) + 1e-9), name
    assert np.any(happened.edge_s < planned.edge_s - 1e-3)


def test_equal_splits_take_exactly_what_the_paper_says():
    world, granted, n = one_round([90] * 5)
    records = played(world, granted, n)
    paper = evaluate(world.scenario, world.users, Plan(np.array(granted), np.array(n)))
    happened = outcome.realised(world, records)
    for name in ("wait_s", "edge_s", "transmit_s", "local_s"):
        assert np.allclose(getattr(happened, name), getattr(paper, name)), name
    assert np.allclose(outcome.quality_of_experience(world, records), paper.qoe)


def test_a_seed_gives_the_same_rows_and_calls():
    world, _, _ = random_world(np.random.default_rng(5))
    first, second = (Simulation(world, log=True) for _ in range(2))
    for simulation in (first, second):
        simulation.run(decider(world, decide))
    assert first.calls == second.calls
    for name, values in vars(first.records).items():
        assert np.array_equal(values, getattr(second.records, name), equal_nan=values.dtype.kind == "f")


def test_the_scheduler_sees_what_is_in_flight():
    """The load of every call is what a stepper counts at that moment."""
    world, granted, n = random_world(np.random.default_rng(11))
    world = replace(world, requests=replace(world.requests, patience_s=np.full(len(n), np.inf)))
    seen = []

    def look(requests, load):
        seen.append((requests, load))
        return fixed(granted, n)(requests, load)

    records = Simulation(world, counts_steps=True).run(look)
    _, left, arrived = stepped(world, granted, n)
    for requests, load in seen:
        now = records.decided_s[requests[0]]
        before = records.granted & (records.decided_s < now)
        assert load.in_flight == np.count_nonzero(before & (left > now)) == len(load.steps_left)
        assert load.on_radio == np.count_nonzero(before & (left <= now) & (arrived > now))


def test_without_a_gpu_everybody_is_local_until_one_is_there():
    world, _, _ = random_world(np.random.default_rng(3))
    calm = replace(world.requests, patience_s=np.full(len(world.requests), np.inf))
    world = replace(world, requests=calm, gpus_over_time=[(0.0, 0)])
    records = Simulation(world).run(decider(world, decide))
    assert not records.granted.any()
    late = replace(world, gpus_over_time=[(0.0, 0), (2.5, 8)])
    records = Simulation(late).run(decider(late, decide))
    assert not records.granted[records.decided_s < 2.5].any()


def test_a_price_is_no_part_of_what_anybody_gets():
    """The QoE as it happened is alpha F(n) - L, whatever the rule charged."""
    world, _, _ = random_world(np.random.default_rng(8))
    records = Simulation(world).run(decider(world, lambda *given, **more: decide(*given, rule=price, **more)))
    pai = np.where(records.given_up, 0, world.scenario.pai.value(records.local_steps))
    expected = world.alpha * pai - (records.ended_s - world.requests.time_s)
    assert np.array_equal(outcome.quality_of_experience(world, records), expected)


def test_a_busy_radio_is_shared_equally():
    """Two intermediates that start at once take twice as long as one alone."""
    world, granted, n = one_round([120, 120])
    records = played(world, granted, n)
    alone = float(transmit_time(world.scenario, 1))
    assert np.allclose(records.arrived_s - records.left_s, 2 * alone)


def test_images_of_own_steps_keep_their_share_of_the_curve():
    world, _, _ = random_world(np.random.default_rng(4))
    steps = np.where(np.arange(len(world.requests)) % 2, 30, world.scenario.total_steps)
    own = replace(world, requests=replace(world.requests, own_steps=steps))
    records = Simulation(own).run(decider(own, decide))
    assert np.all(records.local_steps <= steps)
    assert np.all(records.local_steps >= np.ceil(world.scenario.min_local_steps * steps / world.scenario.total_steps))
    assert np.allclose(own.all_local_pai, world.scenario.pai.value(world.scenario.total_steps))


def test_where_batches_queue_the_load_says_how_long():
    """A round's batch starts when the load said; no later round changes that."""
    for seed in range(20):
        world, granted, n = random_world(np.random.default_rng([21, seed]), physics="queue")
        world = replace(world, requests=replace(world.requests, patience_s=np.full(len(n), np.inf)))
        seen = []

        def look(requests, load, granted=granted, n=n, seen=seen):
            seen.append((requests, load))
            return fixed(granted, n)(requests, load)

        records = Simulation(world).run(look)
        for requests, load in seen:
            steps = (world.total_steps - records.local_steps)[requests][records.granted[requests]]
            steps = steps[steps > 0]
            if steps.size:
                start = records.decided_s[requests[0]] + load.queue_s
                step_s = float(edge_step_latency(world.scenario, steps.size))
                left = records.left_s[requests][records.granted[requests]]
                first = np.min(left[left > records.decided_s[requests[0]]])
                assert first == pytest.approx(start + steps.min() * step_s)

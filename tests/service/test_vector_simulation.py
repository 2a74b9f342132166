"""The vectorised twin: it plays every world as the simulator does, whoever prices."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from edgesplit.common.errors import InputError
from edgesplit.optimizer.model.terms import FREE
from edgesplit.service import outcome
from edgesplit.service.learn import vector_simulation
from edgesplit.service.learn.vector_simulation import VectorSimulation
from edgesplit.service.price_policy import FEATURES, PricePolicy, Sight, features, prices_of, shapes
from edgesplit.service.scheduler import aware, decide, price, sending
from edgesplit.service.simulator import Simulation, decider, fixed
from edgesplit.service.tuning import Kind, worlds_of

MOVING = "random:10,2,4,8"
KINDS = [
    Kind("poisson:1", 20),
    Kind("poisson:8", 20),
    Kind("poisson:12", 20, 2),
    Kind("bursts:2,14,10", 20, None, MOVING),
    Kind("bursts:1,5,10", 1, None, MOVING),
    Kind("poisson:4", 0.2, None, "random:5,0,1,8"),
]


def worlds(seconds=40, seed=0, count=2):
    return [world for kind in KINDS for world in worlds_of(kind, "default", seconds, seed, count)[0]]


def gain_of(world, records):
    total = world.total_steps.tolist()
    local = Simulation(world).run(fixed([False] * len(total), total))
    return outcome.quality_of_experience(world, records) - outcome.quality_of_experience(world, local)


def random_policy(seed):
    rng = np.random.default_rng(seed)
    return PricePolicy({name: rng.normal(0, 0.3, shape) for name, shape in shapes().items()})


POLICY = random_policy(0)
WAYS = {
    "price": (vector_simulation.price, partial(decide, rule=price)),
    "aware": (lambda now, sight: FREE, partial(decide, rule=aware)),
    "learned": (POLICY.prices, POLICY.plan),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_twin_plays_every_world_as_the_simulator(name):
    pricing, plan = WAYS[name]
    played = worlds()
    twin = VectorSimulation(played)
    total = twin.run(pricing)
    by_round = twin.gains_by_round()
    for number, world in enumerate(played):
        records = Simulation(world).run(decider(world, plan))
        gain, places = gain_of(world, records), slice(0, len(world.requests))
        assert np.array_equal(twin.local_steps[number, places], records.local_steps)
        assert np.allclose(twin.gain[number, places], gain, rtol=0, atol=1e-9, equal_nan=True)
        known = np.nan_to_num(gain)
        assert total[number] == pytest.approx(known.sum(), abs=1e-8)
        summed = np.bincount(world.round_of, known, by_round.shape[1])
        assert np.allclose(by_round[number], summed, rtol=0, atol=1e-8)


def test_a_world_is_played_alike_alone_and_beside_others():
    played = worlds()
    together = VectorSimulation(played).run(POLICY.prices)
    alone = [VectorSimulation([world]).run(POLICY.prices)[0] for world in played]
    assert np.allclose(together, alone, rtol=0, atol=1e-8)


def test_more_images_than_there_are_places_at_first():
    (world,), _ = worlds_of(Kind("poisson:100", 1000, 16), "default", 6, 0, 1)
    world = replace(world, scenario=replace(world.scenario, max_batch=300))
    twin = VectorSimulation([world])
    twin.run(lambda now, sight: FREE)
    records = Simulation(world).run(decider(world, partial(decide, rule=aware)))
    assert records.met.max() > vector_simulation.PLACES
    assert np.array_equal(twin.local_steps[0], records.local_steps)


def test_worlds_that_the_twin_does_not_know_are_refused():
    world, *_ = worlds(5)
    for other in (
        replace(world, physics="queue"),
        replace(world, device_queueing=True),
        replace(world, scenario=replace(world.scenario, total_steps=100)),
        replace(world, requests=replace(world.requests, patience_s=np.full(len(world.requests), 9.0))),
    ):
        with pytest.raises(InputError, match="accepted: continuous worlds of one scenario and one server"):
            VectorSimulation([world, other])


def test_a_network_that_says_nothing_is_the_rule_price():
    silent = PricePolicy({name: np.zeros(shape) for name, shape in shapes().items()})
    played = worlds(20)
    says_nothing, formula = (VectorSimulation(played).run(way) for way in (silent.prices, vector_simulation.price))
    assert np.array_equal(says_nothing, formula)


def test_prices_never_make_a_step_or_a_grant_worth_taking_for_nothing():
    rng = np.random.default_rng(3)
    scenario = worlds(2)[0].scenario
    b_0, q_0, pending = (rng.integers(0, most, 500) for most in (90, 9, 30))
    sight = Sight(b_0, q_0, rng.uniform(0, 20, 500), 1 + pending, rng.uniform(0.02, 1, 500))
    now = replace(scenario, gpus=rng.integers(1, 17, 500))
    assert features(now, sight).shape == (500, FEATURES)
    assert np.isfinite(features(now, sight)).all()
    prices = prices_of(now, sight, rng.normal(0, 1e6, (500, 2)))
    step = now.edge.step_latency(sight.in_flight / now.gpus)
    assert (prices.step_s + step > 0).all()
    assert (prices.grant_s + sending(scenario) * (q_0 + 1) > 0).all()
    assert np.isfinite(prices.step_s).all()
    assert np.isfinite(prices.grant_s).all()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_network_says_plans_keep_the_constraints(seed):
    rng = np.random.default_rng(seed)
    wild = PricePolicy({name: rng.normal(0, 10.0**seed, shape) for name, shape in shapes().items()})
    for world in worlds(6, seed, 1):
        records = Simulation(world).run(decider(world, wild.plan))
        granted, n = records.granted, records.local_steps
        assert (np.bincount(world.round_of, granted) <= world.scenario.max_batch).all()
        assert (n[granted] >= world.scenario.min_local_steps).all()
        assert (n[~granted] == world.scenario.total_steps).all()

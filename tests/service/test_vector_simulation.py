"""The vectorised twin: it plays every world as the simulator does, whoever prices."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from oracles import make_users

from edgesplit.common.errors import InputError
from edgesplit.optimizer.model.terms import FREE
from edgesplit.service import outcome
from edgesplit.service.learn import vector_simulation
from edgesplit.service.learn.vector_simulation import VectorSimulation
from edgesplit.service.price_file import load_prices
from edgesplit.service.price_policy import FEATURES, OUTPUTS, PricePolicy, Sight, features, prices_of, shapes
from edgesplit.service.scheduler import Load, aware, by_load, decide, price, revise, sending
from edgesplit.service.simulator import Simulation, decider, fixed, reviser
from edgesplit.service.tuning import Kind, worlds_of
from edgesplit.service.worlds import draw_world

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


price_of_formula = vector_simulation.formula_pricing
POLICY, TUNED = random_policy(0), load_prices().rule()
WAYS = {
    "price": (vector_simulation.formula_pricing, partial(decide, rule=price), by_load(price)),
    "aware": (lambda now, sight: FREE, partial(decide, rule=aware), by_load(aware)),
    "learned": (POLICY.prices, POLICY.plan, POLICY.terms),
    "trained": (vector_simulation.tuned_pricing(TUNED), partial(decide, rule=TUNED), by_load(TUNED)),
}


@pytest.mark.parametrize("revises", [False, True])
@pytest.mark.parametrize("name", WAYS)
def test_the_twin_plays_every_world_as_the_simulator(name, revises):
    pricing, plan, terms_of = WAYS[name]
    played = worlds()
    twin = VectorSimulation(played, revises)
    total = twin.run(pricing)
    by_round = twin.gains_by_round()
    for number, world in enumerate(played):
        own = reviser(world, partial(revise, terms_of=terms_of)) if revises else None
        records = Simulation(world, revise=own).run(decider(world, plan))
        gain, places = gain_of(world, records), slice(0, len(world.requests))
        assert np.array_equal(twin.local_steps[number, places], records.local_steps)
        assert np.allclose(twin.gain[number, places], gain, rtol=0, atol=1e-9, equal_nan=True)
        known = np.nan_to_num(gain)
        assert total[number] == pytest.approx(known.sum(), abs=1e-8)
        summed = np.bincount(world.round_of, known, by_round.shape[1])
        assert np.allclose(by_round[number], summed, rtol=0, atol=1e-8)


@pytest.mark.parametrize("revises", [False, True])
def test_a_world_is_played_alike_alone_and_beside_others(revises):
    played = worlds()
    together = VectorSimulation(played, revises).run(POLICY.prices)
    alone = [VectorSimulation([world], revises).run(POLICY.prices)[0] for world in played]
    assert np.allclose(together, alone, rtol=0, atol=1e-8)


@pytest.mark.parametrize("revises", [False, True])
@pytest.mark.parametrize("changed", [0, 7, 23])
def test_what_a_round_changes_becomes_known_after_it(changed, revises):
    """Gains by time tell causes from effects; gains by round do not, as later rounds move what is in flight."""

    def dearer(now, sight):
        prices = vector_simulation.formula_pricing(now, sight)
        return replace(prices, step_s=3 * prices.step_s + 0.01) if twin.round == changed else prices

    twin, other = (VectorSimulation(worlds(), revises) for _ in range(2))
    twin.run(dearer)
    other.run(vector_simulation.formula_pricing)
    before = slice(0, changed)
    assert np.allclose(twin.gains_by_time()[:, before], other.gains_by_time()[:, before], rtol=0, atol=1e-8)
    assert np.abs(twin.gains_by_time() - other.gains_by_time()).max() > 1e-3
    assert np.allclose(twin.gains_by_time().sum(axis=1), twin.gains_by_round().sum(axis=1))
    if changed:
        assert np.abs(twin.gains_by_round() - other.gains_by_round())[:, before].max() > 1e-3


def test_more_images_than_there_are_places_at_first():
    (world,), _ = worlds_of(Kind("poisson:100", 1000, 16), "default", 6, 0, 1)
    world = replace(world, scenario=replace(world.scenario, max_batch=300))
    twin = VectorSimulation([world])
    twin.run(lambda now, sight: FREE)
    records = Simulation(world).run(decider(world, partial(decide, rule=aware)))
    assert records.met.max() > vector_simulation.PLACES
    assert np.array_equal(twin.local_steps[0], records.local_steps)


@pytest.mark.parametrize("after", [0, 1, 17])
@pytest.mark.parametrize("revises", [False, True])
def test_a_branch_goes_on_as_the_world_it_left(after, revises):
    pricing = vector_simulation.formula_pricing
    for world in worlds(25, seed=3, count=1):
        play = VectorSimulation([world], revises)
        while play.round < min(after, play.rounds - 1):
            now, sight = play.begin_round()
            play.end_round(now, sight, pricing(now, sight))
        end = max(1, int(np.searchsorted(world.round_of, play.round, side="right")))
        shorter = replace(world, requests=world.requests.take(slice(0, end)))
        branch = play.branch([world, shorter, world])
        whole, short, again = branch.run(pricing)
        assert whole == again == VectorSimulation([world], revises).run(pricing)[0]
        if not revises or shorter.round_of[-1] >= play.round:  # a world revises until its own last round
            assert short == VectorSimulation([shorter], revises).run(pricing)[0]
        assert play.run(pricing)[0] == whole  # its own way is left alone


def test_a_crowd_finds_room_at_edge_and_radio():
    scenario = replace(worlds(2)[0].scenario, max_batch=400)
    for arrivals in ("poisson:200", "bursts:40,400,2"):
        world = draw_world(scenario, arrivals, rounds=3, seed=1)
        twin = VectorSimulation([world])
        twin.run(vector_simulation.formula_pricing)
        records = Simulation(world).run(decider(world, partial(decide, rule=price)))
        assert np.array_equal(twin.local_steps[0], records.local_steps)
        assert np.allclose(twin.gain[0], gain_of(world, records), atol=1e-9)


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
    ways = (silent.prices, vector_simulation.formula_pricing)
    says_nothing, formula = (VectorSimulation(played).run(way) for way in ways)
    assert np.array_equal(says_nothing, formula)


def test_prices_never_make_a_step_or_a_grant_worth_taking_for_nothing():
    rng = np.random.default_rng(3)
    scenario = worlds(2)[0].scenario
    b_0, q_0, pending = (rng.integers(0, most, 500) for most in (90, 9, 30))
    sight = Sight(b_0, q_0, rng.uniform(0, 20, 500), 1 + pending, rng.uniform(0.02, 1, 500))
    now = replace(scenario, gpus=rng.integers(1, 17, 500))
    assert features(now, sight).shape == (500, FEATURES)
    assert np.isfinite(features(now, sight)).all()
    prices = prices_of(now, sight, rng.normal(0, 1e6, (500, OUTPUTS)))
    step = now.edge.step_latency(sight.in_flight / now.gpus)
    assert (prices.step_s + step > 0).all()
    assert (prices.grant_s + sending(scenario) * (q_0 + 1) > 0).all()
    assert all(np.isfinite(value).all() for value in vars(prices).values() if value is not None)


def test_rounds_unlike_those_of_training_are_priced_by_the_formula():
    policy = replace(POLICY, familiar={"pending": 20.0, "on_radio": 5.0})
    now = worlds(2)[0].scenario
    sight = Sight(np.full(3, 12), np.array([5, 5, 6]), np.full(3, 4.0), np.array([20, 21, 3]), np.full(3, 0.1))
    own, everywhere, formula = policy.prices(now, sight), POLICY.prices(now, sight), price_of_formula(now, sight)
    for name in ("step_s", "grant_s"):
        mine, network, plain = (getattr(prices, name) for prices in (own, everywhere, formula))
        assert np.allclose(mine, np.where([True, False, False], network, plain))
        assert not np.allclose(network, plain)
    load = Load(in_flight=12, on_radio=6, gpus=now.gpus, arrivals_per_s=4.0)
    users = make_users(np.linspace(0.05, 0.3, 9), 40.0)
    assert policy.terms(now, load, users).prices == price(now, load).prices


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_network_says_plans_keep_the_constraints(seed):
    rng = np.random.default_rng(seed)
    wild = PricePolicy({name: rng.normal(0, 10.0**seed, shape) for name, shape in shapes().items()})
    for world in worlds(6, seed, 1):
        own = reviser(world, partial(revise, terms_of=wild.terms))
        records = Simulation(world, revise=own).run(decider(world, wild.plan))
        granted, n = records.granted, records.local_steps
        assert (np.bincount(world.round_of, granted) <= world.scenario.max_batch).all()
        assert (n[granted] >= world.scenario.min_local_steps).all()
        assert (n[~granted] == world.scenario.total_steps).all()


def test_where_its_batch_has_to_wait_the_rule_to_fall_back_on_decides():
    rng, world = np.random.default_rng(2), worlds(1)[0]
    wild = PricePolicy({name: rng.normal(0, 1, shape) for name, shape in shapes().items()}, fall_back=aware)
    load, users = Load(30, 2, 8, 6.0, queue_s=1.5), world.users.take(np.arange(12))
    plan, other = wild.plan(world.scenario, load, users), decide(world.scenario, load, users, aware)
    assert np.array_equal(plan.local_steps, other.local_steps)
    beside = replace(load, queue_s=0.0)
    assert not np.array_equal(wild.plan(world.scenario, beside, users).local_steps,
                              decide(world.scenario, beside, users, aware).local_steps)  # fmt: skip

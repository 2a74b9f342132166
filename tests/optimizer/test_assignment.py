"""Laws of the methods for several servers; oracles: brute force, the plain formula, the optimum of one server."""

import itertools
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from fleets import (
    brute_force_gain,
    coverage_fleet,
    largest_coverage,
    largest_packing,
    make_fleet,
    make_model,
    packing_fleet,
    plan_gain,
    random_fleet,
    random_fleet_users,
)
from oracles import random_scenario, random_users

from edgesplit import data
from edgesplit.optimizer.agent.instances import Range, default_scenario, paper_instance
from edgesplit.optimizer.inputs.fleet import resolve_system
from edgesplit.optimizer.inputs.scenario import overrides
from edgesplit.optimizer.inputs.users import read_users
from edgesplit.optimizer.methods.assignment.baselines import greedy, nearest, server_by_server
from edgesplit.optimizer.methods.assignment.branch import assign_exact
from edgesplit.optimizer.methods.assignment.dual import Dual, proof
from edgesplit.optimizer.methods.assignment.genetic import genetic_assign
from edgesplit.optimizer.methods.assignment.ilp_states import ilp_states
from edgesplit.optimizer.methods.assignment.search import assign
from edgesplit.optimizer.methods.assignment.table import gain_table, top_sums
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.model.qoe import all_local
from edgesplit.optimizer.model.servers import FleetPlan, FleetServer, constraints, evaluate, single
from edgesplit.optimizer.planner import plan as planned

TINY = range(300)


@cache
def tiny(seed):
    """Two or three servers, up to seven users, and the most that any plan gains."""
    rng = np.random.default_rng([22, seed])
    servers = int(rng.integers(2, 4))
    fleet = random_fleet(rng, servers, int(rng.integers(1, 4)))
    users = random_fleet_users(rng, int(rng.integers(1, 8)), servers)
    return fleet, users, brute_force_gain(fleet, users)


def gain(fleet, users, plan):
    """The rise of the evaluator's objective over all local, seconds."""
    return float((evaluate(fleet, users, plan).qoe - evaluate(fleet, users, all_local(fleet, users)).qoe).sum())


def assert_possible(fleet, users, plan):
    for name, kept in constraints(fleet, users, plan).items():
        assert kept.all(), name
    assert gain(fleet, users, plan) == pytest.approx(plan_gain(fleet, users, plan), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", TINY)
def test_assign_is_never_above_brute_force_and_its_bound_never_below(seed):
    fleet, users, best = tiny(seed)
    plan = assign(fleet, users)
    assert_possible(fleet, users, plan)
    tolerance = 1e-9 * (1 + best)
    assert gain(fleet, users, plan) <= best + tolerance
    assert plan.bounds[0] >= best - tolerance


@pytest.mark.parametrize("seed", TINY)
def test_assign_exact_equals_brute_force(seed):
    fleet, users, best = tiny(seed)
    plan = assign_exact(fleet, users)
    assert_possible(fleet, users, plan)
    assert gain(fleet, users, plan) == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert plan.bounds[0] == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert plan.note.startswith("optimal: gain ")


@pytest.mark.parametrize("seed", TINY)
def test_ilp_states_equals_brute_force(seed):
    fleet, users, best = tiny(seed)
    plan = ilp_states(fleet, users)
    assert_possible(fleet, users, plan)
    assert gain(fleet, users, plan) == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert plan.note.startswith("optimal: gain ")


@pytest.mark.parametrize(
    "method", [greedy, server_by_server, nearest, partial(genetic_assign, population=10, generations=5)]
)
def test_peers_are_possible_and_never_above_brute_force(method):
    for seed in TINY:
        fleet, users, best = tiny(seed)
        plan = method(fleet, users)
        assert_possible(fleet, users, plan)
        assert gain(fleet, users, plan) <= best + 1e-9 * (1 + best)


@pytest.mark.parametrize("seed", TINY)
def test_any_prices_prove_a_bound(seed):
    fleet, users, best = tiny(seed)
    table, rng = gain_table(fleet, users), np.random.default_rng(seed)
    for scale in (0.0, 0.1, 1.0, 10.0):
        prices = rng.exponential(scale, len(users)) * (rng.random(len(users)) < 0.7)
        assert proof(table, prices).bound >= best - 1e-9 * (1 + best)


@pytest.mark.parametrize("seed", TINY)
def test_a_bound_that_rates_few_states_is_that_of_all_of_them(seed):
    fleet, users, _ = tiny(seed)
    table, rng = gain_table(fleet, users), np.random.default_rng(seed)
    dual, prices = Dual(table), np.zeros(len(users))
    for _ in range(10):
        prices = np.maximum(prices + rng.normal(0, 1, len(users)), 0)
        found = dual.proof(prices)
        worth = [top_sums(states.gain - prices, states.count) for states in table]
        assert found.bound == pytest.approx(prices.sum() + sum(own.max() for own in worth), rel=1e-12, abs=1e-12)
        assert all((most >= own - 1e-9).all() for most, own in zip(found.values, worth, strict=True))


# -- one server ---------------------------------------------------------------------------------------------


def assert_as_optimum(scenario, users):
    best, found = optimum(scenario, users), assign(scenario, users)
    local = evaluate(scenario, users, all_local(scenario, users)).qoe.sum()
    values = [evaluate(scenario, users, plan).qoe.sum() - local for plan in (best, found)]
    assert values[1] == pytest.approx(values[0], rel=1e-9, abs=1e-9)
    assert found.bounds.sum() == pytest.approx(values[0], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", range(200))
def test_one_server_is_planned_as_the_optimum(seed):
    instance = paper_instance(np.random.default_rng([22, seed]))
    assert_as_optimum(instance.scenario, instance.users)


@pytest.mark.parametrize("name", ["users.csv", "phones.csv", "policies/specific-users.csv"])
@pytest.mark.parametrize("gpus", [1, 8])
def test_shipped_users_are_planned_as_the_optimum(name, gpus):
    resolved = resolve_system("default", overrides(gpus=gpus))
    assert_as_optimum(resolved.scenario, read_users(data.FOLDER / name, resolved.for_alpha))


@pytest.mark.parametrize("seed", range(40))
def test_a_fleet_of_one_is_evaluated_byte_for_byte_as_its_server(seed):
    rng = np.random.default_rng([1, seed])
    scenario, users = random_scenario(rng), random_users(rng, int(rng.integers(1, 9)))
    plan, fleet = optimum(scenario, users), single(scenario)
    nowhere = np.where(plan.granted, 0, -1)
    placed = FleetPlan(plan.granted, plan.local_steps, server=nowhere, model=nowhere)
    for one, other in zip(
        vars(evaluate(scenario, users, plan)).values(), vars(evaluate(fleet, users, placed)).values(), strict=True
    ):
        assert one.tobytes() == other.tobytes()


# -- hardness, placement, cells, limits -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_optimum_of_the_gadget_packs_the_most_sets(seed):
    rng = np.random.default_rng([3, seed])
    elements = int(rng.integers(4, 9))
    sets = [tuple(rng.choice(elements, 3, replace=False).tolist()) for _ in range(int(rng.integers(2, 8)))]
    fleet, users, alone, together = packing_fleet(sets, elements)
    assert 2 * together / 3 < alone < together
    packed = largest_packing(sets)
    best = len(sets) * alone + packed * (together - alone)
    for method in (assign_exact, ilp_states):
        plan = method(fleet, users)
        assert gain(fleet, users, plan) == pytest.approx(best, rel=1e-6)
        assert (np.bincount(plan.server[plan.server >= 0], minlength=len(sets)) == 3).sum() == packed


@pytest.mark.parametrize("seed", range(10))
def test_the_best_placement_of_the_gadget_covers_the_most_elements(seed):
    rng = np.random.default_rng([4, seed])
    elements, held = int(rng.integers(4, 10)), int(rng.integers(1, 4))
    sets = [tuple(np.flatnonzero(rng.random(elements) < 0.3).tolist()) or (0,) for _ in range(int(rng.integers(3, 9)))]
    fleet, users = coverage_fleet(sets, elements, held)
    for method in (assign, assign_exact):
        assert gain(fleet, users, method(fleet, users)) == pytest.approx(largest_coverage(sets, held), rel=1e-9)


def placement_instance(seed, users=40):
    """Servers with room for one or two of three models, as `plan init` writes them."""
    rng = np.random.default_rng([40, seed])
    scenario = default_scenario()
    others = replace(scenario.pai, midpoint=scenario.pai.midpoint + 40)
    models = [make_model(name=f"model-{c}", size=1.0, clusters=(c,), pai=scenario.pai, others=others, base=c)
              for c in range(3)]  # fmt: skip
    servers = [
        FleetServer(
            name=f"server-{m}",
            scenario=replace(scenario, gpus=int(rng.choice([1, 2, 4, 8])), bandwidth_hz=20e6),
            hosts=(0, 1, 2),
            memory_bytes=float(rng.integers(1, 3)),
        )
        for m in range(3)
    ]
    drawn = paper_instance(rng, Range(users=(users, users))).users
    rate = rng.choice([0.0, 2.0, 5.0, 10.0], (users, 3))
    users = replace(drawn, cluster=rng.integers(0, 3, users), rate=rate)
    return make_fleet(servers, models, ("a", "b", "c")), users


@pytest.mark.parametrize("seed", range(3))
def test_placement_and_assignment_together_are_as_good_as_every_placement_tried(seed):
    fleet, users = placement_instance(seed)
    joint = assign_exact(fleet, users)
    assert joint.note.startswith("optimal")
    best = -np.inf
    for chosen in itertools.product(*(fleet.placements(m) for m in range(3))):
        hosting = zip(fleet.servers, chosen, strict=True)
        fixed = replace(fleet, servers=tuple(replace(server, hosts=tuple(sorted(own))) for server, own in hosting))
        best = max(best, gain(fixed, users, assign_exact(fixed, users)))
    assert gain(fleet, users, joint) == pytest.approx(best, rel=1e-9)


def test_users_keep_their_clusters_and_links_where_they_have_no_names():
    fleet, users = placement_instance(2)
    outcome = planned(fleet, users, "assign-exact")
    assert outcome.score.gain == pytest.approx(gain(fleet, users, assign_exact(fleet, users)))
    assert outcome.planned_users.rate is users.rate


def test_cells_are_rounds_of_their_own():
    fleet, users = placement_instance(7, users=12)
    cell = np.arange(12) % 3
    together = assign_exact(fleet, replace(users, cell=cell))
    assert together.bound_s.shape == (3,)
    assert together.note == f"optimal: gain {gain(fleet, replace(users, cell=cell), together):.6g} s"
    none = ilp_states(fleet, replace(users, cell=cell), time_limit_s=0.0)
    assert none.note == "not proven, time limit in 3 of 3 cells: gain 0 s, no bound yet"
    for number in range(3):
        own = users.take(np.flatnonzero(cell == number))
        alone = assign_exact(fleet, own)
        assert together.bound_s[number] == pytest.approx(alone.bounds[0])
        assert np.array_equal(together.server[cell == number], alone.server)


def test_a_time_limit_is_kept_and_the_bound_told():
    fleet, users = placement_instance(3)  # whose dual bound is above the optimum
    plan, best = assign_exact(fleet, users, time_limit_s=0.0), assign_exact(fleet, users)
    assert plan.note.startswith("not proven, time limit: gain ")
    assert gain(fleet, users, plan) <= gain(fleet, users, best) < plan.bounds[0]
    assert ilp_states(fleet, users, time_limit_s=0.0).note == "not proven, time limit: gain 0 s, no bound yet"

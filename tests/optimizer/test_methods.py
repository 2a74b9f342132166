"""Every method on every instance with a known optimum."""

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from oracles import brute_force, make_scenario, make_users, plan_value, random_scenario, random_users, user_qoe

from edgesplit.common.errors import InputError
from edgesplit.optimizer.methods import genetic as genes
from edgesplit.optimizer.methods.genetic import decision_values, gains_by_count, genetic, genetic_joint
from edgesplit.optimizer.methods.ilp import OPTIMAL, PROVEN, TIME_LIMIT, ilp_fixed, ilp_joint, solve
from edgesplit.optimizer.methods.memetic import climb
from edgesplit.optimizer.methods.products import ilp_products, ilp_rlt
from edgesplit.optimizer.methods.registry import BUILT_IN
from edgesplit.optimizer.model.qoe import Users, all_local, evaluate, objective, with_load
from edgesplit.optimizer.planner import plan

QUICK = {"population": 20, "generations": 15}
SEEDS = range(40)
COMPLETE = ("exact", "ilp-joint")


def quick(scenario, users, method):
    """A plan, with few generations where the method has them."""
    return plan(scenario, users, method, **(QUICK if "population" in BUILT_IN[method].options else {}))


@cache
def instance(seed):
    rng = np.random.default_rng([7, seed])
    scenario, users = random_scenario(rng), random_users(rng, int(rng.integers(1, 7)))
    return scenario, users, brute_force(scenario, users)


@pytest.mark.parametrize("method", list(BUILT_IN))
@pytest.mark.parametrize("seed", SEEDS)
def test_no_method_beats_brute_force_and_complete_ones_equal_it(seed, method):
    scenario, users, best = instance(seed)
    outcome = quick(scenario, users, method)
    total, made = outcome.totals, outcome.plan
    tolerance = 1e-9 * max(1, abs(best))
    assert total.objective <= best + tolerance
    assert total.objective == pytest.approx(plan_value(scenario, users, made.granted, made.local_steps), rel=1e-9)
    if method in COMPLETE:
        assert total.objective == pytest.approx(best, rel=1e-6, abs=1e-6 if method == "ilp-joint" else 1e-9)


@pytest.mark.parametrize("method", ["ilp-fixed", "ilp-products", "ilp-rlt"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_papers_programs_are_brute_force_at_one_split(seed, method):
    s, users, _ = instance(seed)
    rows = list(zip(users.step_latency_s, users.alpha, users.request_slot, strict=True))
    local = [user_qoe(s, *row, False, s.total_steps, 0) for row in rows]
    best = sum(local)
    for granted in itertools.product([False, True], repeat=len(rows)):
        b = sum(granted)
        if 0 < b <= s.max_batch and s.min_local_steps < s.total_steps:
            qoe = [user_qoe(s, *row, True, s.min_local_steps, b) if g else local[i]
                   for i, (row, g) in enumerate(zip(rows, granted, strict=True))]  # fmt: skip
            best = max(best, sum(qoe))
    outcome = plan(s, users, method)
    assert outcome.totals.objective == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert outcome.plan.note.startswith("optimal for its form, gap 0: gain ")


@pytest.mark.parametrize("seed", range(10))
def test_the_papers_programs_are_ours_at_a_busy_edge_with_a_floor_and_a_limit(seed):
    rng = np.random.default_rng([8, seed])
    scenario = with_load(replace(random_scenario(rng), max_batch=4), *map(int, rng.integers(0, 9, 2)))
    scenario = replace(scenario, edge=replace(scenario.edge, floor_s=float(rng.uniform(0, 0.2))))
    users = random_users(rng, 12)
    ours, *others = (plan(scenario, users, method) for method in ("ilp-fixed", "ilp-products", "ilp-rlt"))
    for other in others:
        assert other.plan.note.startswith(PROVEN)
        assert other.totals.objective == pytest.approx(ours.totals.objective, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("method", ["ilp-products", "ilp-rlt"])
def test_a_program_of_products_that_time_cuts_is_no_better_than_its_bound(method):
    rng = np.random.default_rng(0)
    scenario, users = make_scenario(max_batch=20), make_users(rng.uniform(0.1, 0.6, 80), rng.uniform(5, 60, 80))
    made = {"ilp-products": ilp_products, "ilp-rlt": ilp_rlt}[method](scenario, users, time_limit_s=0.05)
    assert made.note.startswith("not proven, time limit: ")
    assert made.granted.sum() <= 20


@pytest.mark.parametrize("seed", SEEDS)
def test_no_shift_and_no_swap_improves_what_has_climbed(seed):
    rng = np.random.default_rng([9, seed])
    scenario, users = random_scenario(rng), random_users(rng, int(rng.integers(1, 7)))
    gain = gains_by_count(scenario, users)
    every = np.array(list(itertools.product([False, True], repeat=len(users))))
    value = np.where(every.sum(axis=1) <= scenario.max_batch, decision_values(scenario, gain, every), -np.inf)
    start = every[rng.integers(0, len(every), 5)]
    for before, after in zip(start, climb(scenario, gain, start), strict=True):
        changed = every != after
        shift = changed.sum(axis=1) == 1
        swap = (changed.sum(axis=1) == 2) & (every.sum(axis=1) == after.sum())
        own = value[(every == after).all(axis=1)][0]
        assert own >= value[shift | swap].max(initial=-np.inf) - 1e-9
        assert own >= value[(every == before).all(axis=1)][0] - 1e-9


def test_genetic_values_are_the_evaluators():
    rng = np.random.default_rng(1)
    for _ in range(30):
        scenario, users = random_scenario(rng), random_users(rng, int(rng.integers(1, 9)))
        granted = rng.random((5, len(users))) < 0.5
        out = {}
        genes._problem(scenario, users)._evaluate(granted, out)
        found = -out["F"]
        assert (out["G"] == granted.sum(axis=1) - scenario.max_batch).all()
        local = objective(users, evaluate(scenario, users, all_local(scenario, users)))[0]
        for row, value in zip(granted, found, strict=True):
            rows = zip(users.step_latency_s, users.alpha, users.request_slot, row, strict=True)
            b, splits = int(row.sum()), range(scenario.min_local_steps, scenario.total_steps + 1)
            best = sum(
                max(user_qoe(scenario, *user, True, n, b) for n in splits)
                if g else user_qoe(scenario, *user, False, scenario.total_steps, 0)
                for *user, g in rows
            )  # fmt: skip
            assert value == pytest.approx(best - local, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("method", [genetic, genetic_joint])
def test_one_seed_gives_one_genetic_plan(method):
    users = make_users(np.linspace(0.1, 0.6, 12), 20.0)
    first, second = (method(make_scenario(), users, 20, 10, seed=3) for _ in range(2))
    assert np.array_equal(first.local_steps, second.local_steps)


def test_a_time_limit_is_kept_and_told():
    rng = np.random.default_rng(0)
    scenario = make_scenario(max_batch=64)
    users = make_users(rng.uniform(0.1, 0.6, 200), rng.uniform(5, 60, 200))
    splits = np.arange(scenario.min_local_steps, scenario.total_steps)
    solution = solve(scenario, users, splits, time_limit_s=0.2)
    assert solution.status == TIME_LIMIT
    assert solution.bound >= solution.value
    made = ilp_joint(scenario, users, time_limit_s=0.2)
    assert made.note.startswith("not proven, time limit: gain ")
    assert "inf" not in made.note


@pytest.mark.parametrize("seed", SEEDS)
def test_optimal_means_that_the_bound_is_the_value_and_the_value_the_plans(seed):
    scenario, users, best = instance(seed)
    splits = np.arange(scenario.min_local_steps, scenario.total_steps)
    found = solve(scenario, users, splits)
    local = objective(users, evaluate(scenario, users, all_local(scenario, users)))[0]
    assert found.status == OPTIMAL
    assert found.bound == pytest.approx(found.value, rel=1e-9, abs=1e-9)
    assert found.value == pytest.approx(best - local, rel=1e-6, abs=1e-6)


def test_the_time_limit_is_the_whole_plans_and_cells_it_does_not_reach_stay_local(monkeypatch):
    """Every cell takes 1 s of a clock of our own."""
    from edgesplit.optimizer.methods import ilp

    now, given = [0.0], []
    users = Users(np.full(6, 0.5), np.full(6, 20.0), np.full(6, 10), np.arange(6) // 2)

    def one_second(scenario, own, splits, limit, form):
        given.append(limit)
        now[0] += 1
        return ilp.Solution(np.full(len(own), splits[0]), OPTIMAL, 3.0, 3.0)

    monkeypatch.setattr(ilp.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ilp, "solve", one_second)
    made = ilp_fixed(make_scenario(), users, time_limit_s=1.5)
    assert given == [1.5, 0.5]
    assert made.granted.tolist() == [True] * 4 + [False] * 2
    assert made.note == "not proven, time limit in 1 of 3 cells: gain 6 s, no bound yet"


def test_a_program_too_large_is_refused():
    users = make_users(np.full(20_000, 0.5), 20.0)
    for method, most in ((ilp_joint, 14184), (ilp_products, 2000), (ilp_rlt, 1000)):
        with pytest.raises(InputError, match=f"found 20000 users in a cell, accepted: {most} at most"):
            method(make_scenario(), users)


@pytest.mark.parametrize("method", list(BUILT_IN))
def test_cells_are_planned_apart(method):
    rng = np.random.default_rng(4)
    users, scenario = random_users(rng, 9), make_scenario(total_steps=20, min_local_steps=5)
    cell = np.array([0, 1, 2, 0, 1, 2, 0, 0, 1])
    together = quick(scenario, Users(users.step_latency_s, users.alpha, users.request_slot, cell), method)
    for number in range(3):
        own = users.take(np.flatnonzero(cell == number))
        alone = quick(scenario, own, method).totals
        assert together.score.cells[number].objective == pytest.approx(alone.objective)

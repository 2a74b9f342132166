"""Laws of a plan under drawn PAI curves; oracle: brute force on each curve."""

from dataclasses import replace

import numpy as np
import pytest
from oracles import brute_force, make_scenario, make_users, plan_value

from edgesplit.fitting.pai import LEVEL, PaiCurve
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.model.qoe import Users, all_local, evaluate, objective
from edgesplit.optimizer.uncertainty import uncertainty

LATENCY, ALPHA = [0.05, 0.3, 0.12, 0.2, 0.08], [3.0, 40.0, 11.0, 20.0, 6.0]
FALLING = PaiCurve(-0.04, 70.0)
SCENARIO, USERS = make_scenario(), make_users(LATENCY, ALPHA)
DRAWS = [PaiCurve(0.0413 * (1 + 0.1 * x), 71.44 + 8 * x) for x in np.random.default_rng(0).normal(size=40)]


def test_without_uncertainty_the_optimum_regrets_nothing_and_every_interval_is_its_value():
    best = optimum(SCENARIO, USERS)
    value = float(objective(USERS, evaluate(SCENARIO, USERS, best))[0])
    found = uncertainty(SCENARIO, USERS, best, [SCENARIO.pai] * 7)
    assert (found.draws, found.left_out, found.regret_s, found.regret_high_s) == (7, 0, 0, 0)
    assert found.objective_ci == found.optimum_ci == pytest.approx((value, value))
    assert found.granted_ci == (best.granted.sum(), best.granted.sum())


def test_every_number_is_the_quantile_of_what_brute_force_finds_on_each_curve():
    plan = optimum(SCENARIO, USERS)
    curves = [replace(SCENARIO, pai=curve) for curve in DRAWS]
    value = np.array([plan_value(s, USERS, plan.granted, plan.local_steps) for s in curves])
    best = np.array([brute_force(s, USERS) for s in curves])
    found = uncertainty(SCENARIO, USERS, plan, DRAWS)
    assert found.objective_ci == pytest.approx(tuple(np.quantile(value, LEVEL)))
    assert found.optimum_ci == pytest.approx(tuple(np.quantile(best, LEVEL)))
    assert found.regret_s == pytest.approx(np.mean(best - value), abs=1e-9)
    assert found.regret_high_s == pytest.approx(np.quantile(best - value, LEVEL[1]), abs=1e-9)
    assert 0 < found.regret_s < found.regret_high_s


def test_a_worse_plan_regrets_more_by_just_what_it_is_worth_less():
    best, worse = (
        uncertainty(SCENARIO, USERS, p, [SCENARIO.pai]) for p in (optimum(SCENARIO, USERS), all_local(SCENARIO, USERS))
    )
    assert worse.regret_s == pytest.approx(best.objective_ci[0] - worse.objective_ci[0])
    assert worse.regret_s > 0


def test_curves_that_do_not_rise_are_left_out_and_counted():
    plan = optimum(SCENARIO, USERS)
    mixed = uncertainty(SCENARIO, USERS, plan, [FALLING, *DRAWS, FALLING])
    assert (mixed.draws, mixed.left_out) == (len(DRAWS), 2)
    assert replace(mixed, left_out=0) == uncertainty(SCENARIO, USERS, plan, DRAWS)


@pytest.mark.parametrize("curves", [[], [FALLING] * 3, [PaiCurve(0.04, 70.0, amplitude=-1.0)]])
def test_where_no_curve_rises_there_is_nothing_to_say(curves):
    assert uncertainty(SCENARIO, USERS, optimum(SCENARIO, USERS), curves) is None


def test_two_equal_cells_are_worth_twice_one():
    twice = Users(
        *(np.tile(column, 2) for column in (USERS.step_latency_s, USERS.alpha, USERS.request_slot)),
        np.repeat([0, 1], 5),
    )
    one = uncertainty(SCENARIO, USERS, optimum(SCENARIO, USERS), DRAWS)
    two = uncertainty(SCENARIO, twice, optimum(SCENARIO, twice), DRAWS)
    for name in ("objective_ci", "optimum_ci", "regret_s", "regret_high_s", "granted_ci"):
        np.testing.assert_allclose(getattr(two, name), 2 * np.array(getattr(one, name)), atol=1e-9)

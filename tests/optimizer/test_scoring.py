"""The one scorer: what it refuses, and its totals against plain NumPy."""

import numpy as np
import pytest
from oracles import brute_force, make_scenario, make_users, plan_value, random_scenario, random_users

from edgesplit.common.errors import InputError
from edgesplit.optimizer.methods.baselines import offload_all
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.methods.scoring import OptimumBeatenError, mean_by_cell, quantile_by_cell, score, yardstick
from edgesplit.optimizer.model.qoe import Plan, all_local, edge_step_latency, evaluate, transmit_time

SCENARIO = make_scenario(max_batch=2)
USERS = make_users([0.5, 0.6, 0.7], 5.0)
NAMES = ["ada", "bo", "cleo"]


def plan(granted, local_steps):
    return Plan(np.array(granted), np.array(local_steps))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            plan([True] * 3, [100] * 3),
            r"user 'ada': found granted as one of 3 in the cell, accepted: max_batch = 2 .*C2",
        ),
        (
            plan([True, False, False], [79, 200, 200]),
            r"user 'ada': found local_steps 79, accepted: min_local_steps = 80",
        ),
        (plan([True, False, False], [80, 201, 200]), r"user 'bo': found local_steps 201, .* to total_steps = 200 \(C3"),
        (plan([True, False, False], [80, 200, 150]), r"user 'cleo': found denied with local_steps 150, accepted: .*C4"),
        (
            plan([True, False], [80, 200]),
            r"granted: found bool of shape \(2,\), accepted: .* booleans, one for each of 3",
        ),
        (plan([1, 0, 0], [80, 200, 200]), "granted: found int64 of shape"),
        (
            plan([True, False, False], [80.0, 200, 200]),
            "local_steps: found float64 .* whole numbers, one for each of 3 users",
        ),
        (Plan([True, False, False], np.full(3, 200)), "granted: found "),
        (Plan(np.zeros(3, bool), np.full(3, 200), None), "found note None, accepted: text"),
        ((True, False), r"found \(True, False\), accepted: a Plan with the arrays granted and local_steps"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_with_user_value_and_bound(wrong, says):
    with pytest.raises(InputError, match=says):
        score(SCENARIO, USERS, wrong, names=NAMES)


def test_without_names_users_are_told_by_their_number():
    with pytest.raises(InputError, match="user number 1: found local_steps 3"):
        score(SCENARIO, USERS, plan([False, True, False], [200, 3, 200]))


def test_what_a_plan_is_worth_and_misses_is_what_brute_force_says():
    rng = np.random.default_rng(5)
    for _ in range(100):
        scenario, users = random_scenario(rng), random_users(rng, 6)
        made = offload_all(scenario, users)
        totals = score(scenario, users, made).totals
        best, value = brute_force(scenario, users), plan_value(scenario, users, made.granted, made.local_steps)
        assert totals.objective == pytest.approx(value, rel=1e-12, abs=1e-12)
        assert totals.gap == pytest.approx(best - value, abs=1e-9 * max(1, abs(best)))


def test_totals_hold_latency_and_pai_beside_those_of_all_local():
    rng = np.random.default_rng(6)
    users = make_users(rng.uniform(0.05, 1, 30), rng.uniform(0, 20, 30), cell=np.arange(30) % 4)
    scenario = make_scenario(max_batch=5)
    scored = score(scenario, users, optimum(scenario, users))
    own, local = scored.evaluation, evaluate(scenario, users, all_local(scenario, users))
    for totals, some in [(scored.totals, users.cell >= 0), *((t, users.cell == i) for i, t in enumerate(scored.cells))]:
        assert totals.mean_latency_s == pytest.approx(own.latency_s[some].mean())
        assert totals.p95_latency_s == pytest.approx(np.quantile(own.latency_s[some], 0.95))
        assert totals.mean_pai == pytest.approx(own.pai[some].mean())
        assert totals.all_local_mean_latency_s == pytest.approx(local.latency_s[some].mean())
        assert totals.all_local_p95_latency_s == pytest.approx(np.quantile(local.latency_s[some], 0.95))
        assert totals.all_local_mean_pai == pytest.approx(local.pai[some].mean())


def test_means_and_quantiles_by_cell_are_numpys():
    rng = np.random.default_rng(7)
    for _ in range(50):
        cell = np.concatenate([np.arange(5), rng.integers(0, 5, rng.integers(0, 60))])
        values = rng.normal(size=cell.size)
        groups = [values[cell == number] for number in range(5)]
        np.testing.assert_allclose(mean_by_cell(cell, values), [group.mean() for group in groups])
        for share in (0.0, 0.3, 0.95, 1.0):
            np.testing.assert_allclose(
                quantile_by_cell(cell, values, share), [np.quantile(group, share) for group in groups]
            )


def test_a_huge_alpha_of_a_denied_user_does_not_hide_the_gain():
    users = make_users([0.5, 0.6], [5.0, 1e12])
    made = optimum(SCENARIO, users)
    assert made.granted.tolist() == [True, False]
    alone = score(SCENARIO, users.take(np.array([0])), optimum(SCENARIO, users.take(np.array([0]))))
    assert score(SCENARIO, users, made).gain == pytest.approx(alone.gain, rel=1e-12)


def test_a_yardstick_serves_many_plans():
    against = yardstick(SCENARIO, USERS)
    for made in (all_local(SCENARIO, USERS), offload_all(SCENARIO, USERS)):
        assert score(SCENARIO, USERS, made, against).totals == score(SCENARIO, USERS, made).totals


def test_not_even_a_part_of_a_nanosecond_beats_the_optimum():
    """Only rounding is forgiven: a user for whom the edge is faster by 3e-12 s a step gains 3.6e-10 s by it."""
    pai, edge = SCENARIO.pai.value(np.array([80, 200])), float(edge_step_latency(SCENARIO, 1))
    even = edge + (float(transmit_time(SCENARIO, 1)) - 5.0 * (pai[0] - pai[1])) / 120
    users = make_users([even + 3e-12], 5.0)
    local, offloaded = all_local(SCENARIO, users), plan([True], [80])
    totals = score(SCENARIO, users, local, yardstick(SCENARIO, users, offloaded)).totals
    assert totals.gap == pytest.approx(120 * 3e-12, abs=totals.gap_rounding_s)
    with pytest.raises(OptimumBeatenError):
        score(SCENARIO, users, offloaded, yardstick(SCENARIO, users, local))

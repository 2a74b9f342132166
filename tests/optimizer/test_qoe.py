"""The evaluator against the model written again in plain Python, and laws of its terms."""

import numpy as np
import pytest
from oracles import make_scenario, make_users, random_scenario, random_users, user_qoe

from edgesplit.optimizer.model.qoe import (
    Plan,
    all_local,
    edge_step_latency,
    edge_time,
    evaluate,
    feasible,
    local_time,
    objective,
    transmit_time,
    wait_time,
)


def random_plan(rng, scenario, users):
    granted = np.zeros(len(users), bool)
    chosen = rng.permutation(len(users))[: rng.integers(0, scenario.max_batch + 1)]
    granted[chosen] = True
    n = rng.integers(scenario.min_local_steps, scenario.total_steps + 1, len(users))
    return Plan(granted, np.where(granted, n, scenario.total_steps))


def test_every_users_qoe_equals_the_papers_terms():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scenario, users = random_scenario(rng), random_users(rng, 9)
        plan = random_plan(rng, scenario, users)
        result = evaluate(scenario, users, plan)
        b = int(plan.granted.sum())
        rows = zip(users.step_latency_s, users.alpha, users.request_slot, plan.granted, plan.local_steps, strict=True)
        expected = [user_qoe(scenario, *row, b) for row in rows]
        np.testing.assert_allclose(result.qoe, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(result.qoe, users.alpha * result.pai - result.latency_s, rtol=1e-12, atol=1e-12)
        assert objective(users, result) == pytest.approx(sum(expected))


def test_terms_by_hand():
    s = make_scenario()
    assert wait_time(s, 10) == 0
    assert wait_time(s, 1) == pytest.approx(0.9)
    assert transmit_time(s, 1) == pytest.approx(0.4400216)
    assert transmit_time(s, 20) == pytest.approx(20 * 0.4400216)
    assert edge_step_latency(s, 20) == pytest.approx(0.0105 * 20 / 8 + 0.012)
    assert edge_step_latency(s, 1) == pytest.approx(0.018)  # the floor
    assert edge_time(s, 80, 0.05) == pytest.approx(6)
    assert local_time(80, 0.5) == pytest.approx(40)


def test_more_gpus_than_users_cut_a_batch_below_one_image():
    s = make_scenario(gpus=64)
    line = s.edge.slope_s / 64 + s.edge.intercept_s
    assert edge_step_latency(s, 1) == max(s.edge.floor_s, line)


def test_the_batch_of_one_cell_does_not_touch_another():
    s = make_scenario()
    users = make_users([0.5, 0.5, 0.5], 5.0, cell=[0, 0, 1])
    some = Plan(np.array([True, True, True]), np.full(3, 100))
    fewer = Plan(np.array([True, False, True]), np.array([100, 200, 100]))
    assert evaluate(s, users, some).qoe[2] == evaluate(s, users, fewer).qoe[2]
    assert evaluate(s, users, some).qoe[0] < evaluate(s, users, fewer).qoe[0]


@pytest.mark.parametrize(
    ("granted", "n", "allowed"),
    [
        ([True, False], [80, 200], True),
        ([True, False], [79, 200], False),  # C3
        ([True, False], [201, 200], False),  # C3
        ([False, False], [80, 200], False),  # C4
        ([True, True], [80, 200], False),  # C2
    ],
)
def test_constraints(granted, n, allowed):
    s, users = make_scenario(max_batch=1), make_users([0.5, 0.5], 1.0)
    assert feasible(s, users, Plan(np.array(granted), np.array(n))) is allowed
    assert feasible(s, users, all_local(s, users))

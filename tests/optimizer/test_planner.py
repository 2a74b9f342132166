"""Totals, the sweep over GPUs and its knee."""

import numpy as np
import pytest
from oracles import make_scenario, make_users

from edgesplit.optimizer.model.qoe import edge_step_latency
from edgesplit.optimizer.planner import SweepPoint, compare, knee, plan, sweep_gpus


def test_totals_are_sums_over_cells():
    rng = np.random.default_rng(0)
    users = make_users(rng.uniform(0.05, 1, 30), rng.uniform(0, 20, 30), cell=np.arange(30) % 3)
    outcome = plan(make_scenario(max_batch=5), users, "offload-all")
    cells, total = outcome.score.cells, outcome.totals
    for key in ("objective", "all_local_objective", "optimum_objective", "gap", "granted"):
        assert getattr(total, key) == pytest.approx(sum(getattr(cell, key) for cell in cells))
    assert total.objective == pytest.approx(outcome.evaluation.qoe.sum())
    possible = total.optimum_objective - total.all_local_objective
    assert total.captured_share == pytest.approx((total.objective - total.all_local_objective) / possible)
    assert total.edge_step_latency_s is None


def test_edge_step_latency_is_that_of_the_batch_or_none():
    scenario, users = make_scenario(), make_users([1.0, 1.0], 0.0)
    assert plan(scenario, users).totals.edge_step_latency_s == edge_step_latency(scenario, 2)
    assert plan(scenario, users, "all-local").totals.edge_step_latency_s is None


def test_what_a_solver_says_is_in_every_point_of_a_sweep():
    users = make_users([1.0, 0.5], 5.0)
    points = sweep_gpus(make_scenario(), users, [1, 2], "ilp-fixed")
    assert all(point.note.startswith("optimal for its form, gap 0: gain ") for point in points)


def test_one_yardstick_serves_all_methods():
    outcomes = compare(make_scenario(), make_users([1.0, 0.2], 1.0), ["drl", "exact", "all-local", "ilp-fixed"])
    assert len({id(outcome.score.yardstick) for outcome in outcomes}) == 1


def test_a_sweep_keeps_alpha_and_all_local_does_not_depend_on_gpus():
    users = make_users([0.2, 0.4, 0.8], 3.0)
    points = sweep_gpus(make_scenario(), users, range(1, 5), "all-local")
    assert {point.objective for point in points} == {points[0].objective}


def test_a_sweep_grants_what_the_memory_of_all_gpus_holds():
    users = make_users([1.0] * 12, 0.0)
    points = sweep_gpus(make_scenario(max_batch=8), users, [1, 2, 3, 4], images_each=3)
    assert [point.granted for point in points] == [3, 6, 8, 8]


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ([0, 8, 10, 11, 12], 2),
        ([0, 1, 2, 3, 4], None),
        ([5, 5, 5], None),
        ([1, 2], None),
        ([0, 0, 6, 7, 8], None),
    ],
)
def test_knee_is_the_point_farthest_above_the_chord(objectives, expected):
    points = [SweepPoint(i + 1, value, 1, 1, 1, 1) for i, value in enumerate(objectives)]
    if objectives == [0, 0, 6, 7, 8]:
        assert knee(points).gpus == 3
    else:
        bend = knee(points)
        assert (bend and bend.gpus) == expected

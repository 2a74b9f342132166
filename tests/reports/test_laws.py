"""What the figures must show of any instance, whatever its numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from edgesplit.optimizer.agent.instances import Range, broad_instance, paper_instance
from edgesplit.optimizer.inputs.scenario import overrides
from edgesplit.optimizer.methods.baselines import offload_all, offload_all_fixed
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.model.qoe import all_local, edge_step_latency, evaluate, objective
from edgesplit.optimizer.model.split import best_split
from edgesplit.reports.basis.policies import NETWORKS
from edgesplit.reports.basis.scoring import compared
from edgesplit.reports.basis.setup import QUICK, Choices, make_setup
from edgesplit.reports.basis.shrinking import improve, shrinking_edge_time, shrinking_value
from edgesplit.reports.basis.unserved import planned_exactly
from edgesplit.reports.exhibit import memory, scopes, servers

CASES = [draw(np.random.default_rng([77, n])) for draw in (paper_instance, broad_instance) for n in range(40)]
FEW = [paper_instance(np.random.default_rng([78, n]), Range(users=(5, 10))) for n in range(4)]
FEW += [broad_instance(np.random.default_rng([78, n]), (1, 12)) for n in range(12)]
"""Rounds of few users, for what searches over all of them."""
TINY = 1e-9


def value(scenario, users, plan):
    return float(objective(users, evaluate(scenario, users, plan)).sum())


@pytest.mark.parametrize("case", CASES)
def test_baseline_2_is_below_baseline_1_is_below_the_optimum(case):
    scenario, users = case.scenario, case.users
    nhat_offloaded = min(scenario.min_local_steps, scenario.total_steps - scenario.min_local_steps)
    for steps in (None, nhat_offloaded):  # both readings of baseline 2
        fixed = offload_all_fixed(scenario, users, steps)
        plans = [fixed, offload_all(scenario, users), optimum(scenario, users)]
        values = [value(scenario, users, plan) for plan in plans]
        assert np.diff(values).min() > -TINY * max(1, abs(values[-1]))


@pytest.mark.parametrize("case", CASES)
def test_the_optimum_does_not_fall_as_gpus_are_added_and_all_local_stays(case):
    scenarios = [replace(case.scenario, gpus=g) for g in (1, 2, 3, 5, 8, 16)]
    best = [value(s, case.users, optimum(s, case.users)) for s in scenarios]
    assert np.diff(best).min() >= -TINY * max(1, abs(best[-1]))
    assert len({value(s, case.users, all_local(s, case.users)) for s in scenarios}) == 1


@pytest.mark.parametrize("case", CASES)
def test_offloaded_steps_fall_with_alpha_with_the_batch_and_with_a_faster_device(case):
    """Fig. 7. Where F(N-hat) < 1/2 too: the optimum of alpha F(n) - d n over any set of n rises with alpha / d."""
    scenario = case.scenario
    alphas, batches = np.geomspace(1e-3, 1e6, 40), np.arange(1, scenario.max_batch + 1)
    devices = np.geomspace(1e-3, 2, 25)
    saving = devices[:, None] - edge_step_latency(scenario, batches)  # (devices, batches)
    n, _ = best_split(scenario, alphas[:, None, None], saving)
    assert (np.diff(n, axis=0) >= 0).all()  # alpha
    assert (np.diff(n, axis=1) <= 0).all()  # a slower device
    assert (np.diff(n, axis=2) >= 0).all()  # batch


@pytest.mark.parametrize("case", CASES[::5])
def test_the_shrinking_batch_is_the_sum_over_its_steps(case):
    scenario, users = case.scenario, case.users
    plan = optimum(scenario, users)
    offloaded = scenario.total_steps - plan.local_steps
    seconds = np.zeros(len(users))
    for step in range(1, scenario.total_steps + 1):
        present = offloaded >= step
        if present.any():
            seconds[present] += float(edge_step_latency(scenario, present.sum()))
    np.testing.assert_allclose(shrinking_edge_time(scenario, offloaded), seconds, rtol=1e-12)


@pytest.mark.parametrize("case", FEW)
def test_a_shrinking_batch_is_worth_no_less_and_planning_for_it_no_less_again(case):
    scenario, users = case.scenario, case.users
    plan = optimum(scenario, users)
    better = improve(scenario, users, plan)
    fixed = value(scenario, users, plan)
    shrunk, searched = (float(shrinking_value(scenario, users, p.local_steps, p.granted)) for p in (plan, better))
    rounding = TINY * max(1, abs(fixed))
    assert fixed <= shrunk + rounding
    assert shrunk <= searched + rounding
    assert better.granted.sum() <= scenario.max_batch
    assert (better.local_steps[~better.granted] == scenario.total_steps).all()


def test_users_that_all_leave_at_once_pay_the_fixed_batch():
    case = CASES[0]
    scenario, users = case.scenario, case.users
    plan = offload_all_fixed(scenario, users)
    shrunk = float(shrinking_value(scenario, users, plan.local_steps, plan.granted))
    assert shrunk == pytest.approx(value(scenario, users, plan), rel=1e-12)


# -- the rows of Figs. 9 and 10 -----------------------------------------------------------------------------


def test_cases_of_one_number_have_the_same_devices_and_slots_at_every_g_and_larger_alphas():
    setup, _ = make_setup()
    one, eight = (setup.case(20, 3, gpus) for gpus in (2, 8))
    assert (one.scenario.gpus, eight.scenario.gpus) == (2, 8)
    np.testing.assert_array_equal(one.users.step_latency_s, eight.users.step_latency_s)
    np.testing.assert_array_equal(one.users.request_slot, eight.users.request_slot)
    slower = one.users.step_latency_s > edge_step_latency(one.scenario, one.scenario.reference_batch)
    assert (one.users.alpha < eight.users.alpha)[slower].all()
    same = setup.case(20, 3).users
    np.testing.assert_array_equal(same.alpha, eight.users.alpha)


def test_fig9_plans_every_case_by_the_policies_themselves():
    setup, _ = make_setup(size=replace(QUICK, users=(5, 30)))
    rows = pd.DataFrame([row for gpus in (1, 8) for row in scopes.rows_of_draws(setup, gpus, 0)])
    assert not rows["note"].map(planned_exactly).any()
    asked = rows[rows["scope"] == "GPU-constrained"]
    assert (asked["drawn_at"] == asked["gpus"]).all()
    assert len(asked) == 4
    kept = rows[(rows["scope"] == "all local") & (rows["drawn_at"] == 8)]
    assert (kept.groupby("users")["qoe_per_user"].nunique() == 1).all()


def test_other_networks_stand_beside_drl_where_they_have_a_policy_and_beside_nothing_else():
    for gpus in (3, 8):
        setup, _ = make_setup(changes=overrides(gpus=gpus))
        case = setup.case(5, 0)
        rows = pd.DataFrame(compared(setup, case.scenario, case.users, {})).set_index("method")
        assert set(rows.index) == {"drl", "exact", *NETWORKS} - ({"drl-gpu"} if gpus == 3 else set())
        assert rows.loc["drl-orders", "objective"] >= rows.loc["drl", "objective"] - TINY
    setup, _ = make_setup(choices=Choices(proposed="offload-all"))
    case = setup.case(5, 0)
    assert [row["method"] for row in compared(setup, case.scenario, case.users, {})] == ["offload-all", "exact"]


# -- several servers ----------------------------------------------------------------------------------------


def test_no_method_gains_more_than_the_optimum_of_several_servers_and_cases_are_the_same_again():
    setup, _ = make_setup(choices=Choices(population=8, generations=3))
    rows = pd.DataFrame(servers.rows_of(setup, 3, 0))
    assert (rows["captured_share"] <= 1 + TINY).all()
    assert rows.groupby("users")["method"].nunique().to_dict() == {5: 5, 10: 5, 20: 6, 40: 5}
    pd.testing.assert_frame_equal(rows, pd.DataFrame(servers.rows_of(setup, 3, 0)))


@pytest.mark.parametrize("number", range(3))
def test_more_memory_is_never_worth_less_and_none_is_worth_nothing(number):
    setup, _ = make_setup()
    for _, rows in pd.DataFrame(memory.rows_of(setup, 2, number)).groupby("models"):
        gain = rows.set_index("memory_gb")["gain_per_user"]
        assert gain[0] == pytest.approx(0, abs=TINY)
        assert (gain.diff().dropna() >= -TINY).all()
        assert rows["knee"].sum() == 1

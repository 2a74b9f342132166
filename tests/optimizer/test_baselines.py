"""The paper's baselines."""

import numpy as np
import pytest
from oracles import make_scenario, make_users

from edgesplit.common.errors import InputError
from edgesplit.optimizer.methods.baselines import first_requests, offload_all, offload_all_fixed
from edgesplit.optimizer.model.qoe import edge_step_latency
from edgesplit.optimizer.model.split import best_split


def test_first_requests_go_by_slot_then_file_order_in_every_cell():
    users = make_users([1] * 7, 1, slot=[5, 2, 5, 2, 9, 1, 1], cell=[0, 0, 0, 0, 0, 1, 1])
    served = first_requests(make_scenario(max_batch=3), users)
    np.testing.assert_array_equal(served, [True, True, False, True, False, True, True])


def test_offload_all_splits_at_the_batch_that_it_makes():
    scenario, users = make_scenario(max_batch=3), make_users([0.1, 0.3, 0.6, 0.9], 20.0, slot=[4, 3, 2, 1])
    plan = offload_all(scenario, users)
    expected, _ = best_split(scenario, 20.0, users.step_latency_s[1:] - edge_step_latency(scenario, 3))
    np.testing.assert_array_equal(plan.granted, [False, True, True, True])
    np.testing.assert_array_equal(plan.local_steps, [200, *expected])


@pytest.mark.parametrize(("steps", "n"), [(None, 80), (120, 80), (80, 120), (0, 200)])
def test_fixed_offload_takes_both_readings(steps, n):
    plan = offload_all_fixed(make_scenario(max_batch=1), make_users([0.5, 0.5], 1.0), steps)
    np.testing.assert_array_equal(plan.local_steps, [n, 200])


@pytest.mark.parametrize("steps", [-1, 121])
def test_fixed_offload_keeps_the_last_steps_local(steps):
    with pytest.raises(InputError, match=f"--fixed-offload: found {steps}, accepted: 0 to .* = 120"):
        offload_all_fixed(make_scenario(), make_users([0.5], 1.0), steps)

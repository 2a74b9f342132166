"""The paper's baselines, section 6.2: whoever asks first offloads, or nobody does."""

import numpy as np

from ...common.arrays import Bools, Ints
from ...common.errors import InputError
from ..model.qoe import Plan, Scenario, Users, batch_of, edge_step_latency
from ..model.split import best_split


def offload_all(scenario: Scenario, users: Users) -> Plan:
    """Baseline 1: the first B_max requests of every cell offload, each with its best split."""
    granted = first_requests(scenario, users)
    saving = users.step_latency_s - edge_step_latency(scenario, _batch(granted, users))
    n, _ = best_split(scenario, users.alpha, saving)
    return Plan(granted, np.where(granted, n, scenario.total_steps))


def offload_all_fixed(scenario: Scenario, users: Users, offloaded_steps: int | None = None) -> Plan:
    """Baseline 2: as baseline 1, with the same split for all.

    The paper says "a fixed offloading of N-hat steps". By default the split itself is N-hat, so that
    N - N-hat steps are offloaded; `offloaded_steps` = N-hat is the other reading.

    Raises:
        InputError: for offloaded steps outside 0..N - N-hat.
    """
    most = scenario.total_steps - scenario.min_local_steps
    steps = most if offloaded_steps is None else offloaded_steps
    if not 0 <= steps <= most:
        raise InputError(f"--fixed-offload: found {steps}, accepted: 0 to total_steps - min_local_steps = {most}")
    granted = first_requests(scenario, users)
    return Plan(granted, np.where(granted, scenario.total_steps - steps, scenario.total_steps))


def first_requests(scenario: Scenario, users: Users) -> Bools:
    """Who is among the first B_max requests of their cell: by slot, then in file order."""
    order = np.lexsort((users.request_slot, users.cell))  # stable: file order within a slot
    sizes = np.bincount(users.cell)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(users), np.int64)
    rank[order] = np.arange(len(users)) - starts[users.cell[order]]
    return rank < scenario.max_batch


def _batch(granted: Bools, users: Users) -> Ints:
    """b_g of each user's cell."""
    plan = Plan(granted, np.zeros(len(users), np.int64))
    return batch_of(plan, users)[users.cell]

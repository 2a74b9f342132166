"""The paper's baselines 1 and 2, section 6.2: whoever asks first offloads."""

import numpy as np

from ...common.arrays import Bools
from ...common.errors import InputError
from ..model.qoe import Plan, Scenario, Users
from ..model.split import split_granted


def offload_all(scenario: Scenario, users: Users) -> Plan:
    """Baseline 1: the first B_max requests of every cell offload, each with its best split."""
    return split_granted(scenario, users, first_requests(scenario, users))


def offload_all_fixed(scenario: Scenario, users: Users, offloaded_steps: int | None = None) -> Plan:
    """Baseline 2: the same requests offload, all with the same split.

    The paper says "a fixed offloading of N-hat steps". Here the split itself is N-hat unless `offloaded_steps` is
    named, so that N - N-hat steps are offloaded; `offloaded_steps` = N-hat is the other reading.

    Args:
        scenario: the system.
        users: users of one or more cells.
        offloaded_steps: steps that every granted user offloads; None for N - N-hat.

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
    """Whether each user is among the first B_max requests of its cell, by slot, then in file order; (users,)."""
    order = np.lexsort((users.request_slot, users.cell))  # stable: file order within a slot
    sizes = np.bincount(users.cell)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(users), np.int64)
    rank[order] = np.arange(len(users)) - starts[users.cell[order]]
    return rank < scenario.max_batch

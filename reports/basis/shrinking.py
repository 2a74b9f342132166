"""What the paper's fixed batch leaves out: users leave the batch when their edge steps are done, so it shrinks.

b_j: users who are still in the batch at edge step j, counted from the first. m_i = N - n_i: edge steps of user i.
"""

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ...optimizer.model.qoe import (
    Plan,
    Scenario,
    Users,
    edge_step_latency,
    latency,
    local_time,
    quality_of_experience,
    transmit_time,
    wait_time,
)

MOST_PASSES = 20
"""Passes over all users after which the search ends, if it still finds something."""


def shrinking_edge_time(scenario: Scenario, offloaded: Ints) -> Floats:
    """Seconds at the edge: user i pays L_e(b_j) for j = 1..m_i, where section 3.3 charges L_e(b_g) for every step.

    Args:
        scenario: the system.
        offloaded: m_i, 0 where denied; shape (..., users).

    Returns:
        Seconds of every user, of the shape of `offloaded`.
    """
    steps = np.arange(1, scenario.total_steps + 1)
    batch = (offloaded[..., None, :] >= steps[:, None]).sum(-1)  # (..., N)
    paid = np.cumsum(np.where(batch > 0, edge_step_latency(scenario, np.maximum(batch, 1)), 0.0), axis=-1)
    paid = np.concatenate([np.zeros((*paid.shape[:-1], 1)), paid], axis=-1)  # (..., N + 1)
    return np.take_along_axis(paid, offloaded, axis=-1)


def shrinking_value(scenario: Scenario, users: Users, local_steps: Ints, granted: Bools) -> Floats:
    """The objective of (P1) for one cell with the shrinking batch, in seconds.

    Args:
        scenario: the system.
        users: users of one cell.
        local_steps: n_i of each user, shape (..., users).
        granted: whether each user is granted, shape (..., users).

    Returns:
        The value of every plan, shape (...).
    """
    n, b = local_steps, granted.sum(-1)
    wait, transmit = wait_time(scenario, users.request_slot), transmit_time(scenario, b)[..., None]
    edge, local = shrinking_edge_time(scenario, scenario.total_steps - n), local_time(n, users.step_latency_s)
    seconds = latency(granted, wait, transmit, edge, local)
    total: Floats = quality_of_experience(users.alpha, scenario.pai.value(n), seconds).sum(-1)
    return total


def improve(scenario: Scenario, users: Users, plan: Plan) -> Plan:
    """Coordinate ascent from a plan on the value with the shrinking batch.

    Its gain is a lower bound of what planning for the shrinking batch would gain.
    """
    n, granted = plan.local_steps.copy(), plan.granted.copy()
    best = float(shrinking_value(scenario, users, n, granted))
    for _ in range(MOST_PASSES):
        before = best
        for i in range(len(users)):
            best = _best_of_user(scenario, users, n, granted, i)
        if best - before <= 1e-9 * max(1.0, abs(best)):
            break
    return Plan(granted, n)


def _best_of_user(scenario: Scenario, users: Users, n: Ints, granted: Bools, i: int) -> float:
    """Change user i, in place, to the split or denial that is best beside the others' present splits."""
    splits = np.arange(scenario.min_local_steps, scenario.total_steps + 1)
    many, allowed = np.tile(n, (splits.size, 1)), np.tile(granted, (splits.size, 1))
    many[:, i], allowed[:, i] = splits, splits < scenario.total_steps
    values = shrinking_value(scenario, users, many, allowed)
    values[allowed.sum(-1) > scenario.max_batch] = -np.inf
    chosen = int(np.argmax(values))
    n[i], granted[i] = many[chosen, i], allowed[chosen, i]
    return float(values[chosen])

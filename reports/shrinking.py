"""What the paper's fixed batch leaves out: users leave the batch when their edge steps are done, so it shrinks.

b_j: users still in the batch at edge step j, counted from the first. m_i = N - n_i: edge steps of user i.
"""

import numpy as np

from ..common.arrays import Bools, Floats, Ints
from ..optimizer.model.qoe import Plan, Scenario, Users, edge_step_latency, local_time, transmit_time, wait_time

MOST_PASSES = 20


def shrinking_edge_time(scenario: Scenario, offloaded: Ints) -> Floats:
    """Seconds at the edge: user i pays L_e(b_j) for j = 1..m_i; section 3.3 pays L_e(b_g) for all.

    Args:
        scenario: the system.
        offloaded: m_i, 0 where denied; shape (..., users).
    """
    steps = np.arange(1, scenario.total_steps + 1)
    batch = (offloaded[..., None, :] >= steps[:, None]).sum(-1)  # (..., N)
    paid = np.cumsum(np.where(batch > 0, edge_step_latency(scenario, np.maximum(batch, 1)), 0.0), axis=-1)
    paid = np.concatenate([np.zeros((*paid.shape[:-1], 1)), paid], axis=-1)  # (..., N + 1)
    return np.take_along_axis(paid, offloaded, axis=-1)


def shrinking_value(scenario: Scenario, users: Users, local_steps: Ints, granted: Bools) -> Floats:
    """The objective of (P1) for one cell with the shrinking batch, seconds; shape (...)."""
    n = local_steps
    transmit = transmit_time(scenario, granted.sum(-1))[..., None] * granted
    edge = shrinking_edge_time(scenario, scenario.total_steps - n)
    wait = wait_time(scenario, users.request_slot)
    qoe = users.alpha * scenario.pai.value(n) - (wait + transmit + edge + local_time(n, users.step_latency_s))
    total: Floats = qoe.sum(-1)
    return total


def improve(scenario: Scenario, users: Users, plan: Plan) -> Plan:
    """Coordinate ascent from a plan on the shrinking objective: a lower bound of what planning for it would gain."""
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
    """Set the split of one user, or deny it, to the best for the others' present ones."""
    splits = np.arange(scenario.min_local_steps, scenario.total_steps + 1)
    many, allowed = np.tile(n, (splits.size, 1)), np.tile(granted, (splits.size, 1))
    many[:, i], allowed[:, i] = splits, splits < scenario.total_steps
    values = shrinking_value(scenario, users, many, allowed)
    values[allowed.sum(-1) > scenario.max_batch] = -np.inf
    chosen = int(np.argmax(values))
    n[i], granted[i] = many[chosen, i], allowed[chosen, i]
    return float(values[chosen])

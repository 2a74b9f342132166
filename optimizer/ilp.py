"""The paper's exact peer, section 6.2: branch and bound on an integer linear program, by HiGHS (in SciPy).

Binaries y[i, n]: user i is granted with split n; z[b]: b users are granted in all. The product of a user's offloaded
steps and the batch's step latency becomes w[i, b], the user's offloaded steps if the batch is b and 0 else.
The paper's form has one split, N-hat; the joint form all of N-hat..N - 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.arrays import Floats, Ints
from ..common.errors import InputError
from .counts import cells_by_size
from .qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from .split import pai_loss

TIME_LIMIT_S = 60.0
MOST_VARIABLES = 2_000_000
STATUS = {0: "optimal", 1: "time limit", 2: "infeasible", 3: "unbounded", 4: "failed"}


@dataclass(frozen=True)
class Solution:
    """What the solver says of one cell.

    Attributes:
        local_steps: n_i; N where the request is denied; shape (users,).
        status: "optimal" only if proven at gap 0.
        value: over all denied, seconds.
        bound: no plan of this form is worth more; seconds.
    """

    local_steps: Ints
    status: str
    value: float
    bound: float


def ilp_fixed(scenario: Scenario, users: Users, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """The paper's form: everyone granted is split at N-hat."""
    return _plan(scenario, users, np.array([scenario.min_local_steps]), time_limit_s)


def ilp_joint(scenario: Scenario, users: Users, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """The joint form: one binary per user and split."""
    return _plan(scenario, users, np.arange(scenario.min_local_steps, scenario.total_steps), time_limit_s)


def solve(scenario: Scenario, users: Users, splits: Ints, time_limit_s: float = TIME_LIMIT_S) -> Solution:
    """Solve one cell.

    Args:
        scenario: the system.
        users: of one cell.
        splits: local steps that a granted user may have, ascending, below N; shape (splits,).
        time_limit_s: after which the best plan found so far is taken.

    Raises:
        InputError: for a program too large to build.
    """
    from scipy.optimize import Bounds, milp

    denied = np.full(len(users), scenario.total_steps)
    if splits.size == 0 or splits[0] >= scenario.total_steps:
        return Solution(denied, "optimal", 0.0, 0.0)
    worth, integrality, constraints, grants = _program(scenario, users, splits)
    options: Any = {"time_limit": time_limit_s, "mip_rel_gap": 0.0}
    most = np.where(integrality == 1, 1.0, np.inf)
    found = milp(-worth, integrality=integrality, bounds=Bounds(0, most), constraints=constraints, options=options)
    status = STATUS[found.status]
    bound = float(-found.mip_dual_bound) if found.mip_dual_bound is not None else np.inf
    if found.x is None:
        return Solution(denied, status, 0.0, bound)
    chosen = found.x[:grants].reshape(len(users), -1) > 0.5
    local_steps = np.where(chosen.any(axis=1), splits[chosen.argmax(axis=1)], scenario.total_steps)
    return Solution(local_steps, status, float(-found.fun), bound)


def _plan(scenario: Scenario, users: Users, splits: Ints, time_limit_s: float) -> Plan:
    local_steps = np.full(len(users), scenario.total_steps)
    solutions = []
    for places in cells_by_size(users.cell):
        for own in places:
            solutions.append(solve(scenario, users.take(own), splits, time_limit_s))
            local_steps[own] = solutions[-1].local_steps
    proven = all(solution.status == "optimal" for solution in solutions)
    bound = sum(solution.bound for solution in solutions)
    status = next((s.status for s in solutions if s.status != "optimal"), "optimal")
    note = f"{status}, its bound {bound:.6g} s above all local" if not proven else "optimal for its form, gap 0"
    return Plan(local_steps < scenario.total_steps, local_steps, note)


def _program(scenario: Scenario, users: Users, splits: Ints) -> tuple[Floats, Ints, Any, int]:
    """Objective, integrality and constraints; columns y, z, w in this order, and how many are y."""
    from scipy.optimize import LinearConstraint
    from scipy.sparse import block_array, coo_array, eye_array, kron

    count, batch = len(users), np.arange(min(scenario.max_batch, len(users)) + 1)
    grants = count * splits.size
    if grants + count * batch.size > MOST_VARIABLES:
        most = MOST_VARIABLES // (splits.size + batch.size)
        raise InputError(f"--method ilp: found {count} users in a cell, accepted: {most} at most")
    offloaded = (scenario.total_steps - splits).astype(float)
    kept = users.alpha[:, None] * pai_loss(scenario)[splits] + offloaded * users.step_latency_s[:, None]
    edge = np.broadcast_to(edge_step_latency(scenario, np.maximum(batch, 1)), (count, batch.size))
    worth = np.concatenate([kept.ravel(), -batch * transmit_time(scenario, batch), -edge.ravel()])
    integrality = np.concatenate([np.ones(grants + batch.size), np.zeros(count * batch.size)]).astype(np.int64)
    per_user, one = eye_array(count), np.ones((1, count))
    of_splits, of_batches = np.ones((1, splits.size)), np.ones((1, batch.size))
    rows: Any = [
        [None, coo_array(of_batches), None],  # one batch
        [kron(one, of_splits), coo_array(-batch[None].astype(float)), None],  # as many granted as it holds
        [kron(per_user, of_splits), None, None],  # one split for each user at most
        [-kron(per_user, offloaded[None]), None, kron(per_user, of_batches)],  # w sums to the offloaded steps
        [None, -offloaded[0] * kron(one.T, eye_array(batch.size)), eye_array(count * batch.size)],  # w = 0 else
    ]
    low = np.concatenate([[1.0, 0.0], np.full(count, -np.inf), np.zeros(count), np.full(count * batch.size, -np.inf)])
    high = np.concatenate([[1.0, 0.0], np.ones(count), np.zeros(count), np.zeros(count * batch.size)])
    return worth, integrality, LinearConstraint(block_array(rows).tocsr(), low, high), grants

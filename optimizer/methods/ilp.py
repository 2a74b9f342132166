"""The paper's exact peer, section 6.2: branch and bound on an integer linear program, by HiGHS.

Binaries y[i, n]: user i is granted with split n; z[b]: b users are granted in all. The product of a user's offloaded
steps and the batch's step latency becomes w[i, b], the user's offloaded steps if the batch is b and 0 else.
The paper's form has one split, N-hat; the joint form all of N-hat..N - 1.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...common.arrays import Floats, Ints
from ...common.errors import InputError
from ..model.qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from ..model.split import pai_change
from .counts import cells_by_size

TIME_LIMIT_S = 60.0
MOST_VARIABLES = 2_000_000
OPTIMAL, TIME_LIMIT = "optimal", "time limit"
PROVEN = "optimal for its form, gap 0"
"""How the note of a proven plan begins."""


@dataclass(frozen=True)
class Solution:
    """What the solver says of one cell.

    Attributes:
        local_steps: n_i; N where the request is denied; shape (users,).
        status: `OPTIMAL` only if proven at gap 0; `TIME_LIMIT`, or HiGHS's own word.
        value: over all denied, seconds.
        bound: no plan of this form is worth more; seconds, inf where none is known yet.
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
        time_limit_s: after which the best plan found so far is taken; building the program counts, but is not cut.

    Raises:
        InputError: for a program too large to build.
    """
    end = time.monotonic() + time_limit_s
    denied = np.full(len(users), scenario.total_steps)
    if splits.size == 0 or splits[0] >= scenario.total_steps:
        return Solution(denied, OPTIMAL, 0.0, 0.0)
    program, grants = _program(scenario, users, splits)
    status, x, value, bound = _solve(program, end)
    if x is None:
        return Solution(denied, status, 0.0, bound)
    chosen = x[:grants].reshape(len(users), -1) > 0.5
    local_steps = np.where(chosen.any(axis=1), splits[chosen.argmax(axis=1)], scenario.total_steps)
    return Solution(local_steps, status, value, bound)


def _solve(program: Any, end: float) -> tuple[str, Floats | None, float, float]:
    """Status, best point (None where none is found), its value and the bound, at a gap of exactly 0."""
    import highspy

    highs = highspy.Highs()
    limit = max(0.0, end - time.monotonic())
    options = {"output_flag": False, "mip_rel_gap": 0.0, "mip_abs_gap": 0.0, "time_limit": limit}
    for name, value in options.items():
        highs.setOptionValue(name, value)
    highs.passModel(program)
    highs.HandleKeyboardInterrupt = True
    solving = highs.startSolve()
    try:
        solving.join()
    except KeyboardInterrupt:  # a solver in this thread would not hear of it
        highs.cancelSolve()
        solving.join()
        raise
    info, status = highs.getInfo(), highs.getModelStatus()
    known = {highspy.HighsModelStatus.kOptimal: OPTIMAL, highspy.HighsModelStatus.kTimeLimit: TIME_LIMIT}
    word = known.get(status) or highs.modelStatusToString(status)
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return word, None, 0.0, info.mip_dual_bound
    return word, np.array(highs.getSolution().col_value), info.objective_function_value, info.mip_dual_bound


def _plan(scenario: Scenario, users: Users, splits: Ints, time_limit_s: float) -> Plan:
    """Cell after cell in what is left of the time; cells that it does not reach stay local."""
    end = time.monotonic() + time_limit_s
    local_steps = np.full(len(users), scenario.total_steps)
    solutions = []
    for places in cells_by_size(users.cell):
        for own in places:
            left = end - time.monotonic()
            if left <= 0:
                solutions.append(Solution(local_steps[own], TIME_LIMIT, 0.0, math.inf))
                continue
            solutions.append(solve(scenario, users.take(own), splits, left))
            local_steps[own] = solutions[-1].local_steps
    return Plan(local_steps < scenario.total_steps, local_steps, _note(solutions))


def _note(solutions: Sequence[Solution]) -> str:
    """Status, gain over all local and its bound, over all cells, in words."""
    value, bound = (math.fsum(getattr(s, name) for s in solutions) for name in ("value", "bound"))
    open_ones = [s.status for s in solutions if s.status != OPTIMAL]
    gain = f"gain {value:.6g} s, " + (f"bound {bound:.6g} s" if math.isfinite(bound) else "no bound yet")
    if not open_ones:
        return f"{PROVEN}: {gain}"
    where = f" in {len(open_ones)} of {len(solutions)} cells" if len(solutions) > 1 else ""
    return f"not proven, {open_ones[0]}{where}: {gain}"


def _program(scenario: Scenario, users: Users, splits: Ints) -> tuple[Any, int]:
    """The program, columns y, z, w in this order, and how many are y."""
    from scipy.sparse import block_array, coo_array, eye_array, kron

    count, batch = len(users), np.arange(min(scenario.max_batch, len(users)) + 1)
    grants = count * splits.size
    if grants + count * batch.size > MOST_VARIABLES:
        most = MOST_VARIABLES // (splits.size + batch.size)
        raise InputError(f"--method ilp: found {count} users in a cell, accepted: {most} at most")
    offloaded = (scenario.total_steps - splits).astype(float)
    kept = users.alpha[:, None] * pai_change(scenario)[splits] + offloaded * users.step_latency_s[:, None]
    edge = np.broadcast_to(edge_step_latency(scenario, np.maximum(batch, 1)), (count, batch.size))
    worth = np.concatenate([kept.ravel(), -batch * transmit_time(scenario, batch), -edge.ravel()])
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
    return _highs_program(worth, grants + batch.size, block_array(rows).tocsc(), low, high), grants


def _highs_program(worth: Floats, binaries: int, matrix: Any, low: Floats, high: Floats) -> Any:
    """Maximise worth x for low <= matrix x <= high, x >= 0, the first ones binary, in HiGHS's terms."""
    import highspy

    program = highspy.HighsLp()
    program.num_row_, program.num_col_ = matrix.shape
    binary = np.arange(worth.size) < binaries
    program.sense_, program.col_cost_ = highspy.ObjSense.kMaximize, worth
    program.col_lower_, program.col_upper_ = np.zeros(worth.size), np.where(binary, 1.0, np.inf)
    program.row_lower_, program.row_upper_ = low, high
    kinds = highspy.HighsVarType
    program.integrality_ = [kinds.kInteger] * binaries + [kinds.kContinuous] * (worth.size - binaries)
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_, program.a_matrix_.index_ = matrix.indptr, matrix.indices
    program.a_matrix_.value_ = matrix.data
    return program

"""The paper's exact peer, section 6.2: branch and bound on an integer linear program, by HiGHS.

The products of decisions are linearised over the number of granted users, which is our own form; `products` has the two
that the paper cites. For one cell, with b = 0..min(B_max, I), the users i, and the splits n that a granted user may
have:

    maximise    sum_in v_in y_in - sum_b b T(b) z_b - sum_ib L_e(b) w_ib
    subject to  sum_b z_b = 1                                     one batch is chosen,
                sum_in y_in = sum_b b z_b                         which holds everybody who is granted;
                sum_n y_in <= 1                  for every i      a user has one split at most;
                sum_b w_ib = sum_n (N - n) y_in  for every i      a user's offloaded steps run
                w_ib <= (N - min n) z_b          for every i, b   at the chosen batch
                y_in, z_b binary, w_ib >= 0

y_in: user i is granted with split n. z_b: b users are granted in all. w_ib: offloaded steps of user i if the batch is
b, else 0; it stands for the product of offloaded steps and step latency. v_in = alpha_i (F(n) - F(N)) + (N - n) L_i(1)
is what the split saves the user before transmission, b T(b), and edge steps, L_e(b), are paid. The paper's form has
one split, N-hat; the joint form has all of N-hat..N - 1.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...common.arrays import Floats, Ints
from ...common.errors import InputError
from ...common.interrupts import ctrl_c_waits
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
    """The solver's answer for one cell.

    Attributes:
        local_steps: split point n_i, N where the request is denied; shape (users,).
        status: `OPTIMAL` where that is proven at gap 0; `TIME_LIMIT`, or HiGHS's own word.
        value: gain over all local, seconds.
        bound: upper bound on the gain of any plan of this form, seconds; infinite where none is known yet.
    """

    local_steps: Ints
    status: str
    value: float
    bound: float


def ilp_fixed(scenario: Scenario, users: Users, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """The paper's form: every granted user is split at N-hat.

    Args:
        scenario: the system.
        users: users of one or more cells, solved one after another; a cell that time does not reach stays local.
        time_limit_s: seconds for all cells together.
    """
    return plan_cells(scenario, users, np.array([scenario.min_local_steps]), time_limit_s)


def ilp_joint(scenario: Scenario, users: Users, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """The joint form: one binary for each user and split. Arguments as in `ilp_fixed`."""
    return plan_cells(scenario, users, np.arange(scenario.min_local_steps, scenario.total_steps), time_limit_s)


def over_counts(scenario: Scenario, users: Users, splits: Ints) -> tuple[Any, int]:
    """The program of the module's docstring with its columns in the order y, z, w, and the number of y."""
    count, b = len(users), np.arange(min(scenario.max_batch, len(users)) + 1)
    check_size(count, MOST_VARIABLES // (splits.size + b.size))
    offloaded = (scenario.total_steps - splits).astype(float)
    v = users.alpha[:, None] * pai_change(scenario)[splits] + offloaded * users.step_latency_s[:, None]
    edge = np.broadcast_to(edge_step_latency(scenario, np.maximum(b, 1)), (count, b.size))
    worth = np.concatenate([v.ravel(), -b * transmit_time(scenario, b), -edge.ravel()])
    low = np.concatenate([[1.0, 0.0], np.full(count, -np.inf), np.zeros(count), np.full(count * b.size, -np.inf)])
    high = np.concatenate([[1.0, 0.0], np.ones(count), np.zeros(count), np.zeros(count * b.size)])
    grants = count * splits.size
    return highs_program(worth, grants + b.size, _matrix(count, offloaded, b), low, high), grants


Form = Callable[[Scenario, Users, Ints], tuple[Any, int]]
"""Builds the program of one cell for these splits: HiGHS's program, and the number of columns that say who is granted
with which split. These come first, user by user."""


def solve(
    scenario: Scenario, users: Users, splits: Ints, time_limit_s: float = TIME_LIMIT_S, form: Form = over_counts
) -> Solution:
    """Solve one cell.

    Args:
        scenario: the system.
        users: users of one cell.
        splits: local steps that a granted user may have, ascending, below N; shape (splits,).
        time_limit_s: seconds after which the best plan so far is taken. The time to build the program counts, but
            building is not cut short.
        form: function that builds the program.

    Raises:
        InputError: for a program too large to build.
    """
    end = time.monotonic() + time_limit_s
    denied = np.full(len(users), scenario.total_steps)
    if splits.size == 0 or splits[0] >= scenario.total_steps:
        return Solution(denied, OPTIMAL, 0.0, 0.0)
    program, grants = form(scenario, users, splits)
    status, x, value, bound = solve_program(program, end)
    if x is None:
        return Solution(denied, status, 0.0, bound)
    chosen = x[:grants].reshape(len(users), -1) > 0.5
    local_steps = np.where(chosen.any(axis=1), splits[chosen.argmax(axis=1)], scenario.total_steps)
    return Solution(local_steps, status, value, bound)


def solve_program(program: Any, end: float) -> tuple[str, Floats | None, float, float]:
    """Status, best point (None where none is found), its value and the bound, at a gap of exactly 0.

    Args:
        program: HiGHS's program.
        end: reading of `time.monotonic` at which the best point so far is taken.
    """
    import highspy

    highs = highspy.Highs()
    limit = max(0.0, end - time.monotonic())
    options = {"output_flag": False, "mip_rel_gap": 0.0, "mip_abs_gap": 0.0, "time_limit": limit}
    for name, value in options.items():
        highs.setOptionValue(name, value)
    highs.passModel(program)
    _run(highs)
    info, status = highs.getInfo(), highs.getModelStatus()
    known = {highspy.HighsModelStatus.kOptimal: OPTIMAL, highspy.HighsModelStatus.kTimeLimit: TIME_LIMIT}
    word = known.get(status) or highs.modelStatusToString(status)
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return word, None, 0.0, info.mip_dual_bound
    return word, np.array(highs.getSolution().col_value), info.objective_function_value, info.mip_dual_bound


def _run(highs: Any) -> None:
    """Let HiGHS solve, in a thread of its own, as Ctrl-C does not reach it in this one.

    The thread always ends before this function does: one that is left behind aborts the process at its exit.
    """
    highs.HandleUserInterrupt = True
    with ctrl_c_waits() as pressed:
        solving = highs.startSolve()
        while not highs.wait(0.1)[0]:
            if pressed():
                highs.cancelSolve()
        solving.join()
        if pressed():
            raise KeyboardInterrupt


def plan_cells(scenario: Scenario, users: Users, splits: Ints, time_limit_s: float, form: Form = over_counts) -> Plan:
    """Cell after cell in what is left of the time; cells that it does not reach stay local. Arguments as in `solve`."""
    end = time.monotonic() + time_limit_s
    local_steps = np.full(len(users), scenario.total_steps)
    solutions = []
    for places in cells_by_size(users.cell):
        for own in places:
            left = end - time.monotonic()
            if left <= 0:
                solutions.append(Solution(local_steps[own], TIME_LIMIT, 0.0, math.inf))
                continue
            solutions.append(solve(scenario, users.take(own), splits, left, form))
            local_steps[own] = solutions[-1].local_steps
    return Plan(local_steps < scenario.total_steps, local_steps, _note(solutions))


def _note(solutions: Sequence[Solution]) -> str:
    """Status, gain over all local and its bound, over all cells, in words."""
    value, bound = math.fsum(s.value for s in solutions), math.fsum(s.bound for s in solutions)
    unproven = [s.status for s in solutions if s.status != OPTIMAL]
    gain = f"gain {value:.6g} s, " + (f"bound {bound:.6g} s" if math.isfinite(bound) else "no bound yet")
    if not unproven:
        return f"{PROVEN}: {gain}"
    where = f" in {len(unproven)} of {len(solutions)} cells" if len(solutions) > 1 else ""
    return f"not proven, {unproven[0]}{where}: {gain}"


def check_size(count: int, most: int) -> None:
    """Refuse a cell of more users than a program is built for.

    Raises:
        InputError: for more than `most`.
    """
    if count > most:
        raise InputError(f"--method ilp: found {count} users in a cell, accepted: {most} at most")


def _matrix(count: int, offloaded: Floats, b: Ints) -> Any:
    """The constraints' matrix, rows in the order of the module's docstring; columns y, z, w."""
    from scipy.sparse import block_array, coo_array, eye_array, kron

    per_user, one = eye_array(count), np.ones((1, count))
    all_splits, all_batches = np.ones((1, offloaded.size)), np.ones((1, b.size))
    rows: Any = [
        [None, coo_array(all_batches), None],
        [kron(one, all_splits), coo_array(-b[None].astype(float)), None],
        [kron(per_user, all_splits), None, None],
        [-kron(per_user, offloaded[None]), None, kron(per_user, all_batches)],
        [None, -offloaded[0] * kron(one.T, eye_array(b.size)), eye_array(count * b.size)],
    ]
    return block_array(rows).tocsc()


def highs_program(worth: Floats, binaries: int, matrix: Any, low: Floats, high: Floats) -> Any:
    """The program in HiGHS's terms: maximise worth x for low <= matrix x <= high, x >= 0, the first columns binary."""
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

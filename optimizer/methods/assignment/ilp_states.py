"""The program of states, by HiGHS: the peer and oracle of the methods here.

    maximise    sum_ims g_im(s) y_ims
    subject to  sum_s z_ms <= 1                for every m        a server is in one state,
                sum_i y_ims <= b(s) z_ms       for every m, s     which grants that many users;
                sum_ms y_ims <= 1              for every i        a user has one server at most;
                y_ims <= z_ms                  for every i, m, s  in the state that it is in
                z_ms binary, y_ims >= 0

y_ims: user i is granted at server m in state s. z_ms: server m is in state s. Only states are binary: once they are
chosen, the rest is a transportation problem, whose vertices are whole.
"""

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np

from ....common.arrays import Floats, Ints
from ....common.errors import InputError
from ...model.qoe import Scenario, Users
from ...model.servers import Fleet, FleetPlan
from ..ilp import MOST_VARIABLES, OPTIMAL, TIME_LIMIT, TIME_LIMIT_S, highs_program, solve_program
from .flow import Flow, transport
from .table import CellStatus, Table, by_cell, gain_table, split_assigned, status_note


def ilp_states(scenario: Scenario, users: Users, time_limit_s: float = TIME_LIMIT_S) -> FleetPlan:
    """The optimum by HiGHS on the program of states.

    Args:
        scenario: one server or several.
        users: users of one or more cells, solved one after another.
        time_limit_s: seconds for all cells together. The time to build a program counts, but building is not cut short.

    Raises:
        InputError: for a program too large to build.
    """
    end, told = time.monotonic() + time_limit_s, list[CellStatus]()
    made = by_cell(scenario, users, lambda fleet, own: _planned(fleet, own, end, told))
    return replace(made, note=status_note(told))


def _planned(fleet: Fleet, users: Users, end: float, told: list[CellStatus]) -> FleetPlan:
    table = gain_table(fleet, users)
    flow, status, bound = solve_states(table, len(users), end)
    told.append(CellStatus(status, flow.total, bound))
    return split_assigned(fleet, users, table, flow.server, flow.placement)


def solve_states(table: Table, users: int, end: float) -> tuple[Flow, str, float]:
    """Solve the program of one cell.

    Args:
        table: the states of every server.
        users: number of users.
        end: reading of `time.monotonic` at which the best assignment so far is taken.

    Returns:
        (assignment, status, bound): the bound in seconds of gain over all local, infinite where none is known yet.
    """
    nobody = Flow(table, users)
    if all(states.count.size == 1 for states in table):
        return nobody, OPTIMAL, 0.0
    if time.monotonic() >= end:
        return nobody, TIME_LIMIT, math.inf
    program, states = _program(table)
    status, x, _, bound = solve_program(program, end)
    if x is None:
        return nobody, status, max(bound, 0.0)
    chosen = x[: len(states)] > 0.5
    picked = [next((s for (m, s), taken in zip(states, chosen, strict=True) if taken and m == own), 0)
              for own in range(len(table))]  # fmt: skip
    flow = transport(table, np.array(picked))
    return flow, status, max(bound, flow.total) if status == OPTIMAL else bound


def _program(table: Table) -> tuple[Any, list[tuple[int, int]]]:
    """The program of the module's docstring, columns z, then y; and server and state of every z."""
    from scipy.sparse import block_array, csr_array

    states = [(m, s) for m, own in enumerate(table) for s in range(1, own.count.size)]
    gains = [table[m].gain[s] for m, s in states]
    pairs = [np.flatnonzero(gain > 0) for gain in gains]
    column_z = np.repeat(np.arange(len(states)), [pair.size for pair in pairs])  # of every y
    user = np.concatenate(pairs)
    _check_size(user.size)
    y = np.arange(user.size)
    count = np.array([table[m].count[s] for m, s in states], float)
    server = np.array([m for m, _ in states])
    z = np.arange(len(states))
    one_state = _ones(server, z, (len(table), z.size))
    counted = _ones(column_z, y, (z.size, y.size))
    one_place = _ones(user, y, (table[0].gain.shape[1], y.size))
    blocks: Any = [
        [one_state, None],
        [-csr_array((count, (z, z)), shape=(z.size, z.size)), counted],
        [None, one_place],
        [-_ones(y, column_z, (y.size, z.size)), _ones(y, y, (y.size, y.size))],
    ]
    matrix = block_array(blocks).tocsc()
    high = np.concatenate([np.ones(len(table)), np.zeros(z.size), np.ones(one_place.shape[0]), np.zeros(y.size)])
    worth = np.concatenate([np.zeros(z.size), *(gain[pair] for gain, pair in zip(gains, pairs, strict=True))])
    return highs_program(worth, z.size, matrix, np.full(high.size, -np.inf), high), states


def _ones(row: Ints, column: Ints, shape: tuple[int, int]) -> Any:
    """A sparse matrix that is 1 at these places."""
    from scipy.sparse import csr_array

    ones: Floats = np.ones(row.size)
    return csr_array((ones, (row, column)), shape=shape)


def _check_size(variables: int) -> None:
    if variables > MOST_VARIABLES:
        raise InputError(
            f"--method ilp-states: found a program of {variables} variables, accepted: {MOST_VARIABLES} at most; "
            "--method assign plans as many users"
        )

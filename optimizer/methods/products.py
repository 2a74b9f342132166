"""Branch and bound on the programs that the paper cites: the products of two decisions are linearised one by one.

With every granted user split at N-hat, (P1) is the quadratic program (18): both the transmission and the steps at the
edge of user i take longer with every user k who is granted as well, so x_i x_k costs. Two ways to make it linear:

- `standard_form`: the standard linearisation of Glover and Woolsey [22]. y_ik stands for x_i x_k, for every pair i < k:

      y_ik <= x_i,  y_ik <= x_k,  y_ik >= x_i + x_k - 1;  sum_i x_i <= B_max;  x binary, y >= 0

- `rlt_form`: the reformulation-linearisation technique, level 1 [23, 24]. x_ij says that user i is handled in the
  way j, granted (g) or denied (d), and y_ijkl stands for x_ij x_kl. Every constraint is multiplied by every x_kl:

      x_ig + x_id = 1;  sum_j y_ijkl = x_kl;  sum_i x_ig <= B_max;
      sum_{i != k} y_igkg <= (B_max - 1) x_kg;  sum_{i != k} y_igkd <= B_max x_kd;  x binary, y >= 0

  With two ways, its bound is that of the standard form wherever B_max does not bind.

In both, e_i is the seconds of one step at the edge for a granted user, else 0, with k and h of L_e(b, G) = k b / G + h:

      e_i >= (k (b_0 + 1) / G + h) x_i + (k / G) sum_{k != i} y_ik;  e_i >= floor x_i
"""

import math
from typing import Any

import numpy as np

from ...common.arrays import Floats, Ints
from ..model.qoe import Plan, Scenario, Users, transmit_time
from ..model.split import pai_change
from .ilp import MOST_VARIABLES, TIME_LIMIT_S, Form, check_size, highs_program, plan_cells

RLT_PRODUCTS = 4
"""Products of each pair of users at level 1: either of them may be granted or denied."""


def ilp_products(scenario: Scenario, users: Users, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """The standard linearisation, every granted user split at N-hat.

    Args:
        scenario: the system.
        users: users of one or more cells, solved one after another; a cell that time does not reach stays local.
        time_limit_s: seconds for all cells together.
    """
    return _plan(scenario, users, time_limit_s, standard_form)


def ilp_rlt(scenario: Scenario, users: Users, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """The reformulation-linearisation technique at level 1; arguments as in `ilp_products`."""
    return _plan(scenario, users, time_limit_s, rlt_form)


def _plan(scenario: Scenario, users: Users, time_limit_s: float, form: Form) -> Plan:
    return plan_cells(scenario, users, np.array([scenario.min_local_steps]), time_limit_s, form)


def standard_form(scenario: Scenario, users: Users, splits: Ints) -> tuple[Any, int]:
    """The standard linearisation with its columns in the order x, y, e; arguments and result as of `ilp.Form`."""
    from scipy.sparse import eye_array

    count = len(users)
    first, second = _pairs(count)
    pairs, each, user = first.shape[0], eye_array(first.shape[0]), eye_array(count)
    rows: Any = [
        [np.ones((1, count)), None, None],
        [-first, each, None],
        [-second, each, None],
        [first + second, -each, None],
        *([own, others, -user] for own, others in _edge_steps(scenario, (first + second).T)),
    ]
    high = [[scenario.max_batch], np.zeros(2 * pairs), np.ones(pairs), np.zeros(2 * count)]
    own, shared, step = _worth(scenario, users, int(splits[0]))
    worth = [own, np.full(pairs, shared), np.full(count, step)]
    return _program(worth, count, rows, [np.full(1 + 3 * pairs + 2 * count, -np.inf)], high), count


def rlt_form(scenario: Scenario, users: Users, splits: Ints) -> tuple[Any, int]:
    """Level 1 with its columns in the order x_g, x_d, y_gg, y_gd, y_dg, y_dd, e; arguments and result as above."""
    from scipy.sparse import eye_array

    count, most = len(users), scenario.max_batch
    first, second = _pairs(count, RLT_PRODUCTS)
    pairs, each, user = first.shape[0], eye_array(first.shape[0]), eye_array(count)
    rows: Any = [
        [user, user, None, None, None, None, None],
        [-first, None, each, each, None, None, None],
        [None, -first, None, None, each, each, None],
        [-second, None, each, None, each, None, None],
        [None, -second, None, each, None, each, None],
        [np.ones((1, count)), None, None, None, None, None, None],
        [-(most - 1) * user, None, (first + second).T, None, None, None, None],
        [None, -most * user, None, second.T, first.T, None, None],
        *([own, None, others, None, None, None, -user] for own, others in _edge_steps(scenario, (first + second).T)),
    ]
    low = [np.ones(count), np.zeros(4 * pairs), np.full(1 + 4 * count, -np.inf)]
    high = [np.ones(count), np.zeros(4 * pairs), [most], np.zeros(4 * count)]
    own, shared, step = _worth(scenario, users, int(splits[0]))
    worth = [own, np.zeros(count), np.full(pairs, shared), np.zeros(3 * pairs), np.full(count, step)]
    return _program(worth, 2 * count, rows, low, high), count


def _pairs(count: int, products: int = 1) -> tuple[Any, Any]:
    """Which user is the first and which the second of every pair i < k: two matrices (pairs, users) of 0 and 1."""
    from scipy.sparse import coo_array

    check_size(count, math.isqrt(2 * MOST_VARIABLES // products))
    pair, users = np.arange(count * (count - 1) // 2), np.triu_indices(count, 1)
    first, second = (coo_array((np.ones(pair.size), (pair, own)), (pair.size, count)).tocsr() for own in users)
    return first, second


def _worth(scenario: Scenario, users: Users, split: int) -> tuple[Floats, float, float]:
    """What granting each user alone is worth before steps at the edge, what each pair of them adds, and each e_i."""
    offloaded = scenario.total_steps - split
    share = float(transmit_time(scenario, 1)) / (scenario.on_radio + 1)  # seconds for each who shares the bandwidth
    saved = users.alpha * pai_change(scenario)[split] + offloaded * users.step_latency_s
    return saved - (scenario.on_radio + 1) * share, -2 * share, -float(offloaded)


def _edge_steps(scenario: Scenario, others: Any) -> list[tuple[Any, Any]]:
    """The coefficients of x_i and of the products in both bounds of e_i; `others` says which products user i is in."""
    from scipy.sparse import eye_array

    user, slope = eye_array(others.shape[0]), scenario.edge.slope_s / scenario.gpus
    alone = slope * (scenario.in_flight + 1) + scenario.edge.intercept_s
    return [(alone * user, slope * others), (scenario.edge.floor_s * user, 0 * others)]


def _program(worth: Any, binaries: int, rows: Any, low: Any, high: Any) -> Any:
    """The program in HiGHS's terms, from the parts of its vectors and the blocks of its matrix."""
    from scipy.sparse import block_array

    matrix = block_array(rows).tocsc()
    matrix.eliminate_zeros()
    return highs_program(np.concatenate(worth), binaries, matrix, np.concatenate(low), np.concatenate(high))

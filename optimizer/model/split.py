"""The split point of a granted user (P2), in closed form, and what alpha means for it (Remark 1).

alpha: seconds that a PAI of 1 is worth. d = L_i - L_e: seconds that one offloaded step saves.
F: the PAI curve. A, a: its amplitude and steepness. N-hat, N: the least and the most local steps.
The gain of a split n over n = N is alpha (F(n) - F(N)) + (N - n) d.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ...common.arrays import Bools, Floats, Ints
from ...fitting.pai import PaiCurve, log_odds
from .qoe import Plan, Scenario, Users, edge_step_latency


def split_point(scenario: Scenario, alpha: ArrayLike, step_saving_s: ArrayLike) -> Floats:
    """The stationary point of (P2) on the curve's concave branch, clipped to [N-hat, N]; not rounded.

    With q = d / (alpha A a), section 5.2's condition alpha F'(n) = d reads F (1 - F) = q, which has the
    solution n = b_F + (2 ln F - ln q) / a with F = (1 + sqrt(1 - 4 q)) / 2.

    The three cases of Proposition 2: q <= 0 (the device is no slower than the edge) gives N; q > 1/4 (no
    PAI is worth the time) gives N-hat; else the stationary point. Where F(N-hat) >= 1/2 it is the optimum;
    elsewhere N-hat may be better, which `best_split` checks.

    Args:
        scenario: the system, of which N, N-hat and the PAI curve matter.
        alpha: seconds, >= 0, any shape.
        step_saving_s: d, seconds, broadcast against alpha.
    """
    n_hat, total, curve = scenario.min_local_steps, scenario.total_steps, scenario.pai
    q = _scaled_saving(scenario, alpha, step_saving_s)
    n = curve.midpoint + log_odds(np.maximum(q, 0)) / curve.steepness
    n = np.where(q > 0.25, n_hat, np.clip(n, n_hat, total))
    return np.where(np.asarray(step_saving_s) <= 0, total, n)


def best_split(scenario: Scenario, alpha: ArrayLike, step_saving_s: ArrayLike) -> tuple[Ints, Floats]:
    """(P2): the best integer split of granted users, and its gain over n = N in seconds.

    The gain is concave where F >= 1/2, so the integers beside the stationary point are enough there; where
    F(N-hat) < 1/2 it first falls and then rises to that point, so the ends are compared as well. Of equal
    splits the one with more local steps is taken.

    Args:
        scenario: the system, of which N, N-hat and the PAI curve matter.
        alpha: seconds, >= 0, any shape.
        step_saving_s: d, seconds, broadcast against alpha.

    Returns:
        (n, gain): both of the broadcast shape; the gain is >= 0, as n = N is always allowed.
    """
    alpha, saving = np.broadcast_arrays(np.asarray(alpha, float), np.asarray(step_saving_s, float))
    stationary = split_point(scenario, alpha, saving)
    best, gain = np.full(alpha.shape, scenario.total_steps), np.zeros(alpha.shape)
    for n in (np.ceil(stationary).astype(int), np.floor(stationary).astype(int), scenario.min_local_steps):
        candidate = split_gain(scenario, alpha, saving, n)
        better = candidate > gain
        best, gain = np.where(better, n, best), np.where(better, candidate, gain)
    return best, gain


def delayed_split(
    scenario: Scenario, alpha: ArrayLike, step_saving_s: ArrayLike, delay_s: Floats
) -> tuple[Ints, Floats]:
    """The best integer split where offloading is charged for the steps of others that it delays.

    The charge is concave in the offloaded steps, so that the gain has no closed form: every split is tried.

    Args:
        scenario: the system, of which N, N-hat and the PAI curve matter.
        alpha: seconds, >= 0, any shape.
        step_saving_s: d, seconds, broadcast against alpha.
        delay_s: charge for offloading 0, 1, ... steps, seconds, shape (N - N-hat + 1,) at least.

    Returns:
        (n, gain): as of `best_split`.
    """
    alpha, saving = np.broadcast_arrays(np.asarray(alpha, float), np.asarray(step_saving_s, float))
    best, gain = np.full(alpha.shape, scenario.total_steps), np.zeros(alpha.shape)
    for n in range(scenario.total_steps - 1, scenario.min_local_steps - 1, -1):
        candidate = split_gain(scenario, alpha, saving, n) - delay_s[scenario.total_steps - n]
        better = candidate > gain
        best, gain = np.where(better, n, best), np.where(better, candidate, gain)
    return best, gain


def split_gain(scenario: Scenario, alpha: ArrayLike, step_saving_s: ArrayLike, n: ArrayLike) -> Floats:
    """alpha (F(n) - F(N)) + (N - n) d: what offloading to the split n is worth, eq. (20) less its value at N.

    Args:
        scenario: the system, of which N and the PAI curve matter.
        alpha: seconds, >= 0, any shape.
        step_saving_s: d, seconds, broadcast against alpha.
        n: local steps, whole numbers from 0 to N, broadcast against alpha.
    """
    saved = (scenario.total_steps - np.asarray(n, float)) * np.asarray(step_saving_s, float)
    gain: Floats = np.asarray(alpha, float) * pai_change(scenario)[np.asarray(n)] + saved
    return gain


def pai_change(scenario: Scenario) -> Floats:
    """F(n) - F(N) for n = 0..N, shape (N + 1,); read-only."""
    return _pai_change(scenario.pai, scenario.total_steps)


@lru_cache
def _pai_change(curve: PaiCurve, total_steps: int) -> Floats:
    values = curve.amplitude * curve.sigmoid(np.arange(total_steps + 1))  # the offset cancels: leave it out
    change: Floats = values - values[-1]
    change.flags.writeable = False
    return change


def split_granted(scenario: Scenario, users: Users, granted: Bools, note: str = "") -> Plan:
    """The plan that grants these users, each with its best split (P2).

    Args:
        scenario: the system.
        users: users of one or more cells.
        granted: whether each user is granted, shape (users,); at most B_max in a cell.
        note: what the plan's method says about it.
    """
    chosen, cell = np.flatnonzero(granted), users.cell[granted]
    b = np.bincount(cell, minlength=users.cells)[cell]
    saving = users.step_latency_s[chosen] - edge_step_latency(scenario, b)
    local_steps = np.full(len(users), scenario.total_steps)
    local_steps[chosen], _ = best_split(scenario, users.alpha[chosen], saving)
    return Plan(granted, local_steps, note)


def alpha_of_split(scenario: Scenario, step_latency_s: ArrayLike, n: ArrayLike) -> Floats:
    """The alpha whose split point is n at the reference batch: |L_i - L_e(b-hat, G)| / F'(n), Remark 1.

    Infinite where the curve is flat at n. Seconds, of the broadcast shape of `step_latency_s` and `n`.
    """
    saving = np.abs(np.asarray(step_latency_s) - edge_step_latency(scenario, scenario.reference_batch))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(saving == 0, 0.0, saving / scenario.pai.derivative(n))


def alpha_range(scenario: Scenario, step_latency_s: ArrayLike) -> tuple[Floats, Floats]:
    """Remark 1's bounds on alpha: below the first only latency counts, above the second only PAI."""
    ends = scenario.min_local_steps, scenario.total_steps
    low, high = (alpha_of_split(scenario, step_latency_s, n) for n in ends)
    return low, high


def alpha_from_emphasis(scenario: Scenario, step_latency_s: ArrayLike, emphasis: ArrayLike) -> Floats:
    """The alpha that puts the split point at N-hat + e (N - N-hat); e = 0 and 1 give Remark 1's bounds."""
    n_hat, total = scenario.min_local_steps, scenario.total_steps
    return alpha_of_split(scenario, step_latency_s, n_hat + np.asarray(emphasis) * (total - n_hat))


def _scaled_saving(scenario: Scenario, alpha: ArrayLike, step_saving_s: ArrayLike) -> Floats:
    """q = d / (alpha A a); infinite with the sign of d where alpha A = 0."""
    worth = np.asarray(alpha) * scenario.pai.amplitude * scenario.pai.steepness
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(step_saving_s) / worth

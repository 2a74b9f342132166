"""What the agent sees: the paper's flat state, and the features of the `set` network. NumPy alone.

M: states at once. P: places for users, those of smaller rounds padded. t: number of the current user. Users before t
are decided, those from t on pending.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..methods.counts import BLOCK_RATINGS, most_granted
from ..model.qoe import Scenario, Users, edge_step_latency, transmit_time
from ..model.split import best_split

PENDING, CURRENT, GRANTED, DENIED = range(4)
LOCAL_SCALE = np.array([1 / 30, 10.0, 0.1])
"""Of alpha, L_i(1) and k_i, so that the network's inputs are near 1; the paper does not say how it scales them."""
GLOBAL_SCALE = np.array([1 / 20, 100.0, 50.0, 1 / 30, 1 / 30, 1 / 30])
"""Of B_max, k_e/G, h_e and the numbers of pending, granted and denied users."""
KNOTS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
"""Batches at which the `set` network sees a user's gain: shares of the way from 1 to the most that can be granted."""
SET_GLOBALS = 6
SHORTLIST = 1.5
"""The `set` network decides on this many times as many users as can be granted: those with the largest mean gains."""
SMALLEST_S = 1e-12
"""Seconds; no scale is less."""


def statuses(present: Bools, granted: Bools, t: Ints) -> Ints:
    """o_i of every place, (M, P): pending, current, granted or denied; padding counts as denied."""
    place = np.arange(present.shape[1])
    status = np.where(granted, GRANTED, DENIED)
    status = np.where(place > t[:, None], PENDING, status)
    status = np.where(place == t[:, None], CURRENT, status)
    return np.where(present, status, DENIED)


def shifted(rows: np.ndarray, t: Ints) -> np.ndarray:
    """Places cyclically shifted so that user t comes first, Fig. 6; rows (M, P, ...)."""
    places = (t[:, None] + np.arange(rows.shape[1])) % rows.shape[1]
    return np.take_along_axis(rows, places.reshape(*places.shape, *(1,) * (rows.ndim - 2)), axis=1)


def flat_state(
    local: Floats, fixed: Floats, present: Bools, granted: Bools, t: Ints, *, scaled: bool = True
) -> tuple[Floats, Ints, Floats]:
    """The paper's state, section 5.3.1.

    Args:
        local: alpha, L_i(1), k_i, shape (M, P, 3); padding is 0.
        fixed: B_max, k_e/G, h_e, shape (M, 3).
        present: where there is a user, shape (M, P).
        granted: shape (M, P).
        t: shape (M,).
        scaled: for a network; else as they are.

    Returns:
        the static local part (M, P, 3), the indicators (M, P), both shifted, and the global part (M, 6).
    """
    status = statuses(present, granted, t)
    users, given = present.sum(axis=1), granted.sum(axis=1)
    counts = np.stack([users - t, given, t - given], axis=1)
    globals_ = np.concatenate([fixed, counts], axis=1)
    scales = (LOCAL_SCALE, GLOBAL_SCALE) if scaled else (1.0, 1.0)
    return shifted(local, t) * scales[0], shifted(status, t), globals_ * scales[1]


def paper_local(users: Users) -> Floats:
    """The static local sub-states: alpha_i, L_i(1), k_i, shape (users, 3)."""
    return np.stack([users.alpha, users.step_latency_s, users.request_slot.astype(float)], axis=1)


def paper_fixed(scenario: Scenario) -> Floats:
    """The static global sub-state: B_max, k_e / G, h_e, shape (3,)."""
    edge = scenario.edge
    return np.array([scenario.max_batch, edge.slope_s / scenario.gpus, edge.intercept_s])


@dataclass(frozen=True)
class SetFeatures:
    """Rounds as the `set` network sees them: free of units, and the same for any two rounds with one optimal plan.

    The optimal plan depends on nothing but what each user gains at each batch, u_i(b) of `counts`, and on the
    transmission time T, all in one unit. The b-th granted user costs T (2 b - 1) of transmission: T b of its own, and T
    for each of the b - 1 others. So the features are u_i(b) - T (2 b - 1) at the knots, over their mean size at b = 1;
    curve, steps, radio and profiles act through them. Cells of equal size; P users of each are shortlisted.

    Attributes:
        order: the shortlisted users in canonical order: descending mean gain, then latency, alpha, slot; (cells, P).
        listed: how many of those a cell decides on, >= 1; the others are padding; (cells,).
        most: `most_granted`; (cells,).
        scale: the mean size of u_i(1) - T over the first `most` users; seconds, (cells,).
        gains: the features of users, (cells, P, knots).
        fixed: share of the shortlist that can be granted, the logarithm of that number, and T of one and of all
            granted users over the scale; shape (cells, 4).
        sending_s: T.
    """

    order: Ints
    listed: Ints
    most: Ints
    scale: Floats
    gains: Floats
    fixed: Floats
    sending_s: float

    @property
    def present(self) -> Bools:
        """Which places are not padding, (cells, P)."""
        return np.arange(self.order.shape[1]) < self.listed[:, None]


def set_features(scenario: Scenario, latency: Floats, alpha: Floats, slot: Ints) -> SetFeatures:
    """The features of cells of equal size; L_i(1), alpha_i and k_i, each of shape (cells, users)."""
    most, sending = most_granted(scenario, latency, alpha), float(transmit_time(scenario, 1))
    limit = np.maximum(most, 1)
    batch = 1 + KNOTS * (limit[:, None] - 1)  # (cells, knots)
    saving = latency[:, :, None] - edge_step_latency(scenario, batch)[:, None]
    gain = best_split(scenario, alpha[:, :, None], saving)[1]
    listed = np.minimum(latency.shape[1], np.ceil(SHORTLIST * limit)).astype(np.int64)
    order = canonical_order(np.stack([slot, alpha, latency, -gain.sum(axis=2)]), int(listed.max()))
    net = np.take_along_axis(gain, order[:, :, None], axis=1) - sending * (2 * batch - 1)[:, None]
    first = np.arange(order.shape[1]) < limit[:, None]
    scale = np.maximum((np.abs(net[:, :, 0]) * first).sum(axis=1) / limit, SMALLEST_S)
    gains = np.arcsinh(net / scale[:, None, None])
    times = [_squashed(sending / scale), _squashed(sending * limit / scale)]
    fixed = np.column_stack([limit / listed, np.log2(limit) / 6, *times])
    return SetFeatures(order, listed, most, scale, gains, fixed, sending)


def gains_in_turn(scenario: Scenario, latency: Floats, alpha: Floats, most: int) -> Iterator[Floats]:
    """u_i(b) for b = 1..most of one user after another, (cells, most); rated in blocks, which bounds the memory."""
    edge = edge_step_latency(scenario, np.arange(1, most + 1))
    step = max(1, BLOCK_RATINGS // (len(latency) * most))
    for start in range(0, latency.shape[1], step):
        own, worth = (values[:, start : start + step, None] for values in (latency, alpha))
        yield from best_split(scenario, worth, own - edge)[1].swapaxes(0, 1)


def canonical_order(keys: Floats, first: int) -> Ints:
    """The first places of each cell in ascending order of the last key, ties by the one before; (cells, first).

    Args:
        keys: shape (keys, cells, users).
        first: how many; only those are sorted.
    """
    last = keys[-1]
    if first < last.shape[1]:
        limits = np.partition(last, first - 1, axis=1)[:, first - 1]
        rows = [np.flatnonzero(row <= limit) for row, limit in zip(last, limits, strict=True)]
        return np.stack([row[np.lexsort(keys[:, c, row])][:first] for c, row in enumerate(rows)])
    return np.lexsort(keys, axis=1)


def set_globals(fixed: Floats, most: Ints | int, users: Ints | int, granted: Ints, t: Ints | int) -> Floats:
    """The fixed features, share of places taken, share of users left; shape (M, SET_GLOBALS)."""
    left = np.broadcast_to((users - t) / users, granted.shape)
    return np.column_stack([fixed, granted / most, left])


def _squashed(x: Floats) -> Floats:
    """0 to 1, steep at small values."""
    return x / (x + 0.1)

"""Our agent: what the `set` network sees of a round, its Q function, and how it decides. NumPy alone.

M: number of states side by side. P: number of users on the shortlist. t: number of the current user on it.
u_i(b): what granting user i at batch b is worth over denying, transmission apart (`counts`). T: transmission time of
one granted user when only one is granted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..methods.counts import BLOCK_RATINGS, most_granted
from ..model.qoe import Scenario, Users, edge_step_latency, transmit_time
from ..model.split import best_split
from .layers import Shapes, Weights, dense, layer_shapes
from .names import DENY, GRANT

KNOTS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
"""Batches at which the network sees a user's gain, as shares of the way from 1 to the most that can be granted."""
SHORTLIST = 1.5
"""Users decided on for each one that can be granted: those with the largest mean gains, in canonical order."""
SMALLEST_S = 1e-12
"""The smallest scale of a round, seconds."""
GLOBALS = 6
"""Number of features of a round in one state, see `round_features`."""
ENCODED = 16
"""Width of a user's encoding."""
ENCODER_WIDTHS = (len(KNOTS), 32, ENCODED)
"""Widths of the encoder that all users share, inputs and outputs included."""
HEAD_WIDTHS = (len(KNOTS) + 1 + 2 * (len(KNOTS) + ENCODED) + GLOBALS, 128, 128, 2)
"""Widths of the layers above it: current user, its rise, the means over pending and granted users, the round."""


@dataclass(frozen=True)
class SetFeatures:
    """Rounds as the network sees them: free of units, and the same for any two rounds with one optimal plan.

    The optimal plan depends on nothing but u_i(b) and T, all in one unit. The b-th granted user costs T (2 b - 1) of
    transmission: T b of its own, and T for each of the b - 1 others. So the features are u_i(b) - T (2 b - 1) at the
    knots, over their mean size at b = 1; curve, steps, radio and profiles act through them. All cells have the same
    number of users; P users of each are shortlisted.

    Attributes:
        order: numbers of the shortlisted users in canonical order, shape (cells, P): descending mean gain, then
            latency, alpha and slot.
        listed: number of shortlisted users of a cell, >= 1, shape (cells,); the places behind them are padding.
        most: bound on the users that an optimal plan grants, `most_granted`, shape (cells,).
        scale: mean size of u_i(1) - T over the first `most` users, seconds, shape (cells,).
        gains: features of the users, shape (cells, P, knots).
        fixed: features of the round that no decision changes, shape (cells, 4): share of the shortlist that can be
            granted, logarithm of that number, and T of one and of all granted users over the scale.
        sending_s: T, seconds.
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
        """Whether a place holds a user, shape (cells, P); the others are padding."""
        return np.arange(self.order.shape[1]) < self.listed[:, None]


def set_features(scenario: Scenario, users: Users) -> SetFeatures:
    """The features of cells of equal size; arrays of the users (cells, users)."""
    latency, alpha = users.step_latency_s, users.alpha
    most, sending = most_granted(scenario, latency, alpha), float(transmit_time(scenario, 1))
    limit = np.maximum(most, 1)
    batch = 1 + KNOTS * (limit[:, None] - 1)  # (cells, knots)
    saving = latency[:, :, None] - edge_step_latency(scenario, batch)[:, None]
    gain = best_split(scenario, alpha[:, :, None], saving)[1]
    listed = np.minimum(latency.shape[1], np.ceil(SHORTLIST * limit)).astype(np.int64)
    keys = np.stack([users.request_slot, alpha, latency, -gain.sum(axis=2)])
    order = canonical_order(keys, int(listed.max()))
    net = np.take_along_axis(gain, order[:, :, None], axis=1) - sending * (2 * batch - 1)[:, None]
    first = np.arange(order.shape[1]) < limit[:, None]
    scale = np.maximum((np.abs(net[:, :, 0]) * first).sum(axis=1) / limit, SMALLEST_S)
    gains = np.arcsinh(net / scale[:, None, None])
    times = [_squashed(sending / scale), _squashed(sending * limit / scale)]
    fixed = np.column_stack([limit / listed, np.log2(limit) / 6, *times])
    return SetFeatures(order, listed, most, scale, gains, fixed, sending)


def canonical_order(keys: Floats, first: int) -> Ints:
    """The users of each cell in ascending order of the last key, ties by the key before it.

    Args:
        keys: sort keys, shape (keys, cells, users).
        first: number of users to list; the others are not sorted.

    Returns:
        numbers of users, shape (cells, first).
    """
    last = keys[-1]
    if first < last.shape[1]:
        limits = np.partition(last, first - 1, axis=1)[:, first - 1]
        rows = [np.flatnonzero(row <= limit) for row, limit in zip(last, limits, strict=True)]
        return np.stack([row[np.lexsort(keys[:, c, row])][:first] for c, row in enumerate(rows)])
    return np.lexsort(keys, axis=1)


def round_features(fixed: Floats, most: Ints, users: Ints, granted: Ints, t: Ints | int) -> Floats:
    """The features of a round in one state: the fixed ones, the share of places taken, the share of users left.

    Args:
        fixed: `SetFeatures.fixed`, shape (M, 4).
        most: number of users that can be granted, at least 1, shape (M,).
        users: number of shortlisted users, shape (M,).
        granted: number of users granted so far, shape (M,).
        t: number of the current user, shape (M,), or one number for all.

    Returns:
        features, shape (M, GLOBALS).
    """
    left = np.broadcast_to((users - t) / users, granted.shape)
    return np.column_stack([fixed, granted / most, left])


def _squashed(x: Floats) -> Floats:
    """A number >= 0 brought into [0, 1), steep at small values."""
    return x / (x + 0.1)


def gains_in_turn(scenario: Scenario, latency: Floats, alpha: Floats, most: int) -> Iterator[Floats]:
    """u_i(b) at b = 1..most of one user of each cell after another, each of shape (cells, most).

    Users are rated in blocks, which bounds the memory. L_i(1) and alpha_i are in seconds, both of shape (cells, users).
    """
    edge = edge_step_latency(scenario, np.arange(1, most + 1))
    step = max(1, BLOCK_RATINGS // (len(latency) * most))
    for start in range(0, latency.shape[1], step):
        own, worth = (values[:, start : start + step, None] for values in (latency, alpha))
        yield from best_split(scenario, worth, own - edge)[1].swapaxes(0, 1)


def encoding(weights: Weights, gains: Floats) -> Floats:
    """What the network averages over users: their features beside the encoder's outputs; gains (..., knots)."""
    return np.concatenate([gains, np.maximum(dense(weights, "encoder", gains), 0)], axis=-1)


def set_q(
    weights: Weights, current: Floats, rise: Floats, pending: Floats, granted: Floats, features: Floats
) -> Floats:
    """Q of deny and grant, shape (M, 2).

    Granting pays its reward at once, and that reward is known: the rise. The network adds what follows.

    Args:
        weights: arrays of the network.
        current: features of the current user, shape (M, knots).
        rise: rise of the objective if that user is granted, over the round's scale, shape (M,).
        pending: mean encoding of the users still pending, shape (M, knots + ENCODED).
        granted: mean encoding of the users granted so far, of the same shape.
        features: `round_features`, shape (M, GLOBALS).
    """
    inputs = np.concatenate([current, np.arcsinh(rise)[:, None], pending, granted, features], axis=1)
    value, more = dense(weights, "head", inputs).T
    return np.stack([value, value + more + rise], axis=1)


@dataclass(frozen=True)
class SetAgent:
    """Our agent, for any number of users; only ratios of gains matter to it, so it decides rounds of any kind."""

    needs_range: ClassVar[bool] = False
    own_order: ClassVar[bool] = True

    def shapes(self) -> Shapes:
        """The shapes of the network's weights."""
        return {**layer_shapes("encoder", ENCODER_WIDTHS), **layer_shapes("head", HEAD_WIDTHS)}

    def decide(self, weights: Weights, scenario: Scenario, users: Users) -> Bools:
        """Whom the network grants; users of cells of equal size, arrays and result (cells, users).

        Users are taken in canonical order, so that the file's order does not matter. The shortlist is encoded once; a
        decision moves a user from the sum over those pending to the sum over those granted.
        """
        seen = set_features(scenario, users)
        encoded = encoding(weights, seen.gains) * seen.present[:, :, None]
        cells, count, width = encoded.shape
        pending_sum, granted_sum = encoded.sum(axis=1), np.zeros((cells, width))
        chosen, b, value = np.zeros((cells, count), bool), np.zeros(cells, np.int64), np.zeros(cells)
        limit = np.maximum(seen.most, 1)
        latency, alpha = (np.take_along_axis(x, seen.order, axis=1) for x in (users.step_latency_s, users.alpha))
        gain_sums = np.zeros((cells, int(limit.max())))  # over the granted users, at every batch
        for t, gain in enumerate(gains_in_turn(scenario, latency, alpha, gain_sums.shape[1])):
            pending_sum = pending_sum - encoded[:, t]
            pending = pending_sum / np.maximum(seen.listed - t - 1, 1)[:, None]
            granted = granted_sum / np.maximum(b, 1)[:, None]
            at = np.arange(cells), np.minimum(b, limit - 1)  # the column of batch b + 1
            after = gain_sums[at] + gain[at] - seen.sending_s * (b + 1) ** 2
            features = round_features(seen.fixed, limit, seen.listed, b, t)
            q = set_q(weights, seen.gains[:, t], (after - value) / seen.scale, pending, granted, features)
            chosen[:, t] = grant = seen.present[:, t] & (b < seen.most) & (q[:, GRANT] > q[:, DENY])
            granted_sum, gain_sums = granted_sum + encoded[:, t] * grant[:, None], gain_sums + gain * grant[:, None]
            b, value = b + grant, np.where(grant, after, value)
        decisions = np.zeros(users.alpha.shape, bool)
        np.put_along_axis(decisions, seen.order, chosen, axis=1)
        return decisions

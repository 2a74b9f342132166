"""The exact optimum of (P1) by count decomposition, and the proven gap of any plan.

All coupling between users passes through the batch b = number granted. So for every b, with the gain
u_i(b) = best_split's gain of user i at the step latency l_b = L_e(b, G), and T seconds of transmission per
granted user, granting i is worth g_i(b) = u_i(b) - T b, and the best plan that grants exactly b users takes the
b largest: V(b) = (sum of the b largest u_i(b)) - T b^2. The optimum is the best b in 0..B_max: O(I B_max).
Ties: the smaller b (local before offloaded), then file order, then the larger n.

Screening, for cells too large to rate every user at every b. Three facts, for an interval lo..hi of b:

1. Users never granted. If i is among the b largest with g_i(b) <= 0, dropping it gives V(b - 1) >= V(b), since
   all g_j fall with b; so in the smallest best b every granted user has u_i(b) > T b.
2. Threshold. Let t_b be the b-th largest u(b) within any subset of the users, or T b where that is more. A user
   granted in the optimum at b has u_i(b) >= t_b: else b users of the subset beat it, or fact 1 excludes it.
3. Chord. u_i is a maximum of functions linear in l, so it is convex in l: on l_lo..l_hi it lies below its chord,
   and so does any bound of it that is convex in l (`gain_bound`). Take a straight line through or below all
   points (l_b, t_b). A user whose bound lies below that line at both ends has its chord, and so u_i(b), below
   t_b for every b of the interval: it is screened out, at the cost of two evaluations for all of lo..hi.

Whole counts are discarded likewise: V(b) <= (sum of the b largest bounds at l_lo) - T b^2; a b for which
that is below a value already reached is not the optimum. `optimum(..., screen=False)` is the unscreened solver.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..common.arrays import Bools, Floats, Ints
from .qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from .split import best_split

SCREEN_FROM = 4096
"""Users of a cell from which screening pays."""

LEAF_RATINGS = 1 << 17
"""Rate all remaining users at all remaining counts directly once that takes no more ratings than this."""

BLOCK_RATINGS = 1 << 19
"""Ratings held in memory at a time."""

CHUNK = 1 << 14
"""Users or ratings handled at a time, so that temporary arrays stay in the processor's cache."""

SLACK = 1e-9
"""Relative, on the safe side: screening keeps what rounding could have put on either side of a threshold."""


@dataclass(frozen=True)
class Group:
    """Cells of equal size: users as a matrix.

    Attributes:
        latency: L_i(1), seconds, shape (cells, users).
        alpha: seconds, shape (cells, users).
    """

    latency: Floats
    alpha: Floats

    def take(self, index: Ints | Bools | slice) -> "Group":
        """The users at these places, of every cell."""
        return Group(self.latency[:, index], self.alpha[:, index])


def optimum(scenario: Scenario, users: Users, screen: bool = True) -> Plan:
    """The plan that maximises (P1) in every cell.

    Args:
        scenario: the system.
        users: of one or more cells, each planned on its own, all together.
        screen: False rates every user at every batch size.
    """
    granted = np.zeros(len(users), bool)
    local_steps = np.full(len(users), scenario.total_steps)
    for places in _cells_by_size(users.cell):
        group = Group(users.step_latency_s[places], users.alpha[places])
        if screen and group.latency.shape[1] >= SCREEN_FROM:
            for row, latency, alpha in zip(places, group.latency, group.alpha, strict=True):
                chosen, n = _screened(scenario, Group(latency[None], alpha[None]))
                granted[row[chosen]], local_steps[row[chosen]] = True, n
        else:
            granted[places], local_steps[places] = _rated(scenario, group)
    return Plan(granted, local_steps)


def captured_share(value: Floats, all_local_value: Floats, optimum_value: Floats) -> Floats:
    """(value - all-local) / (optimum - all-local): 1 where offloading cannot gain more than 1e-9."""
    possible = np.asarray(optimum_value) - all_local_value
    hopeless = possible <= 1e-9
    return np.where(hopeless, 1.0, (value - all_local_value) / np.where(hopeless, 1.0, possible))


def gain_bound(scenario: Scenario, alpha: Floats, step_saving_s: Floats) -> Floats:
    """An upper bound of `best_split`'s gain, convex in the edge step latency: (P2) relaxed to real n.

    It is the largest of the gains at the stationary point, at N-hat (which wins where F(N-hat) < 1/2 and the
    curve is not concave) and at N. The stationary point is kept within [N-hat, N] by clipping
    q = d / (alpha A a) to the values that it takes there.
    """
    lo, hi = scenario.min_local_steps, scenario.total_steps
    curve = scenario.pai
    a, b = curve.steepness, curve.midpoint
    worth = np.maximum(alpha * curve.amplitude, 1e-300)
    f_lo, f_hi = curve.sigmoid([lo, hi])
    q_hi, q_lo = _shape(scenario, hi), _shape(scenario, lo)
    loss = f_hi - 1e-12  # larger than the rounding error of f - f_hi
    with np.errstate(over="ignore"):
        q = step_saving_s / (worth * a)
    q = np.minimum(np.maximum(q, q_hi), q_lo)
    f = 0.5 + np.sqrt(0.25 - q)
    n = np.minimum(np.maximum(b + np.log(f * f / q) / a, lo), hi)  # where q had to be kept above 0
    interior = worth * (f - loss) + (hi - n) * step_saving_s
    at_lo = worth * (f_lo - loss) + (hi - lo) * step_saving_s
    return np.maximum(np.maximum(interior, at_lo), 0)


def _shape(scenario: Scenario, n: int) -> float:
    """F (1 - F) at n, or its maximum 1/4 left of the midpoint; > 0."""
    curve = scenario.pai
    return max(float(curve.sigmoid_derivative(max(n, curve.midpoint)) / curve.steepness), 1e-300)


# ---------------------------------------------------------------------------------------------------------
# Rating every user at every count
# ---------------------------------------------------------------------------------------------------------


def _rated(scenario: Scenario, group: Group) -> tuple[Bools, Ints]:
    """The optimum of every cell of a group; (granted, local steps), both (cells, users)."""
    counts = np.arange(1, _largest_count(scenario, group) + 1)
    step = max(1, CHUNK // (group.latency.shape[1] * max(1, counts.size)))
    starts = range(0, group.latency.shape[0], step)
    parts = [Group(group.latency[s : s + step], group.alpha[s : s + step]) for s in starts]
    decisions = [_decide(scenario, part, _best_count(scenario, part, counts)) for part in parts]
    granted, local_steps = zip(*decisions, strict=True)
    return np.concatenate(granted), np.concatenate(local_steps)


def _best_count(scenario: Scenario, group: Group, counts: Ints) -> Ints:
    """The smallest b of 0 and `counts` = 1, 2, ... that maximises V(b), for every cell; shape (cells,)."""
    values = count_values(scenario, group, counts)
    nobody = np.zeros((1, group.latency.shape[0]))
    return np.argmax(np.concatenate([nobody, values]), axis=0)


def count_values(scenario: Scenario, group: Group, counts: Ints) -> Floats:
    """V(b): what the best plan that grants exactly b users is worth over all-local.

    Args:
        scenario: the system.
        group: cells of at least as many users as the largest count.
        counts: the values of b, ascending, >= 1; shape (counts,).

    Returns:
        seconds, shape (counts, cells).
    """
    values = [np.zeros((0, group.latency.shape[0]))]
    for block in _blocks(group, counts):
        sums = np.cumsum(largest_gains(scenario, group, block), axis=2)
        of_granted = np.take_along_axis(sums, block[:, None, None] - 1, axis=2)[:, :, 0]
        values.append(of_granted - (block * transmit_time(scenario, block))[:, None])
    return np.concatenate(values)


def largest_gains(scenario: Scenario, group: Group, counts: Ints) -> Floats:
    """The largest gains u_i(b) at each b, descending, as many as the largest b; (counts, cells, b)."""
    saving = group.latency - edge_step_latency(scenario, counts)[:, None, None]
    _, gain = best_split(scenario, group.alpha, saving)
    most = int(counts[-1])
    if most < gain.shape[2]:
        gain = np.partition(gain, -most, axis=2)[:, :, -most:]
    return np.sort(gain, axis=2)[:, :, ::-1]


def _blocks(group: Group, counts: Ints) -> Iterator[Ints]:
    """The counts in blocks that bound the memory of rating the group at all of a block."""
    step = max(1, BLOCK_RATINGS // group.latency.size)
    for start in range(0, counts.size, step):
        yield counts[start : start + step]


def _decide(scenario: Scenario, group: Group, counts: Ints) -> tuple[Bools, Ints]:
    """Grant each cell's `counts` largest gains, in file order where they are equal; counts (cells,)."""
    saving = group.latency - edge_step_latency(scenario, counts)[:, None]
    n, gain = best_split(scenario, group.alpha, saving)
    ranking = np.argsort(-gain, axis=1, kind="stable")
    granted = np.zeros(gain.shape, bool)
    np.put_along_axis(granted, ranking, np.arange(gain.shape[1]) < counts[:, None], axis=1)
    return granted, np.where(granted, n, scenario.total_steps)


def _largest_count(scenario: Scenario, group: Group) -> int:
    """The largest b at which some user could gain more than its transmission: u <= (N - N-hat) d."""
    counts = np.arange(1, min(scenario.max_batch, group.latency.shape[1]) + 1)
    saving = group.latency.max(initial=0) - edge_step_latency(scenario, counts)
    steps = scenario.total_steps - scenario.min_local_steps
    worth_it = steps * saving * (1 + SLACK) > transmit_time(scenario, counts)
    return int(np.max(counts[worth_it], initial=0))


def _cells_by_size(cell: Ints) -> Iterator[Ints]:
    """The users' places, cells of equal size together: matrices (cells, users), file order within a cell."""
    sizes = np.bincount(cell)
    if sizes.size == 1:
        yield np.arange(cell.size)[None]
        return
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(sizes)
    for size in sorted(set(sizes.tolist()) - {0}):
        starts = (ends - sizes)[sizes == size]
        yield order[starts[:, None] + np.arange(size)]


# ---------------------------------------------------------------------------------------------------------
# Screening one large cell
# ---------------------------------------------------------------------------------------------------------


def _screened(scenario: Scenario, cell: Group) -> tuple[Ints, Ints]:
    """The optimum of one cell without rating every user at every count: places of the granted, local steps."""
    search = Search(scenario)
    search.run(cell, np.arange(cell.latency.size), 1, _largest_count(scenario, cell))
    granted, n = _decide(scenario, cell.take(search.places), np.array([search.count]))
    return search.places[granted[0]], n[granted]


class Search:
    """Branch and bound over intervals of b, with screening of users; the best count found so far.

    Attributes:
        count: b of the best plan found.
        value: its V(b).
        places: the users among whom its granted ones are.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.count, self.value, self.places = 0, 0.0, np.arange(0)
        self._reached = 0.0  # the value of some plan, perhaps not the best one of its count

    def run(self, cell: Group, places: Ints, lo: int, hi: int) -> None:
        """Look for the optimum among counts lo..hi and the users of `cell`, which stand at `places`."""
        hi = min(hi, places.size)
        if lo >= hi or places.size * (hi - lo + 1) <= LEAF_RATINGS:
            self._rate_all(cell, places, lo, hi)
            return
        low = self._bounds(cell, lo)
        self._reach(cell.take(_promising(low, hi)), lo, hi)
        first, hi = self._open_counts(low, lo, hi)
        if first > hi:
            return
        keep = self._screen(cell, low, lo, hi)
        if _has_many_copies(cell.take(keep)):
            keep = keep[_first_copies(cell.take(keep), hi)]
        cell, places = cell.take(keep), places[keep]
        middle = (first + hi) // 2
        self.run(cell, places, middle + 1, hi)
        self.run(cell, places, first, middle)

    def _rate_all(self, cell: Group, places: Ints, lo: int, hi: int) -> None:
        if lo > hi:
            return
        values = count_values(self.scenario, cell, np.arange(lo, hi + 1))[:, 0]
        b, value = lo + int(np.argmax(values)), float(np.max(values))
        if value > self.value or (value == self.value and b < self.count):
            self.count, self.value, self.places = b, value, places
        self._reached = max(self._reached, self.value)

    def _bounds(self, cell: Group, b: int) -> Floats:
        """`gain_bound` of all users at count b."""
        latency, alpha = cell.latency[0], cell.alpha[0]
        edge = edge_step_latency(self.scenario, b)
        out = np.empty(latency.size)
        for s in range(0, latency.size, CHUNK):
            part = slice(s, s + CHUNK)
            out[part] = gain_bound(self.scenario, alpha[part], latency[part] - edge)
        return out

    def _reach(self, pool: Group, lo: int, hi: int) -> None:
        """Note the value of the best plan of a few users, hi or more, with lo..hi granted."""
        values = count_values(self.scenario, pool, np.arange(lo, hi + 1))
        self._reached = float(np.max(values, initial=self._reached))

    def _open_counts(self, low: Floats, lo: int, hi: int) -> tuple[int, int]:
        """The counts within lo..hi, first to last, that may still beat what is reached; none: (lo, lo - 1)."""
        counts = np.arange(lo, hi + 1)
        at_most = np.cumsum(_largest(low, hi))[counts - 1] - counts * transmit_time(self.scenario, counts)
        still_open = counts[at_most >= self._reached - SLACK * (1 + self._reached)]
        return (int(still_open[0]), int(still_open[-1])) if still_open.size else (lo, lo - 1)

    def _screen(self, cell: Group, low: Floats, lo: int, hi: int) -> Ints:
        """The places of the users whom some count of lo..hi may grant; `low` are their bounds at lo."""
        high = self._bounds(cell, hi)
        promising = np.zeros(low.size, bool)
        promising[_promising(low, hi)] = promising[_promising(high, hi)] = True
        line_lo, line_hi = self._threshold_line(cell.take(np.flatnonzero(promising)), lo, hi)
        return np.flatnonzero((low >= line_lo) | (high >= line_hi))

    def _threshold_line(self, pool: Group, lo: int, hi: int) -> tuple[float, float]:
        """The ends, at l_lo and l_hi, of a straight line on or below every t_b of facts 1 and 2.

        t_b is taken as the hi-th largest gain at b: less than the b-th, but almost straight in l.
        """
        counts = np.arange(lo, hi + 1)
        blocks = _blocks(pool, counts)
        t = np.concatenate([_nth_gain(self.scenario, pool, block, hi) for block in blocks])
        t = np.maximum(t, transmit_time(self.scenario, lo))
        t -= SLACK * (1 + np.abs(t))
        l = edge_step_latency(self.scenario, counts)
        share = (l - l[0]) / (l[-1] - l[0]) if l[-1] > l[0] else np.zeros(counts.size)
        drop = np.max(t[0] + share * (t[-1] - t[0]) - t)
        return float(t[0] - drop), float(t[-1] - drop)


def _nth_gain(scenario: Scenario, pool: Group, counts: Ints, rank: int) -> Floats:
    """The rank-th largest gain of a cell at each count; shape (counts,)."""
    saving = pool.latency - edge_step_latency(scenario, counts)[:, None]
    _, gain = best_split(scenario, pool.alpha, saving)
    return np.partition(gain, -rank, axis=1)[:, -rank]


def _stride(size: int, count: int) -> int:
    """Every so-manieth user makes a sample large enough to find good thresholds for `count` users."""
    return max(1, size // max(32 * count, 1 << 15))


def _promising(values: Floats, count: int) -> Ints:
    """Places of the `count` largest values of a sample."""
    sampled = np.arange(0, values.size, _stride(values.size, count))
    return sampled[np.argpartition(values[sampled], -count)[-count:]]


def _largest(values: Floats, count: int) -> Floats:
    """The `count` largest values, in descending order."""
    sampled = values[:: _stride(values.size, count)]
    floor = np.partition(sampled, -count)[-count]  # as large as it may be, `count` values reach it
    return np.sort(values[values >= floor])[::-1][:count]


def _has_many_copies(cell: Group) -> bool:
    """Whether most users, by a sample, are equal to another one."""
    stride = _stride(cell.latency.size, 1)
    sampled = np.column_stack([cell.latency[0, ::stride], cell.alpha[0, ::stride]])
    return 2 * len({pair.tobytes() for pair in sampled[:1024]}) < min(len(sampled), 1024)


def _first_copies(cell: Group, count: int) -> Ints:
    """Places, in file order, of all users but those with `count` equal ones before them: never needed."""
    latency, alpha = cell.latency[0], cell.alpha[0]
    order = np.lexsort((alpha, latency))
    same = (np.diff(latency[order]) == 0) & (np.diff(alpha[order]) == 0)
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    copy = np.arange(order.size) - np.repeat(starts, np.diff(np.append(starts, order.size)))
    return np.sort(order[copy < count])

"""The exact optimum of one large cell without rating every user at every count.

Symbols as in `counts`; neither l_b nor c_b falls with b. Three facts, for an interval lo..hi of b:

1. Users never granted. If i is among the b largest with g_i(b) <= 0, dropping it gives V(b - 1) >= V(b), since
   all g_j fall with b; so in the smallest best b every granted user has u_i(b) > c_b.
2. Threshold. Let t_b be the b-th largest u(b) within any subset of the users, or c_b where that is more. A user
   granted in the optimum at b has u_i(b) >= t_b: else b users of the subset beat it, or fact 1 excludes it.
3. Chord. u_i is a maximum of functions linear in l, so it is convex in l: on l_lo..l_hi it lies below its chord.
   Take a straight line through or below all points (l_b, t_b). A user whose bound (`gain_bound`, at least u_i)
   lies below that line at both ends has its chord, and so u_i(b), below t_b for every b of the interval: it is
   screened out, at the cost of two evaluations for all of lo..hi.

Whole counts are discarded likewise: V(b) <= (sum of the b largest bounds at l_lo) - b c_b; a b for which
that is below a value already reached is not the optimum. `optimum(..., screen=False)` is the unscreened solver.
"""

import numpy as np

from ...common.arrays import Floats, Ints
from ..model.qoe import Scenario
from ..model.terms import Terms
from .counts import Group, blocks, count_values, decide, largest_count

LEAF_RATINGS = 1 << 17
"""Number of ratings up to which all remaining users are rated at all remaining counts directly."""

MOST_RATINGS = 1 << 22
"""Number of ratings of promising users up to which they are rated at every count of an interval. Where more may be
granted, some counts give the value reached, and only counts are discarded until the intervals are small."""

CHUNK = 1 << 14
"""Number of users that are bounded at a time, so that temporary arrays stay in the processor's cache."""

SLACK = 1e-9
"""Relative margin: screening keeps what rounding may have put on either side of a threshold."""


def screened(terms: Terms, cell: Group, places: Ints) -> tuple[Ints, Ints]:
    """The optimum of one cell without rating every user at every count.

    Args:
        terms: the system, with its load and prices.
        cell: users of one cell.
        places: places of these users in the file, ascending; shape (users,).

    Returns:
        (places of the granted users, their local steps), both of shape (granted,).
    """
    search = Search(terms, cell)
    search.run(cell, places, 1, largest_count(terms, cell))
    granted, n = decide(terms, search.cell, np.array([search.count]))
    return search.places[granted[0]], n[granted]


class Search:
    """Branch and bound over intervals of b, with screening of users; the best count found so far.

    Attributes:
        count: batch b of the best plan so far.
        value: gain V(b) of the best plan so far, seconds.
        cell: users among whom its granted ones are.
        places: places of those users in the file.
    """

    def __init__(self, terms: Terms, cell: Group) -> None:
        self.terms = terms
        self.count, self.value = 0, 0.0
        self.cell, self.places = cell.take(slice(0)), np.arange(0)
        self._reached = 0.0  # the value of some plan, perhaps not the best one of its count

    def run(self, cell: Group, places: Ints, lo: int, hi: int) -> None:
        """Look for the optimum among counts lo..hi and the users of `cell`, whose places in the file are `places`."""
        hi = min(hi, places.size)
        if lo >= hi or places.size * (hi - lo + 1) <= LEAF_RATINGS:
            self._rate_all(cell, places, lo, hi)
            return
        low = self._bounds(cell, lo)
        self._reach(cell.take(_promising(low, hi)), lo, hi)
        first, hi = self._open_counts(low, lo, hi)
        if first > hi:
            return
        if hi * (hi - lo + 1) <= MOST_RATINGS:
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
        values = count_values(self.terms, cell, np.arange(lo, hi + 1))[:, 0]
        b, value = lo + int(np.argmax(values)), float(np.max(values))
        if value > self.value or (value == self.value and b < self.count):
            self.count, self.value, self.cell, self.places = b, value, cell, places
        self._reached = max(self._reached, self.value)

    def _bounds(self, cell: Group, b: int) -> Floats:
        """`gain_bound` of every user at count b, shape (users,)."""
        latency, alpha = cell.latency[0], cell.alpha[0]
        cost = self.terms.step_cost(b)
        out = np.empty(latency.size)
        for s in range(0, latency.size, CHUNK):
            part = slice(s, s + CHUNK)
            out[part] = gain_bound(self.terms.scenario, alpha[part], latency[part] - cost)
        return out

    def _reach(self, pool: Group, lo: int, hi: int) -> None:
        """Note the value of the best plan for some users, at least hi, with lo..hi granted, or some counts of these."""
        step = max(1, hi * (hi - lo + 1) // MOST_RATINGS)
        values = count_values(self.terms, pool, np.arange(lo, hi + 1, step))
        self._reached = float(np.max(values, initial=self._reached))

    def _open_counts(self, low: Floats, lo: int, hi: int) -> tuple[int, int]:
        """The first and last count within lo..hi that may still beat the value reached; none: (lo, lo - 1)."""
        counts = np.arange(lo, hi + 1)
        at_most = np.cumsum(_largest(low, hi))[counts - 1] - counts * self.terms.grant_cost(counts)
        still_open = counts[at_most >= self._reached - SLACK * (1 + self._reached)]
        return (int(still_open[0]), int(still_open[-1])) if still_open.size else (lo, lo - 1)

    def _screen(self, cell: Group, low: Floats, lo: int, hi: int) -> Ints:
        """The places of the users whom some count of lo..hi may grant; `low` holds the users' bounds at lo."""
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
        t = np.concatenate([_nth_gain(self.terms, pool, block, hi) for block in blocks(pool, counts)])
        t = np.maximum(t, self.terms.grant_cost(lo))
        t -= SLACK * (1 + np.abs(t))
        edge = self.terms.step_cost(counts)
        rise = edge[-1] - edge[0]
        share = (edge - edge[0]) / rise if rise > 0 else np.zeros(counts.size)
        drop = np.max(t[0] + share * (t[-1] - t[0]) - t)
        return float(t[0] - drop), float(t[-1] - drop)


def _nth_gain(terms: Terms, pool: Group, counts: Ints, rank: int) -> Floats:
    """The rank-th largest gain of a cell at each count; shape (counts,)."""
    _, gain = pool.best_split(terms, terms.step_cost(counts)[:, None])
    return np.partition(gain, -rank, axis=1)[:, -rank]


def _stride(size: int, count: int) -> int:
    """The step between users of a sample that is large enough to find good thresholds for `count` users."""
    return max(1, size // max(32 * count, 1 << 15))


def _promising(values: Floats, count: int) -> Ints:
    """The places of the `count` largest values of a sample."""
    sampled = np.arange(0, values.size, _stride(values.size, count))
    return sampled[np.argpartition(values[sampled], -count)[-count:]]


def _largest(values: Floats, count: int) -> Floats:
    """The `count` largest values, in descending order."""
    sampled = values[:: _stride(values.size, count)]
    floor = np.partition(sampled, -count)[-count]  # as large as it may be, `count` values reach it
    return np.sort(values[values >= floor])[::-1][:count]


def _has_many_copies(cell: Group) -> bool:
    """Whether most users of a sample are equal to another one."""
    stride = _stride(cell.latency.size, 1)
    sampled = np.column_stack([cell.latency[0, ::stride], cell.alpha[0, ::stride]])
    return 2 * len({pair.tobytes() for pair in sampled[:1024]}) < min(len(sampled), 1024)


def _first_copies(cell: Group, count: int) -> Ints:
    """The places, in file order, of all users except those with `count` equal ones before them, whom no plan needs."""
    latency, alpha = cell.latency[0], cell.alpha[0]
    order = np.lexsort((alpha, latency))
    same = (np.diff(latency[order]) == 0) & (np.diff(alpha[order]) == 0)
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    copy = np.arange(order.size) - np.repeat(starts, np.diff(np.append(starts, order.size)))
    return np.sort(order[copy < count])


def gain_bound(scenario: Scenario, alpha: Floats, step_saving_s: Floats) -> Floats:
    """An upper bound of `best_split`'s gain: (P2) relaxed to real n.

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
    bound: Floats = np.maximum(np.maximum(interior, at_lo), 0)
    return bound


def _shape(scenario: Scenario, n: int) -> float:
    """F (1 - F) at n, or its maximum 1/4 left of the midpoint; > 0."""
    curve = scenario.pai
    shape = float(curve.sigmoid_derivative(max(n, curve.midpoint)) / curve.steepness)
    return min(max(shape, 1e-300), 0.25)  # rounding may lift it above its maximum, whose root would be NaN

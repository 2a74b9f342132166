"""What no plan can exceed: prices of users, and the bound that any prices prove.

Let every user i have a price pi_i >= 0, which is paid back to whoever owns the user. Each server then buys the users
who gain it most, in its best state, as if there were no other server:

    D(pi) = sum_i pi_i + sum_m max_s [sum of the b(s) largest g_im(s) - pi_i, those below 0 left out]

In a plan no user is with two servers, so that its servers together pay for no more than all prices, and each gains no
more than its best choice: no plan gains more than D(pi), whatever the prices (weak duality).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....common.arrays import Floats, Ints
from .flow import Flow, longest_paths
from .table import States, Table, top_sums

ROUNDS = 150
"""Rounds in which prices are improved."""
PATIENCE = 8
"""Rounds without a better bound after which steps are halved."""


@dataclass(frozen=True)
class Proof:
    """Prices and what they prove.

    Attributes:
        prices: pi, seconds, shape (users,).
        bound: D(pi), seconds: no plan gains more over all local.
        state: every server's best state at these prices, shape (servers,).
        values: what every state of every server is worth at these prices at most, seconds.
    """

    prices: Floats
    bound: float
    state: Ints
    values: list[Floats]


def proof(table: Table, prices: Floats) -> Proof:
    """D of any prices >= 0."""
    return Dual(table).proof(prices)


class Dual:
    """D at prices that change: a state is rated anew only where it might be its server's best one.

    Where prices fall, a state that grants b users gains no more than the b largest falls.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._prices = np.zeros(table[0].gain.shape[1])
        self._most = [np.full(states.count.size, np.inf) for states in table]

    def proof(self, prices: Floats) -> Proof:
        """D at the next prices >= 0."""
        falls = np.sort(np.maximum(self._prices - prices, 0))[::-1]
        rise = np.concatenate([[0.0], np.cumsum(falls)])
        best = [self._rate(m, prices, rise) for m in range(len(self.table))]
        self._prices = prices
        bound = float(prices.sum()) + sum(float(most[s]) for most, s in zip(self._most, best, strict=True))
        return Proof(prices, bound, np.array(best), [most.copy() for most in self._most])

    def _rate(self, m: int, prices: Floats, rise: Floats) -> int:
        """A server's best state at these prices; its other states keep what they are worth at most."""
        states, most = self.table[m], self._most[m]
        most += rise[np.minimum(states.count, prices.size)]
        first = int(np.argmax(most))
        most[first] = self._worth(states, np.array([first]), prices)[0]
        others = np.flatnonzero(most > most[first] - 1e-12 * (1 + most[first]))
        others = others[others != first]
        if others.size:
            most[others] = self._worth(states, others, prices)
        return int(np.argmax(most))

    @staticmethod
    def _worth(states: States, which: Ints, prices: Floats) -> Floats:
        return top_sums(states.gain[which] - prices, states.count[which])


def wanted(table: Table, found: Proof) -> Ints:
    """How many servers buy each user in their best states, shape (users,)."""
    buyers = np.zeros(found.prices.size, int)
    for states, s in zip(table, found.state, strict=True):
        worth, count = states.gain[s] - found.prices, int(states.count[s])
        chosen = np.argpartition(-worth, count - 1)[:count] if 0 < count < worth.size else np.arange(worth.size)[:count]
        buyers[chosen[worth[chosen] > 0]] += 1
    return buyers


def improve(
    table: Table,
    start: Proof,
    reached: float,
    rounds: int = ROUNDS,
    watch: Callable[[Proof], None] = lambda _: None,
) -> Proof:
    """Better prices by Polyak's steps along the subgradient of D.

    Args:
        table: the states of every server.
        start: prices to begin with.
        reached: the gain of some plan, which D cannot fall below.
        rounds: number of steps at most.
        watch: function that is called with the prices of every round.
    """
    best, now, scale, since = start, start, 1.0, 0
    dual = Dual(table)
    for _ in range(rounds):
        watch(now)
        slope = 1 - wanted(table, now)
        slope[(slope > 0) & (now.prices <= 0)] = 0
        size, gap = float(slope @ slope), now.bound - reached
        if size == 0 or best.bound - reached <= 1e-9 * (1 + abs(reached)):
            break
        now = dual.proof(np.maximum(now.prices - scale * gap / size * slope, 0))
        since = 0 if now.bound < best.bound else since + 1
        best = now if now.bound < best.bound else best
        if since >= PATIENCE:
            scale, since, now = scale / 2, 0, best
    return best


def flow_prices(flow: Flow, share: float) -> Floats:
    """The prices of an assignment that is best at its states: what a user is worth beyond the price of a place.

    A place at server m is worth at least the best path from local to m, and at most what the best path from m to local
    loses; any share between the two proves the assignment best at its states.
    """
    gain, _ = flow.edges()
    paths, _ = longest_paths(gain)
    low, high = paths[flow.local, :-1], -paths[:-1, flow.local]
    low = np.maximum(low, 0)
    high = np.where(np.isfinite(high), np.maximum(high, low), low)
    place = low + share * (high - low)
    prices: Floats = (flow.value[:-1] - np.where(np.isfinite(place), place, np.inf)[:, None]).max(axis=0, initial=0)
    return prices


def prove(flow: Flow, rounds: int = ROUNDS) -> Proof:
    """The best bound found from the prices of an assignment."""
    starts = [proof(flow.table, flow_prices(flow, share)) for share in (0.0, 0.5, 1.0)]
    return improve(flow.table, min(starts, key=lambda start: start.bound), flow.total, rounds)

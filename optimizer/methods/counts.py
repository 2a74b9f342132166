"""What granting exactly b users is worth: the count decomposition of (P1), for cells of equal size.

All coupling between users passes through the batch b = number granted. For every b, with the gain u_i(b) =
`best_split`'s gain of user i where a step costs l_b and a grant c_b, granting i is worth g_i(b) = u_i(b) - c_b, and
the best plan that grants exactly b users takes the b largest: V(b) = (sum of the b largest u_i(b)) - b c_b.
In the paper's empty edge l_b = L_e(b, G) and c_b = T b, T seconds of transmission; `Terms` adds load and prices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..model.qoe import Scenario, edge_step_latency, transmit_time
from ..model.split import best_split
from ..model.terms import Terms, with_steps

BLOCK_RATINGS = 1 << 19
"""Largest number of ratings, each of one user at one count, in memory at a time."""


@dataclass(frozen=True)
class Group:
    """The users of cells of equal size, as matrices.

    Attributes:
        latency: seconds of one step on the user's own device, L_i(1), shape (cells, users).
        alpha: seconds that a PAI of 1 is worth, shape (cells, users).
        own_steps: steps N of each user's image, shape (cells, users); None where all have the scenario's.
    """

    latency: Floats
    alpha: Floats
    own_steps: Ints | None = None

    def take(self, index: Ints | Bools | slice) -> "Group":
        """The users at these places of every cell."""
        steps = None if self.own_steps is None else self.own_steps[:, index]
        return Group(self.latency[:, index], self.alpha[:, index], steps)

    def best_split(self, terms: Terms, step_cost_s: Floats) -> tuple[Ints, Floats]:
        """The best splits and their gains where a step costs this much, broadcast against (cells, users)."""
        return terms.best_split(self.alpha, self.latency - step_cost_s, self.own_steps)


def best_count(terms: Terms, group: Group, counts: Ints) -> Ints:
    """The smallest b of 0 and `counts` = 1, 2, ... that maximises V(b), for every cell; shape (cells,)."""
    values = count_values(terms, group, counts)
    nobody = np.zeros((1, group.latency.shape[0]))
    best: Ints = np.argmax(np.concatenate([nobody, values]), axis=0)
    return best


def count_values(terms: Terms, group: Group, counts: Ints) -> Floats:
    """V(b): what the best plan that grants exactly b users is worth over all-local.

    Args:
        terms: the system, with its load and prices.
        group: users of cells, each with at least as many users as the largest count.
        counts: values of b to rate, ascending, >= 1; shape (counts,).

    Returns:
        seconds, shape (counts, cells).
    """
    values = [np.zeros((0, group.latency.shape[0]))]
    for block in blocks(group, counts):
        sums = np.cumsum(largest_gains(terms, group, block), axis=2)
        of_granted = np.take_along_axis(sums, block[:, None, None] - 1, axis=2)[:, :, 0]
        values.append(of_granted - block[:, None] * terms.grant_cost(block[:, None]))
    return np.concatenate(values)


def largest_gains(terms: Terms, group: Group, counts: Ints) -> Floats:
    """The largest gains u_i(b) at each b, descending, as many as the largest b; shape (counts, cells, b)."""
    _, gain = group.best_split(terms, terms.step_cost(counts[:, None])[:, :, None])
    most = int(counts[-1])
    if most < gain.shape[2]:
        gain = np.partition(gain, -most, axis=2)[:, :, -most:]
    return np.sort(gain, axis=2)[:, :, ::-1]


def blocks(group: Group, counts: Ints) -> Iterator[Ints]:
    """The counts in blocks, each small enough to rate the group at all of its counts in bounded memory."""
    step = max(1, BLOCK_RATINGS // group.latency.size)
    for start in range(0, counts.size, step):
        yield counts[start : start + step]


def decide(terms: Terms, group: Group, counts: Ints) -> tuple[Bools, Ints]:
    """Grant each cell's `counts` largest gains, in file order where they are equal.

    Args:
        terms: the system, with its load and prices.
        group: users of cells.
        counts: number of users to grant in every cell, shape (cells,).

    Returns:
        (granted, local steps): both of shape (cells, users).
    """
    n, gain = group.best_split(terms, terms.step_cost(counts)[:, None])
    ranking = np.argsort(-gain, axis=1, kind="stable")
    granted = np.zeros(gain.shape, bool)
    np.put_along_axis(granted, ranking, np.arange(gain.shape[1]) < counts[:, None], axis=1)
    total = terms.scenario.total_steps if group.own_steps is None else group.own_steps
    return granted, np.where(granted, n, total)


def largest_count(terms: Terms, group: Group) -> int:
    """The largest b at which some user could gain more than a grant costs, as u <= (N - N-hat) d."""
    counts = np.arange(1, min(terms.scenario.max_batch, group.latency.shape[1]) + 1)
    saving = group.latency.max(initial=0) - terms.step_cost(counts[:, None])
    worth_it = _most_offloaded(terms, group) * saving * (1 + 1e-9) > terms.grant_cost(counts[:, None])
    return int(np.max(counts[worth_it.any(axis=1)], initial=0))


def _most_offloaded(terms: Terms, group: Group) -> int:
    """The most steps that a user can offload, N - N-hat."""
    scenario = terms.scenario
    if group.own_steps is not None:
        scenario = with_steps(scenario, int(group.own_steps.max(initial=1)))
    return scenario.total_steps - scenario.min_local_steps


def most_granted(scenario: Scenario, latency: Floats, alpha: Floats) -> Ints:
    """A bound on the users that an optimal plan grants: the largest b with u_i(b) > T (q_0 + 2 b - 1) for b users.

    Denying one of b granted users costs its u_i(b), and saves T (q_0 + 2 b - 1) of transmission and what the others
    gain at the smaller batch. So all b users of the smallest optimal plan exceed that. Fewer do so the larger b is,
    which bisection uses.

    Args:
        scenario: the system.
        latency: L_i(1) of cells of equal size, shape (cells, users).
        alpha: the same shape.

    Returns:
        from 0 to min(B_max, users), shape (cells,).
    """
    low = np.zeros(len(latency), np.int64)
    high = np.full(len(latency), min(scenario.max_batch, latency.shape[1]))
    while np.any(low < high):
        b = (low + high + 1) // 2
        gain = best_split(scenario, alpha, latency - edge_step_latency(scenario, b)[:, None])[1]
        enough = (gain > transmit_time(scenario, 2 * b - 1)[:, None]).sum(axis=1) >= b
        low, high = np.where(enough, b, low), np.where(enough, high, b - 1)
    return low


def cells_by_size(cell: Ints) -> Iterator[Ints]:
    """The places of the users of all cells of one size, as a matrix (cells, users) in file order; one for each size."""
    sizes = np.bincount(cell)
    if sizes.size == 1:
        yield np.arange(cell.size)[None]
        return
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(sizes)
    for size in sorted(set(sizes.tolist()) - {0}):
        starts = (ends - sizes)[sizes == size]
        yield order[starts[:, None] + np.arange(size)]

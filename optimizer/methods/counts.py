"""What granting exactly b users is worth: the count decomposition of (P1), for cells of equal size.

All coupling between users passes through the batch b = number granted. For every b, with the gain u_i(b) =
`best_split`'s gain of user i at the step latency l_b = L_e(b, G), and T seconds of transmission per granted user,
granting i is worth g_i(b) = u_i(b) - T b, and the best plan that grants exactly b users takes the b largest:
V(b) = (sum of the b largest u_i(b)) - T b^2.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..model.qoe import Scenario, edge_step_latency, transmit_time
from ..model.split import best_split

BLOCK_RATINGS = 1 << 19
"""Largest number of ratings, each of one user at one count, in memory at a time."""


@dataclass(frozen=True)
class Group:
    """The users of cells of equal size, as matrices.

    Attributes:
        latency: seconds of one step on the user's own device, L_i(1), shape (cells, users).
        alpha: seconds that a PAI of 1 is worth, shape (cells, users).
    """

    latency: Floats
    alpha: Floats

    def take(self, index: Ints | Bools | slice) -> "Group":
        """The users at these places of every cell."""
        return Group(self.latency[:, index], self.alpha[:, index])


def best_count(scenario: Scenario, group: Group, counts: Ints) -> Ints:
    """The smallest b of 0 and `counts` = 1, 2, ... that maximises V(b), for every cell; shape (cells,)."""
    values = count_values(scenario, group, counts)
    nobody = np.zeros((1, group.latency.shape[0]))
    best: Ints = np.argmax(np.concatenate([nobody, values]), axis=0)
    return best


def count_values(scenario: Scenario, group: Group, counts: Ints) -> Floats:
    """V(b): what the best plan that grants exactly b users is worth over all-local.

    Args:
        scenario: the system.
        group: users of cells, each with at least as many users as the largest count.
        counts: values of b to rate, ascending, >= 1; shape (counts,).

    Returns:
        seconds, shape (counts, cells).
    """
    values = [np.zeros((0, group.latency.shape[0]))]
    for block in blocks(group, counts):
        sums = np.cumsum(largest_gains(scenario, group, block), axis=2)
        of_granted = np.take_along_axis(sums, block[:, None, None] - 1, axis=2)[:, :, 0]
        values.append(of_granted - (block * transmit_time(scenario, block))[:, None])
    return np.concatenate(values)


def largest_gains(scenario: Scenario, group: Group, counts: Ints) -> Floats:
    """The largest gains u_i(b) at each b, descending, as many as the largest b; shape (counts, cells, b)."""
    saving = group.latency - edge_step_latency(scenario, counts)[:, None, None]
    _, gain = best_split(scenario, group.alpha, saving)
    most = int(counts[-1])
    if most < gain.shape[2]:
        gain = np.partition(gain, -most, axis=2)[:, :, -most:]
    return np.sort(gain, axis=2)[:, :, ::-1]


def blocks(group: Group, counts: Ints) -> Iterator[Ints]:
    """The counts in blocks, each small enough to rate the group at all of its counts in bounded memory."""
    step = max(1, BLOCK_RATINGS // group.latency.size)
    for start in range(0, counts.size, step):
        yield counts[start : start + step]


def decide(scenario: Scenario, group: Group, counts: Ints) -> tuple[Bools, Ints]:
    """Grant each cell's `counts` largest gains, in file order where they are equal.

    Args:
        scenario: the system.
        group: users of cells.
        counts: number of users to grant in every cell, shape (cells,).

    Returns:
        (granted, local steps): both of shape (cells, users).
    """
    saving = group.latency - edge_step_latency(scenario, counts)[:, None]
    n, gain = best_split(scenario, group.alpha, saving)
    ranking = np.argsort(-gain, axis=1, kind="stable")
    granted = np.zeros(gain.shape, bool)
    np.put_along_axis(granted, ranking, np.arange(gain.shape[1]) < counts[:, None], axis=1)
    return granted, np.where(granted, n, scenario.total_steps)


def largest_count(scenario: Scenario, group: Group) -> int:
    """The largest b at which some user could gain more than its transmission, as u <= (N - N-hat) d."""
    counts = np.arange(1, min(scenario.max_batch, group.latency.shape[1]) + 1)
    saving = group.latency.max(initial=0) - edge_step_latency(scenario, counts)
    steps = scenario.total_steps - scenario.min_local_steps
    worth_it = steps * saving * (1 + 1e-9) > transmit_time(scenario, counts)
    return int(np.max(counts[worth_it], initial=0))


def most_granted(scenario: Scenario, latency: Floats, alpha: Floats) -> Ints:
    """A bound on the users that an optimal plan grants: the largest b with u_i(b) > T (2 b - 1) for b users or more.

    Denying one of b granted users costs its u_i(b), and saves T (2 b - 1) of transmission and what the others gain
    at the smaller batch. So all b users of the smallest optimal plan exceed T (2 b - 1). Fewer do so the larger b is,
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
        enough = (gain > (transmit_time(scenario, 1) * (2 * b - 1))[:, None]).sum(axis=1) >= b
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

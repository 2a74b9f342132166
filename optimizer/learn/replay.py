"""Prioritised experience replay (arXiv 1511.05952), terminal steps and others apart; all operations on arrays."""

from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints


class SumTree:
    """A binary tree whose leaves are priorities and whose inner nodes are sums, for sampling in proportion.

    Args:
        capacity: number of leaves; rounded up to a power of two.
    """

    def __init__(self, capacity: int) -> None:
        self.size = 1 << max(0, capacity - 1).bit_length()
        self.nodes = np.zeros(2 * self.size)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self.nodes[1])

    def set(self, leaves: Ints, priorities: Floats) -> None:
        """Set the priorities of different leaves."""
        nodes = leaves + self.size
        self.nodes[nodes] = priorities
        while nodes[0] > 1:
            nodes = np.unique(nodes >> 1)
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, masses: Floats) -> Ints:
        """The leaf in which each mass, from 0 to below `total`, falls."""
        nodes, left = np.ones(len(masses), np.int64), np.array(masses)
        for _ in range(self.size.bit_length() - 1):
            nodes = 2 * nodes
            right = left >= self.nodes[nodes]
            # rounding may leave a little mass beyond the last leaf that has any
            right &= self.nodes[nodes + 1] > 0
            left -= np.where(right, self.nodes[nodes], 0.0)
            nodes += right
        return nodes - self.size

    def priorities(self, leaves: Ints) -> Floats:
        """Those of some leaves."""
        found: Floats = self.nodes[leaves + self.size]
        return found


@dataclass(frozen=True)
class Experience:
    """Steps as the learner needs them, M of them: a state is an instance, who is granted, and whose turn it is.

    Attributes:
        which: instance, (M,).
        granted: before the step, (M, P).
        t: the current user, (M,).
        action: (M,).
        reward: (M,).
        done: whether the episode ended, (M,).
    """

    which: Ints
    granted: Bools
    t: Ints
    action: Ints
    reward: Floats
    done: Bools


@dataclass(frozen=True)
class Sample:
    """A mini-batch.

    Attributes:
        slots: where its experiences lie.
        experience: those.
        weights: of importance sampling, the largest 1; (M,).
    """

    slots: Ints
    experience: Experience
    weights: Floats


class Replay:
    """A ring of experiences; terminal ones and others are sampled apart, 1 : 7, each in proportion to priority.

    Args:
        capacity: experiences kept.
        places: P.
        exponent: of the priorities.
        importance: exponent of the importance weights.
        offset: added to every priority before the exponent, so that none is 0.
    """

    TERMINAL_SHARE = 1 / 8

    def __init__(self, capacity: int, places: int, *, exponent: float, importance: float, offset: float) -> None:
        self.exponent, self.importance, self.offset = exponent, importance, offset
        self.rows = Experience(
            which=np.zeros(capacity, np.int32),
            granted=np.zeros((capacity, places), bool),
            t=np.zeros(capacity, np.int32),
            action=np.zeros(capacity, np.int8),
            reward=np.zeros(capacity, np.float64),
            done=np.zeros(capacity, bool),
        )
        self.trees = {True: SumTree(capacity), False: SumTree(capacity)}
        self.capacity, self.position, self.filled, self.largest = capacity, 0, 0, 1.0

    def add(self, experience: Experience) -> None:
        """Keep new experiences, in place of the oldest, with the largest priority seen so far."""
        count = len(experience.t)
        slots = (self.position + np.arange(count)) % self.capacity
        for name, values in vars(experience).items():
            getattr(self.rows, name)[slots] = values
        for terminal, tree in self.trees.items():
            tree.set(slots, np.where(experience.done == terminal, self.largest, 0.0))
        self.position = (self.position + count) % self.capacity
        self.filled = min(self.capacity, self.filled + count)

    def sample(self, count: int, rng: np.random.Generator) -> Sample:
        """Draw a mini-batch: one eighth of terminal steps, the rest others."""
        terminal = round(count * self.TERMINAL_SHARE)
        parts = [self._draw(True, terminal, rng), self._draw(False, count - terminal, rng)]
        slots, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
        taken = Experience(**{name: values[slots] for name, values in vars(self.rows).items()})
        return Sample(slots, taken, weights / weights.max())

    def update(self, slots: Ints, errors: Floats) -> None:
        """Set the priorities of sampled experiences: (|error| + offset) ^ exponent."""
        slots, first = np.unique(slots, return_index=True)
        priorities = (np.abs(errors[first]) + self.offset) ** self.exponent
        self.largest = max(self.largest, float(priorities.max()))
        for terminal, tree in self.trees.items():
            tree.set(slots, np.where(self.rows.done[slots] == terminal, priorities, 0.0))

    @property
    def ready(self) -> bool:
        """Whether there is an experience of each kind."""
        return all(tree.total > 0 for tree in self.trees.values())

    def _draw(self, terminal: bool, count: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
        tree = self.trees[terminal]
        slots = tree.find(rng.uniform(0, tree.total, count))
        probability = tree.priorities(slots) / tree.total
        share = self.TERMINAL_SHARE if terminal else 1 - self.TERMINAL_SHARE
        return slots, (self.filled * share * probability) ** -self.importance

"""Prioritised experience replay (arXiv 1511.05952), terminal steps and others apart; all operations on arrays."""

from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from .tables import OrderedRounds


class SumTree:
    """A binary tree whose leaves are priorities and whose inner nodes are sums, for sampling in proportion.

    Args:
        capacity: number of leaves, rounded up to a power of two.
    """

    def __init__(self, capacity: int) -> None:
        self.size = 1 << max(0, capacity - 1).bit_length()
        self.nodes = np.zeros(2 * self.size)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self.nodes[1])

    def set(self, leaves: Ints, priorities: Floats) -> None:
        """Set the priorities of leaves; no leaf stands twice."""
        nodes = leaves + self.size
        self.nodes[nodes] = priorities
        while nodes.size and nodes[0] > 1:
            nodes = nodes >> 1  # some stand twice: both sums are the same
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, masses: Floats) -> Ints:
        """The leaf in which each mass falls when all priorities lie end to end; masses from 0 to below `total`."""
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
        """The priorities of these leaves."""
        priorities: Floats = self.nodes[leaves + self.size]
        return priorities


@dataclass(frozen=True)
class Experience:
    """Steps of episodes that have ended: all that was decided, and which of the decisions is the step.

    M: number of steps. P: number of places for users.

    Attributes:
        which: number of the instance, shape (M,).
        order: places of its users in the order of decision, shape (M, P).
        granted: whether each user was granted in the end, in that order, shape (M, P).
        steps: number of steps of the episode, shape (M,).
        t: number of the step, from 0, and of the user that it decided on, shape (M,).
        reward: what the step is credited with, in learning units, shape (M,).
    """

    which: Ints
    order: Ints
    granted: Bools
    steps: Ints
    t: Ints
    reward: Floats

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """The arrays in the order of the fields."""
        return self.which, self.order, self.granted, self.steps, self.t, self.reward

    @property
    def rounds(self) -> OrderedRounds:
        """The rounds of the episodes."""
        return OrderedRounds(self.which, self.order.astype(np.int64))

    @property
    def action(self) -> Ints:
        """Grant or deny, shape (M,)."""
        return self.granted[np.arange(len(self.t)), self.t].astype(np.int64)

    @property
    def last(self) -> Bools:
        """Whether the episode ended with the step, shape (M,)."""
        ended: Bools = self.t == self.steps - 1
        return ended

    def granted_before(self, t: Ints) -> Bools:
        """Whether each user had been granted before step t, shape (M, P); t of shape (M,)."""
        return self.granted & (np.arange(self.granted.shape[1]) < t[:, None])

    def take(self, slots: Ints) -> "Experience":
        """The experiences at these places."""
        return Experience(*(column[slots] for column in self.columns))


def experiences(rounds: OrderedRounds, granted: Bools, steps: Ints, rewards: Floats) -> Experience:
    """Every step of episodes that have ended.

    Args:
        rounds: their rounds.
        granted: whether each user was granted, shape (M, P).
        steps: number of steps of each episode, shape (M,).
        rewards: what each step is credited with, in learning units, shape (M, P).
    """
    episode, t = np.nonzero(np.arange(granted.shape[1]) < steps[:, None])
    which, order = rounds.which[episode], rounds.order[episode]
    return Experience(which, order, granted[episode], steps[episode], t, rewards[episode, t])


@dataclass(frozen=True)
class Sample:
    """A mini-batch.

    Attributes:
        slots: places of its experiences in the memory, shape (batch,).
        experience: the experiences.
        weights: weights of importance sampling, the largest 1, shape (batch,).
    """

    slots: Ints
    experience: Experience
    weights: Floats


class Replay:
    """A ring of experiences; terminal ones and others are sampled apart, 1 : 7, each in proportion to priority.

    Args:
        capacity: number of experiences kept.
        places: number of places for users, P.
        exponent: exponent that turns an error into a priority.
        importance: exponent of the importance weights.
        offset: number added to every error before the exponent, so that no priority is 0.
    """

    TERMINAL_SHARE = 1 / 8

    def __init__(self, capacity: int, places: int, *, exponent: float, importance: float, offset: float) -> None:
        self.exponent, self.importance, self.offset = exponent, importance, offset
        self.rows = Experience(
            which=np.zeros(capacity, np.int32),
            order=np.zeros((capacity, places), np.int16),
            granted=np.zeros((capacity, places), bool),
            steps=np.zeros(capacity, np.int32),
            t=np.zeros(capacity, np.int32),
            reward=np.zeros(capacity, np.float64),
        )
        self.trees = {True: SumTree(capacity), False: SumTree(capacity)}
        self.capacity, self.position, self.filled, self.largest = capacity, 0, 0, 1.0

    def add(self, experience: Experience) -> None:
        """Keep new experiences, in place of the oldest, with the largest priority seen so far."""
        count = len(experience.t)
        slots = (self.position + np.arange(count)) % self.capacity
        for column, values in zip(self.rows.columns, experience.columns, strict=True):
            column[slots] = values
        for terminal, tree in self.trees.items():
            tree.set(slots, np.where(experience.last == terminal, self.largest, 0.0))
        self.position = (self.position + count) % self.capacity
        self.filled = min(self.capacity, self.filled + count)

    def sample(self, count: int, rng: np.random.Generator) -> Sample:
        """Draw a mini-batch: one eighth of terminal steps, the rest others."""
        terminal = round(count * self.TERMINAL_SHARE)
        parts = [self._draw(True, terminal, rng), self._draw(False, count - terminal, rng)]
        slots, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Sample(slots, self.rows.take(slots), weights / weights.max())

    def update(self, slots: Ints, errors: Floats) -> None:
        """Set the priorities of sampled experiences: (|error| + offset) ^ exponent."""
        slots, first = np.unique(slots, return_index=True)
        priorities = (np.abs(errors[first]) + self.offset) ** self.exponent
        self.largest = max(self.largest, float(priorities.max()))
        for terminal, tree in self.trees.items():
            tree.set(slots, np.where(self.rows.take(slots).last == terminal, priorities, 0.0))

    @property
    def ready(self) -> bool:
        """Whether there is an experience of each kind."""
        return all(tree.total > 0 for tree in self.trees.values())

    def _draw(self, terminal: bool, count: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """Places of experiences of one kind, and their importance weights."""
        tree = self.trees[terminal]
        slots = tree.find(rng.uniform(0, tree.total, count))
        probability = tree.priorities(slots) / tree.total
        share = self.TERMINAL_SHARE if terminal else 1 - self.TERMINAL_SHARE
        return slots, (self.filled * share * probability) ** -self.importance

"""Training instances as arrays: all that a plan is worth, and what an agent's network sees of it.

M: number of states side by side. P: number of places for users. B: largest batch. u_i(b): what granting user i at
batch b is worth over denying, transmission apart (`counts`). T: transmission time of one granted user when only one
is granted.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...common.arrays import Bools, Floats, Ints
from ..agent.instances import Instance
from ..agent.names import OrderName
from ..model.qoe import all_local, evaluate, transmit_time

State = Mapping[str, np.ndarray]
"""What a network sees of M states: arrays by the names of the network's inputs."""


@dataclass(frozen=True)
class OrderedRounds:
    """Instances side by side, each with the order in which the agent takes its users.

    Attributes:
        which: numbers of the instances, shape (M,).
        order: places of their users in that order, the empty places last, shape (M, P).
    """

    which: Ints
    order: Ints

    def take(self, rows: Bools | Ints) -> "OrderedRounds":
        """These rounds alone."""
        return OrderedRounds(self.which[rows], self.order[rows])


@dataclass(frozen=True, kw_only=True)
class Tables(ABC):
    """The instances that an agent learns from.

    Attributes:
        users: number of decisions of an episode at most, shape (instances,).
        max_batch: largest number of users that an episode grants, >= 1, shape (instances,).
        gain: u_i(b), seconds, shape (instances, B + 1, P); 0 at b = 0 and at empty places.
        all_local: objective of (P1) with every request denied, seconds, shape (instances,).
        transmit_s: T, seconds, shape (instances,).
        scale: gain in whose unit rewards are learned, seconds, shape (instances,).
    """

    users: Ints
    max_batch: Ints
    gain: Floats
    all_local: Floats
    transmit_s: Floats
    scale: Floats

    def __len__(self) -> int:
        return len(self.users)

    @property
    def places(self) -> int:
        """Number of places for users, P."""
        return int(self.gain.shape[2])

    def present(self, which: Ints) -> Bools:
        """Whether a place holds a user, shape (M, P); `which` are numbers of instances, shape (M,)."""
        return np.arange(self.places) < self.users[which, None]

    def rounds(self, which: Ints, order: OrderName, rng: np.random.Generator) -> OrderedRounds:  # noqa: ARG002 - for other agents
        """These instances, with the users of each in an order of this name.

        Args:
            which: numbers of instances, shape (M,).
            order: name of the order.
            rng: source of random orders.

        Raises:
            ValueError: for an order that this agent does not take its users in.
        """
        if order != "file":
            raise ValueError(f"order: found {order!r} with another agent than the paper's, accepted: 'file'")
        return OrderedRounds(which, np.broadcast_to(np.arange(self.places), (len(which), self.places)))

    def value(self, rounds: OrderedRounds, granted: Bools) -> Floats:
        """The objective of (P1) over all local, seconds, shape (M,).

        Args:
            rounds: the instances.
            granted: whether each user is granted, in the order of the rounds, shape (M, P).
        """
        b = granted.sum(axis=1)
        gain = self.gain[rounds.which[:, None], b[:, None], rounds.order]
        value: Floats = (gain * granted).sum(axis=1) - self.transmit_s[rounds.which] * b**2
        return value

    def rise(self, rounds: OrderedRounds, granted: Bools, t: Ints) -> Floats:
        """What granting user t now would add to the objective, 0 where no more can be granted; seconds, shape (M,)."""
        more = granted.copy()
        more[np.arange(len(t)), t] = granted.sum(axis=1) < self.max_batch[rounds.which]
        return self.value(rounds, more) - self.value(rounds, granted)

    @abstractmethod
    def state(self, rounds: OrderedRounds, granted: Bools, t: Ints) -> State:
        """What the agent's network sees.

        Args:
            rounds: the instances.
            granted: whether each user has been granted, in the order of the rounds, shape (M, P).
            t: number of the current user in that order, shape (M,).
        """


def common_tables(instances: Sequence[Instance], gains: Sequence[Floats], places: int | None) -> dict[str, Any]:
    """The tables that every agent has, except for `max_batch` and `scale`.

    Args:
        instances: the instances.
        gains: u_i(b) of the users of each instance, b = 1..B, shape (users, B).
        places: number of places for users; None for as many as needed.
    """
    padded = [np.concatenate([np.zeros((len(gain), 1)), gain], axis=1) for gain in gains]
    return {
        "users": np.array([len(gain) for gain in gains]),
        "gain": np.ascontiguousarray(stacked(padded, places).transpose(0, 2, 1)),
        "all_local": np.array([_all_local(instance) for instance in instances]),
        "transmit_s": np.array([float(transmit_time(instance.scenario, 1)) for instance in instances]),
    }


def _all_local(instance: Instance) -> float:
    """The objective of (P1) with every request denied, seconds."""
    scenario, users = instance.scenario, instance.users
    return float(evaluate(scenario, users, all_local(scenario, users)).qoe.sum())


def stacked(rows: Sequence[ArrayLike], places: int | None = None) -> np.ndarray:
    """Arrays of different shapes as one table, with zeros where an array has no value.

    Args:
        rows: the arrays, all with the same number of axes.
        places: length of their first axis in the table; None for that of the longest array.
    """
    shape = np.max([np.shape(row) for row in rows], axis=0).astype(int)
    if places is not None:
        shape[0] = places
    table = np.zeros((len(rows), *shape), np.asarray(rows[0]).dtype)
    for number, row in enumerate(rows):
        part: tuple[Any, ...] = number, *(slice(length) for length in np.shape(row))
        table[part] = row
    return table

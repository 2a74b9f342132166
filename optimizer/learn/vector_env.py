"""Many episodes of the MDP side by side: the twin of `OffloadingEnv` that the learner steps."""

from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from .mdp import episode_ended, transition
from .rewards import Moves, Reward
from .tables import OrderedRounds, Tables


@dataclass
class VectorEnv:
    """Episodes side by side, each over one instance of the tables; step for step the MDP of `OffloadingEnv`.

    Attributes:
        tables: the instances.
        reward: what the steps pay.
        rounds: instance of each episode, and the order of its users.
        granted: whether each user has been granted, in that order, shape (M, P).
        t: number of the current user, shape (M,).
        paid: rewards of the steps so far, 0 for those to come; seconds, shape (M, P).
    """

    tables: Tables
    reward: Reward
    rounds: OrderedRounds
    granted: Bools
    t: Ints
    paid: Floats

    @classmethod
    def start(cls, tables: Tables, rounds: OrderedRounds, reward: Reward) -> "VectorEnv":
        """Episodes over these rounds, at their beginning."""
        own = OrderedRounds(rounds.which.copy(), rounds.order.copy())
        empty = np.zeros(own.order.shape)
        return cls(tables, reward, own, empty.astype(bool), np.zeros(len(empty), np.int64), empty)

    @property
    def returns(self) -> Floats:
        """The sum of the rewards so far, seconds, shape (M,)."""
        total: Floats = self.paid.sum(axis=1)
        return total

    def step(self, actions: Ints) -> tuple[Floats, Bools]:
        """Grant or deny the current user of every episode; returns the rewards and which episodes have ended."""
        before, t, which, tables = self.granted, self.t, self.rounds.which, self.tables
        self.granted, self.t = transition(before, t, actions)
        ended = episode_ended(self.granted, self.t, tables.users[which], tables.max_batch[which])
        rewards = self.reward.pay(
            Moves(rounds=self.rounds, t=t, before=before, after=self.granted, ended=ended, paid=self.returns)
        )
        self.paid[np.arange(len(t)), t] = rewards
        return rewards, ended

    def restart(self, rows: Ints, rounds: OrderedRounds) -> None:
        """Begin new episodes, over other rounds, in these rows."""
        self.rounds.which[rows], self.rounds.order[rows] = rounds.which, rounds.order
        self.t[rows], self.paid[rows], self.granted[rows] = 0, 0.0, False

    def select(self, rows: Bools) -> "VectorEnv":
        """These episodes alone."""
        rounds = self.rounds.take(rows)
        return VectorEnv(self.tables, self.reward, rounds, self.granted[rows], self.t[rows], self.paid[rows])

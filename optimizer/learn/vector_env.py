"""Many episodes of the MDP side by side: the twin of `OffloadingEnv` that the learner steps."""

from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from .mdp import episode_ended, transition
from .rewards import Moves, Reward
from .tables import Tables


@dataclass
class VectorEnv:
    """Episodes side by side, each over one instance of the tables; step for step the MDP of `OffloadingEnv`.

    Attributes:
        tables: the instances.
        reward: what the steps pay.
        which: instance of each episode, shape (M,).
        granted: whether each user has been granted, shape (M, P).
        t: number of the current user, shape (M,).
        paid: sum of the rewards so far, seconds, shape (M,).
    """

    tables: Tables
    reward: Reward
    which: Ints
    granted: Bools
    t: Ints
    paid: Floats

    @classmethod
    def start(cls, tables: Tables, which: Ints, reward: Reward) -> "VectorEnv":
        """Episodes over these instances, at their beginning."""
        granted = np.zeros((len(which), tables.places), bool)
        return cls(tables, reward, which.copy(), granted, np.zeros(len(which), np.int64), np.zeros(len(which)))

    def step(self, actions: Ints) -> tuple[Floats, Bools]:
        """Grant or deny the current user of every episode; returns the rewards and which episodes have ended."""
        before, t, which, tables = self.granted, self.t, self.which, self.tables
        self.granted, self.t = transition(before, t, actions)
        ended = episode_ended(self.granted, self.t, tables.users[which], tables.max_batch[which])
        rewards = self.reward.pay(
            Moves(which=which, t=t, before=before, after=self.granted, ended=ended, paid=self.paid)
        )
        self.paid = self.paid + rewards
        return rewards, ended

    def restart(self, rows: Ints, which: Ints) -> None:
        """Begin new episodes, over the instances `which`, in these rows."""
        self.which[rows], self.t[rows], self.paid[rows], self.granted[rows] = which, 0, 0.0, False

    def select(self, rows: Bools) -> "VectorEnv":
        """These episodes alone."""
        return VectorEnv(self.tables, self.reward, self.which[rows], self.granted[rows], self.t[rows], self.paid[rows])

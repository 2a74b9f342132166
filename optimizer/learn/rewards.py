"""What the steps of an episode pay: eq. (21) of the paper, or ours."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from .mdp import gain_reward, hindsight_rewards, reward_at_once
from .paper_tables import PaperTables
from .presets import RewardName
from .tables import OrderedRounds, Tables

UNIT_S = 100.0
"""Unit in which the paper's rewards are learned, seconds: they are hundreds of seconds."""


@dataclass(frozen=True, kw_only=True)
class Moves:
    """One step of M episodes.

    Attributes:
        rounds: the round of each episode.
        t: number of the user just handled, shape (M,).
        before: whether each user was granted before the step, shape (M, P).
        after: whether each user is granted after the step, shape (M, P).
        ended: whether the episode ends with the step, shape (M,).
        paid: sum of the rewards before the step, seconds, shape (M,).
    """

    rounds: OrderedRounds
    t: Ints
    before: Bools
    after: Bools
    ended: Bools
    paid: Floats


class Reward(Protocol):
    """What every reward can say of itself.

    Attributes:
        temperature_unit: number that turns a Q in learning units into the unit of the exploration's temperature.
    """

    temperature_unit: ClassVar[float]

    def pay(self, moves: Moves) -> Floats:
        """The rewards of a step as they can be paid at once, seconds, shape (M,)."""

    def settle(self, rounds: OrderedRounds, granted: Bools, steps: Ints, paid: Floats) -> Floats:
        """The rewards of episodes that have ended, as the agent learns from them; seconds, shape (M, P).

        Args:
            rounds: the rounds.
            granted: whether each user was granted, shape (M, P).
            steps: number of steps of each episode, shape (M,).
            paid: what each step paid at once, seconds, 0 after the last step, shape (M, P).
        """

    def unit(self, which: Ints) -> Floats:
        """The unit in which rewards of these instances are learned, seconds, shape (M,)."""

    def gain(self, which: Ints, returns: Floats) -> Floats:
        """What episodes with these returns are worth over all local, seconds, shape (M,)."""


@dataclass(frozen=True)
class PaperReward:
    """The paper's reward, eq. (21); the paper's temperature is in seconds.

    Attributes:
        tables: the instances.
    """

    temperature_unit: ClassVar[float] = UNIT_S
    tables: PaperTables

    def pay(self, moves: Moves) -> Floats:
        """`reward_at_once`: alpha_t F(n_t*) at the batch so far; at the end what is missing to the objective."""
        tables, rows = self.tables, np.arange(len(moves.t))
        objective = tables.all_local[moves.rounds.which] + tables.value(moves.rounds, moves.after)
        worth = tables.worth_of(moves.rounds, moves.after)[rows, moves.t]
        return reward_at_once(worth, objective, moves.paid, moves.ended)

    def settle(self, rounds: OrderedRounds, granted: Bools, steps: Ints, paid: Floats) -> Floats:  # noqa: ARG002 - interface
        """`hindsight_rewards`: eq. (21) at the final batch, whatever was paid at once."""
        worth = self.tables.worth_of(rounds, granted)
        objective = self.tables.all_local[rounds.which] + self.tables.value(rounds, granted)
        return hindsight_rewards(worth, worth.sum(axis=1) - objective, steps)

    def unit(self, which: Ints) -> Floats:
        """`UNIT_S` for all."""
        return np.full(len(which), UNIT_S)

    def gain(self, which: Ints, returns: Floats) -> Floats:
        """The returns, which are objectives, less the objectives of all local."""
        return returns - self.tables.all_local[which]


@dataclass(frozen=True)
class GainReward:
    """Our reward, `gain_reward`; the temperature is in units of a round's scale.

    Attributes:
        tables: the instances.
    """

    temperature_unit: ClassVar[float] = 1.0
    tables: Tables

    def pay(self, moves: Moves) -> Floats:
        """The rise of the objective."""
        tables, rounds = self.tables, moves.rounds
        return gain_reward(tables.value(rounds, moves.before), tables.value(rounds, moves.after))

    def settle(self, rounds: OrderedRounds, granted: Bools, steps: Ints, paid: Floats) -> Floats:  # noqa: ARG002 - interface
        """What was paid at once."""
        return paid

    def unit(self, which: Ints) -> Floats:
        """The scale of each instance."""
        return self.tables.scale[which]

    def gain(self, which: Ints, returns: Floats) -> Floats:  # noqa: ARG002 - the interface
        """The returns themselves."""
        return returns


def make_reward(name: RewardName, tables: Tables) -> Reward:
    """The reward of this name for these instances.

    Raises:
        ValueError: for the paper's reward with tables of another agent: it needs the paper's.
    """
    if name == "gain":
        return GainReward(tables)
    if not isinstance(tables, PaperTables):
        raise ValueError("reward: found 'paper' with another agent than the paper's, accepted: 'gain'")
    return PaperReward(tables)

"""Worlds under way as an agent meets them: what it sees of a round, and what has become known of the gains."""

from collections.abc import Sequence

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ...optimizer.model.terms import Prices
from ..price_policy import FEATURES, features
from ..simulator import World
from ..traces import DAY_S
from .vector_simulation import VectorSimulation, formula_pricing

USERS, IMAGES, SYSTEM = 64, 128, 5
"""Users of a round and images in flight that an observation has room for, of which the first are seen; numbers of the
system."""
ROUNDS_OF_MEAN = 10
"""Rounds that the mean of G remembers, about."""

Seen = dict[str, np.ndarray]


class PlayedWorlds:
    """Worlds side by side, at the end of a round that is to be decided.

    Attributes:
        play: their simulation.
        now: the system with the GPUs of now, counted as 1 where none is there.
        sight: what the policy sees of the round.
        ended: whether all worlds are over.
        paid: what has become known so far of each world's gain, seconds, shape (worlds,).
    """

    def __init__(self, worlds: Sequence[World], revises: bool = False) -> None:
        """Worlds at the end of their first round.

        Args:
            worlds: the worlds.
            revises: whether images in flight get new splits at the end of every round.

        Raises:
            InputError: for worlds that the vectorised twin cannot play.
            ValueError: where no world has a request.
        """
        if not any(len(world.requests) for world in worlds):
            raise ValueError("world: found no requests, accepted: at least one")
        self.play, self.paid, self.ended = VectorSimulation(worlds, revises), np.zeros(len(worlds)), False
        self._mean_gpus = np.array([float(world.scenario.gpus) for world in worlds])
        self._begin()

    def _begin(self) -> None:
        self.now, self.sight = self.play.begin_round()
        self._mean_gpus += (self.play.gpus - self._mean_gpus) / ROUNDS_OF_MEAN

    @property
    def pending(self) -> Ints:
        """Requests of the round, shape (worlds,)."""
        return np.asarray(self.sight.pending)

    def decide_at(self, prices: Prices) -> Floats:
        """Decide the round exactly at these prices, and go on to the end of the next one.

        Returns:
            what has become known since then of each world's gain, seconds, shape (worlds,).
        """
        self.play.end_round(self.now, self.sight, prices)
        return self._go_on()

    def decide(self, granted: Bools) -> Floats:
        """Grant these users, with the splits of the closed form under the rule `price`; as `decide_at`.

        Args:
            granted: shape (worlds, places of users), as `play.asking` has them.
        """
        self.play.split_round(self.now, self.sight, formula_pricing(self.now, self.sight), granted)
        return self._go_on()

    def _go_on(self) -> Floats:
        self.ended = self.play.round == self.play.rounds
        if self.ended:
            self.play.advance(np.inf)
        else:
            self._begin()
        known: Floats = np.nansum(self.play.gain, axis=1)
        before, self.paid = self.paid, known
        return known - before

    def seen(self) -> Seen:
        """The observation of every world, float32 arrays of shape (worlds, ...); zeros of users and images at the end.

        `features` (10,), `users` (64, 3), `in_flight` (128,) and `system` (5,), as `ServiceEnv` explains them.
        """
        count = len(self.paid)
        users, images = np.zeros((count, USERS, 3)), np.zeros((count, IMAGES))
        if not self.ended:
            _, group, there = self.play.asking
            rows = np.stack([there, group.latency, group.alpha], axis=2)[:, :USERS]
            left = -np.sort(-self.play.steps_left(), axis=1)[:, :IMAGES]
            users[:, : rows.shape[1]], images[:, : left.shape[1]] = rows, left
        arrays = {"features": self._features(), "users": users, "in_flight": images, "system": self._system()}
        return {name: values.astype(np.float32) for name, values in arrays.items()}

    def _features(self) -> Floats:
        own: Floats = np.broadcast_to(features(self.now, self.sight), (len(self.paid), FEATURES))
        return own

    def _system(self) -> Floats:
        """[q_0, G, mean of G over the last rounds, sine and cosine of the time of day], shape (worlds, 5)."""
        time_s = self.play.round * self.play.scenario.interval_s
        turn = 2 * np.pi * (time_s % DAY_S) / DAY_S
        columns = (self.sight.on_radio, self.play.gpus, self._mean_gpus, np.sin(turn), np.cos(turn))
        system: Floats = np.stack(np.broadcast_arrays(*columns), axis=-1)
        return system

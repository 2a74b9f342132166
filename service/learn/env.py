"""A service over time as a Gymnasium environment, registered under `ENV_ID`: a step prices a round."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from ...common.arrays import Floats
from ...optimizer.model.terms import Prices
from ..price_policy import FEATURES, OUTPUTS, features, prices_of
from ..simulator import World
from ..worlds import draw_world
from .vector_simulation import VectorSimulation

USERS, IMAGES = 64, 128
"""Users of a round, and images in flight, that an observation has room for; the first of them are seen."""
LARGEST_OUTPUT = 5.0
"""Largest size of an action's numbers."""
DAY_S = 86_400.0


class ServiceEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """Price the rounds of one world, one after another; the exact solver does the rest.

    **Observation**, a dict of float32 arrays:

    - `features`, shape (10,): what the shipped policy sees (`price_policy.features`).
    - `users`, shape (64, 3): of each user of the round that is decided [1, L_i(1), alpha_i]; zeros where there is none.
    - `in_flight`, shape (128,): steps left of the images in flight, the most first; 0 where there is none.
    - `system`, shape (5,): [q_0, G, mean of G over the last rounds, sine and cosine of the time of day].

    Seconds and steps, not scaled, but for the features.

    **Action**, shape (2,), from -5 to 5: y of `price_policy.prices_of`; zeros are the rule `price`.

    **Reward**: what the requests whose gain has become known since the last step gain over all local, realised, in
    seconds. A denied request's gain is known at once, a granted one's when its intermediate is on its device. At the
    last round all others are played to their end, so that rewards add up to the gain of the world (gamma = 1).

    **Start**: `reset(seed=)` draws a world: one of `worlds`, or arrivals of 1 to 12 a second. `reset(options={"world":
    World})` takes that one.

    **End**: after the last round that has requests. Never truncated.

    Args:
        worlds: function that draws a world; None for steady arrivals of a minute.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(self, worlds: Callable[[np.random.Generator], World] | None = None) -> None:
        self._draw, self._ended = worlds or steady_world, True
        space = gymnasium.spaces.Box
        self.observation_space: gymnasium.Space[Any] = gymnasium.spaces.Dict(
            features=space(-np.inf, np.inf, (FEATURES,)),
            users=space(0, np.inf, (USERS, 3)),
            in_flight=space(0, np.inf, (IMAGES,)),
            system=space(-1, np.inf, (5,)),
        )
        self.action_space = space(-LARGEST_OUTPUT, LARGEST_OUTPUT, (OUTPUTS,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin a world.

        Raises:
            InputError: for a world that the vectorised twin cannot play.
            ValueError: for a world without requests.
        """
        super().reset(seed=seed)
        world = (options or {}).get("world") or self._draw(self.np_random)
        if not len(world.requests):
            raise ValueError("world: found no requests, accepted: at least one")
        self._play, self._paid, self._mean_gpus = VectorSimulation([world]), 0.0, float(world.scenario.gpus)
        self._ended = False
        return self._next_round(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Price the round.

        Raises:
            ValueError: for an action of another shape, or numbers that are not finite.
            gymnasium.error.ResetNeeded: before the first `reset`, and after the end of a world.
        """
        says = np.asarray(action, float)
        if says.shape != (OUTPUTS,) or not np.isfinite(says).all():
            raise ValueError(f"action: found {action!r}, accepted: {OUTPUTS} finite numbers")
        if self._ended:
            raise gymnasium.error.ResetNeeded("the world has not begun or is over: call reset()")
        self._play.end_round(self._now, self._sight, self._prices(np.clip(says, -LARGEST_OUTPUT, LARGEST_OUTPUT)))
        self._ended = self._play.round == self._play.rounds
        if self._ended:
            self._play.advance(np.inf)
        seen = self._observation() if self._ended else self._next_round()
        return seen, self._earned(), self._ended, False, {"gain": self._paid} if self._ended else {}

    def _prices(self, says: Floats) -> Prices:
        return prices_of(self._now, self._sight, says[None])

    def _earned(self) -> float:
        """What has become known since the last call."""
        known = float(np.nansum(self._play.gain))
        earned, self._paid = known - self._paid, known
        return earned

    def _next_round(self) -> dict[str, np.ndarray]:
        """Go on to the end of the next round that has requests."""
        self._now, self._sight = self._play.begin_round()
        while not int(np.asarray(self._sight.pending)[0]):
            self._play.end_round(self._now, self._sight, self._prices(np.zeros(OUTPUTS)))
            self._now, self._sight = self._play.begin_round()
        self._mean_gpus += (float(np.asarray(self._now.gpus)[0]) - self._mean_gpus) / 10
        return self._observation()

    def _observation(self) -> dict[str, np.ndarray]:
        users, images = np.zeros((USERS, 3)), np.zeros(IMAGES)
        if not self._ended:
            _, group, there = self._play.asking
            columns = (np.ones(there[0].sum()), group.latency[there], group.alpha[there])
            rows = np.column_stack(columns)[:USERS]
            users[: len(rows)] = rows
            left = np.sort(self._play.steps_left()[0])[::-1][:IMAGES]
            images[: left.size] = left
        time_of_day = 2 * np.pi * (self._play.round * self._play.scenario.interval_s % DAY_S) / DAY_S
        system = [np.asarray(self._sight.on_radio)[0], np.asarray(self._now.gpus)[0], self._mean_gpus]
        return {
            "features": features(self._now, self._sight)[0].astype(np.float32),
            "users": users.astype(np.float32),
            "in_flight": images.astype(np.float32),
            "system": np.array([*system, np.sin(time_of_day), np.cos(time_of_day)], np.float32),
        }


def steady_world(rng: np.random.Generator) -> World:
    """A minute of steady arrivals, 1 to 12 a second, on the shipped scenario."""
    return draw_world(arrivals=f"poisson:{rng.integers(1, 13)}", seed=int(rng.integers(1 << 31)))


ENV_ID = "edgesplit/Service-v0"
"""The name for `gymnasium.make`, after an import of this module or with "edgesplit.service.learn.env:" in front."""
if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="edgesplit.service.learn.env:ServiceEnv")

"""A service over time as Gymnasium environments, registered under `ENV_ID` and `USERS_ENV_ID`.

`ServiceEnv`: a step prices a round. `ServiceVectorEnv`: the same in many worlds at once. `ServiceUsersEnv`: a step
grants or denies a user, as in the paper.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ...optimizer.agent.names import DENY, GRANT
from ..price_policy import FEATURES, OUTPUTS, prices_of
from ..simulator import World
from ..worlds import draw_world
from .played import IMAGES, SYSTEM, USERS, PlayedWorlds, Seen

LARGEST_OUTPUT = 5.0
"""Largest size of an action's numbers."""
DrawWorld = Callable[[np.random.Generator], World]
Space = gymnasium.spaces.Space[Any]
Info = dict[str, Any]


def steady_world(rng: np.random.Generator) -> World:
    """A minute of steady arrivals, 1 to 12 a second, on the shipped scenario."""
    return draw_world(arrivals=f"poisson:{rng.integers(1, 13)}", seed=int(rng.integers(1 << 31)))


def _seen_space(**more: Space) -> Space:
    """What an observation may be, with further arrays."""
    box = gymnasium.spaces.Box
    return gymnasium.spaces.Dict(
        {
            "features": box(-np.inf, np.inf, (FEATURES,)),
            "users": box(0, np.inf, (USERS, 3)),
            "in_flight": box(0, np.inf, (IMAGES,)),
            "system": box(-1, np.inf, (SYSTEM,)),
            **more,
        }
    )


def _prices_space() -> Space:
    return gymnasium.spaces.Box(-LARGEST_OUTPUT, LARGEST_OUTPUT, (OUTPUTS,))


class _OneWorld(gymnasium.Env[Seen, Any]):
    """What the environments of one world have in common: its draw, and the way to the next round with requests."""

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form
    played: PlayedWorlds

    def __init__(self, worlds: DrawWorld | None = None, revises: bool = False) -> None:
        self._draw, self._revises, self._over = worlds or steady_world, revises, True

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Seen, Info]:
        """Begin a world.

        Raises:
            InputError: for a world that the vectorised twin cannot play.
            ValueError: for a world without requests.
        """
        super().reset(seed=seed)
        self.played = PlayedWorlds([(options or {}).get("world") or self._draw(self.np_random)], self._revises)
        self._over = False
        self._skip()
        return self._seen(), {}

    def _skip(self) -> float:
        """Go on to the next round that has requests; returns what becomes known meanwhile, seconds."""
        earned, nobody = 0.0, np.zeros(OUTPUTS)
        while not self.played.ended and not self.played.pending[0]:
            earned += float(self.played.decide_at(prices_of(self.played.now, self.played.sight, nobody))[0])
        self._over = self.played.ended
        return earned

    def _check_begun(self) -> None:
        if self._over:
            raise gymnasium.error.ResetNeeded("the world has not begun or is over: call reset()")

    def _result(self, reward: float) -> tuple[Seen, float, bool, bool, Info]:
        info = {"gain": float(self.played.paid[0])} if self._over else {}
        return self._seen(), reward, self._over, False, info

    def _seen(self) -> Seen:
        return {name: values[0] for name, values in self.played.seen().items()}


class ServiceEnv(_OneWorld):
    """Price the rounds of one world, one after another; the exact solver does the rest.

    **Observation**, a dict of float32 arrays:

    - `features`, shape (10,): what the shipped policy sees (`price_policy.features`).
    - `users`, shape (64, 3): of each user of the round that is decided [1, L_i(1), alpha_i]; zeros where there is none.
      Of more than 64 the first are seen.
    - `in_flight`, shape (128,): steps left of the images in flight, the most first; 0 where there is none.
    - `system`, shape (5,): [q_0, G, mean of G over the last rounds, sine and cosine of the time of day]. Where G is 0,
      nobody is granted, whatever is decided.

    Seconds and steps, not scaled, but for the features.

    **Action**, numbers from -5 to 5: y of `price_policy.prices_of`; zeros are the rule `price`.

    **Reward**: what the requests whose gain has become known since the last step gain over all local, realised, in
    seconds. A denied request's gain is known at once, a granted one's when its intermediate is on its device. At the
    last round all others are played to their end, so that rewards add up to the gain of the world (gamma = 1).

    **Start**: `reset(seed=)` draws a world: one of `worlds`, or arrivals of 1 to 12 a second. `reset(options={"world":
    World})` takes that one. Rounds without requests are passed over.

    **End**: after the last round that has requests, with the world's gain in `info["gain"]`. Never truncated.

    Args:
        worlds: function that draws a world; None for steady arrivals of a minute.
        revises: whether images in flight get new splits at the end of every round, as under the shipped policy.
    """

    def __init__(self, worlds: DrawWorld | None = None, revises: bool = False) -> None:
        super().__init__(worlds, revises)
        self.observation_space, self.action_space = _seen_space(), _prices_space()

    def step(self, action: np.ndarray) -> tuple[Seen, float, bool, bool, Info]:
        """Price the round.

        Raises:
            ValueError: for an action of another shape, or numbers that are not finite.
            gymnasium.error.ResetNeeded: before the first `reset`, and after the end of a world.
        """
        says = _checked(action, (OUTPUTS,))
        self._check_begun()
        reward = float(self.played.decide_at(prices_of(self.played.now, self.played.sight, says[None]))[0])
        return self._result(reward + self._skip())


class ServiceUsersEnv(_OneWorld):
    """Grant or deny the users of every round of one world, one after another, as in the paper (section 5.3.1).

    **Observation**: that of `ServiceEnv`, and `current`, float32, shape (6,): [L_i(1), alpha_i] of the user to decide
    on, how many of the round are decided, how many of these are granted, how many are pending, B_max. Users are taken
    in the order of their requests.

    **Actions**: 0 deny, 1 grant. When the round's last user is decided on, or B_max users are granted, those granted
    get the closed form's split at that batch, where a step costs what it does under the rule `price`.

    **Reward, start and end**: as of `ServiceEnv`; within a round the reward is 0.

    Args:
        worlds: function that draws a world; None for steady arrivals of a minute.
        revises: whether images in flight get new splits at the end of every round, as under the shipped policy.
    """

    def __init__(self, worlds: DrawWorld | None = None, revises: bool = False) -> None:
        super().__init__(worlds, revises)
        self.observation_space = _seen_space(current=gymnasium.spaces.Box(0, np.inf, (6,)))
        self.action_space: Space = gymnasium.spaces.Discrete(2)
        self._granted: list[bool] = []

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Seen, Info]:
        """Begin a world; as `ServiceEnv.reset`."""
        self._granted = []
        return super().reset(seed=seed, options=options)

    def step(self, action: int) -> tuple[Seen, float, bool, bool, Info]:
        """Decide on the current user.

        Raises:
            ValueError: for another action than 0 and 1.
            gymnasium.error.ResetNeeded: before the first `reset`, and after the end of a world.
        """
        if np.ndim(action) or action not in (DENY, GRANT):  # an array of no dimensions has no hash
            raise ValueError(f"action: found {action!r}, accepted: {DENY} (deny) or {GRANT} (grant)")
        self._check_begun()
        self._granted.append(bool(action == GRANT))
        full = sum(self._granted) == self.played.now.max_batch
        return self._result(self._end_round() if full or not self._pending else 0.0)

    @property
    def _pending(self) -> int:
        return int(self.played.pending[0]) - len(self._granted)

    def _end_round(self) -> float:
        """Start those who are granted, and go on to the next round with requests."""
        granted = np.zeros(self.played.play.asking[0].shape, bool)
        granted[0, : len(self._granted)] = self._granted
        self._granted = []
        return float(self.played.decide(granted)[0]) + self._skip()

    def _seen(self) -> Seen:
        current, decided = np.zeros(6, np.float32), len(self._granted)
        if not self._over:
            _, group, _ = self.played.play.asking
            own = (group.latency[0, decided], group.alpha[0, decided])
            current[:] = (*own, decided, sum(self._granted), self._pending, self.played.now.max_batch)
        return {**super()._seen(), "current": current}


class ServiceVectorEnv(gymnasium.vector.VectorEnv[Seen, np.ndarray, np.ndarray]):
    """`ServiceEnv` in many worlds at once, on the vectorised twin; made by `gymnasium.make_vec(ENV_ID, num_envs=...)`.

    Every round is a step, with requests or without. All worlds are over when the last one is, and the next step begins
    others (Gymnasium's autoreset mode "next step").

    Args:
        num_envs: number of worlds.
        worlds: function that draws a world; None for steady arrivals of a minute.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - Gymnasium's own form
    played: PlayedWorlds
    _over: bool | None

    def __init__(self, num_envs: int = 1, worlds: DrawWorld | None = None, revises: bool = False) -> None:
        self.num_envs, self._draw, self._revises, self._over = num_envs, worlds or steady_world, revises, None
        self.single_observation_space, self.single_action_space = _seen_space(), _prices_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Seen, Info]:
        """Begin as many worlds; `options={"worlds": [World, ...]}` takes those.

        Raises:
            InputError: for worlds that the vectorised twin cannot play.
            ValueError: for another number of worlds, or where none of them has a request.
        """
        super().reset(seed=seed)
        given = (options or {}).get("worlds")
        worlds = [self._draw(self.np_random) for _ in range(self.num_envs)] if given is None else given
        if len(worlds) != self.num_envs:
            raise ValueError(f"worlds: found {len(worlds)}, accepted: {self.num_envs}")
        self.played, self._over = PlayedWorlds(worlds, self._revises), False
        return self.played.seen(), {}

    def step(self, actions: np.ndarray) -> tuple[Seen, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Price the round of every world, or begin others where they are over.

        Raises:
            ValueError: for actions of another shape, or numbers that are not finite.
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        says, none = _checked(actions, (self.num_envs, OUTPUTS)), np.zeros(self.num_envs, bool)
        if self._over is None:
            raise gymnasium.error.ResetNeeded("no world has begun: call reset()")
        if self._over:
            seen, _ = self.reset()
            return seen, np.zeros(self.num_envs), none, none, {}
        reward = self.played.decide_at(prices_of(self.played.now, self.played.sight, says))
        self._over = self.played.ended
        info: Info = {"gain": self.played.paid.copy(), "_gain": ~none} if self._over else {}
        return self.played.seen(), reward, np.full(self.num_envs, self._over), none, info


def _checked(action: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An action within its bounds.

    Raises:
        ValueError: for another shape, or numbers that are not finite.
    """
    says = np.asarray(action, float)
    if says.shape != shape or not np.isfinite(says).all():
        raise ValueError(f"action: found {action!r}, accepted: {' x '.join(map(str, shape))} finite numbers")
    bounded: np.ndarray = np.clip(says, -LARGEST_OUTPUT, LARGEST_OUTPUT)
    return bounded


ENV_ID, USERS_ENV_ID = "edgesplit/Service-v0", "edgesplit/ServiceUsers-v0"
"""The names for `gymnasium.make`, after an import of this module or with "edgesplit.service.learn.env:" in front."""
_HERE = "edgesplit.service.learn.env"
if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, f"{_HERE}:ServiceEnv", vector_entry_point=f"{_HERE}:ServiceVectorEnv")
    gymnasium.register(USERS_ENV_ID, f"{_HERE}:ServiceUsersEnv")

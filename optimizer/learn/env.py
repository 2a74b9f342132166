"""The MDP of the paper, section 5.3.1, as a Gymnasium environment, registered under `ENV_ID`."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from ...common.arrays import Bools
from ..agent.instances import Instance, paper_instance
from ..agent.names import DENY, GRANT
from ..agent.paper_agent import DENIED, PENDING, PLACES
from .paper_tables import paper_tables
from .presets import RewardName
from .rewards import PaperReward, make_reward
from .vector_env import VectorEnv


class OffloadingEnv(gymnasium.Env[np.ndarray, int]):
    """Grant or deny the offloading requests of one round, one after another (paper, section 5.3.1).

    **Observation**, float32, shape (126,): for each of 30 places [alpha_i, L_i(1), k_i, o_i], cyclically shifted so
    that the current user comes first, then [B_max, k_e/G, h_e, pending, granted, denied]. alpha_i, L_i(1), k_e and h_e
    in seconds, k_i a slot from 1; o_i is 0 pending, 1 current, 2 granted, 3 denied. Places without a user are
    0, 0, 0, 3. Values are not scaled.

    **Actions**: 0 deny, 1 grant.

    **Reward**: eq. (21) in the form that can be paid at once (`mdp.reward_at_once`): alpha_t F(n_t), n_t the best split
    for as many granted users as there are so far, this one included (N if denied); at the last step the objective of
    (P1) less what was paid before. The paper computes (21) after the episode, with every n_t at the final batch; these
    rewards are in `info` at the end. Both forms add up to the objective, in seconds (gamma = 1). With `reward="gain"`,
    which is ours: the rise of the objective at each step, whose sum is the objective less that of all local.

    **Start**: `reset(seed=)` draws an instance of section 6.1.1, or one from `instances`;
    `reset(options={"instance": Instance})` takes that one.

    **End**: when nobody is pending, or B_max users are granted; those still pending are denied then. Never truncated.

    `info` at the end holds `objective` and `all_local_objective`, in seconds, and `hindsight_rewards`, the paper's
    rewards of all steps, in seconds, shape (steps,).

    Args:
        instances: function that draws an instance; None for those of the paper with 5 to 30 users and 1 to 16 GPUs.
        reward: "paper" or "gain".
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self, instances: Callable[[np.random.Generator], Instance] | None = None, reward: RewardName = "paper"
    ) -> None:
        self._draw, self._reward, self._ended = instances or paper_instance, reward, True
        most = float(np.finfo(np.float32).max)
        highs = [*[most, most, most, float(DENIED)] * PLACES, *[most] * 6]
        low = np.full(len(highs), float(PENDING), np.float32)
        self.observation_space = gymnasium.spaces.Box(low, np.array(highs, np.float32))
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode.

        Raises:
            ValueError: for an instance without users or with more than there are places.
        """
        super().reset(seed=seed)
        self.instance = (options or {}).get("instance") or self._draw(self.np_random)
        if not 1 <= len(self.instance.users) <= PLACES:
            raise ValueError(f"instance: found {len(self.instance.users)} users, accepted: 1 to {PLACES}")
        self._tables = paper_tables([self.instance])
        rounds = self._tables.rounds(np.zeros(1, np.int64), "file", self.np_random)
        self._episode = VectorEnv.start(self._tables, rounds, make_reward(self._reward, self._tables))
        self._ended = False
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Decide for the current user.

        Raises:
            ValueError: for another action than 0 and 1.
            gymnasium.error.ResetNeeded: before the first `reset`, and after the end of an episode.
        """
        if action not in {DENY, GRANT}:
            raise ValueError(f"action: found {action!r}, accepted: {DENY} (deny) or {GRANT} (grant)")
        if self._ended:
            raise gymnasium.error.ResetNeeded("the episode has not begun or is over: call reset()")
        (reward,), (ended,) = self._episode.step(np.array([action]))
        self._ended = bool(ended)
        return self._observation(), float(reward), bool(ended), False, self._totals() if ended else {}

    @property
    def granted(self) -> Bools:
        """Whether each user has been granted, shape (users,)."""
        return self._episode.granted[0, : len(self.instance.users)]

    def _totals(self) -> dict[str, Any]:
        """What is known at the end of an episode."""
        episode, local = self._episode, float(self._tables.all_local[0])
        value, steps = float(self._tables.value(episode.rounds, episode.granted)[0]), episode.t
        rewards = PaperReward(self._tables).settle(episode.rounds, episode.granted, steps, episode.paid)
        return {
            "objective": local + value,
            "all_local_objective": local,
            "hindsight_rewards": rewards[0, : int(steps[0])],
        }

    def _observation(self) -> np.ndarray:
        episode = self._episode
        state = self._tables.paper_state(episode.rounds, episode.granted, episode.t)
        rows = np.concatenate([state.users, state.status[:, :, None]], axis=2)
        return np.concatenate([rows.reshape(-1), state.system.reshape(-1)]).astype(np.float32)


ENV_ID = "edgesplit/Offloading-v0"
"""The name for `gymnasium.make`, after an import of this module or with "edgesplit.optimizer.learn.env:" in front:
since version 1, Gymnasium does not look for the environments of installed packages."""
if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="edgesplit.optimizer.learn.env:OffloadingEnv")

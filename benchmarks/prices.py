"""Learning to price rounds, against the field's standard: `python benchmarks/prices.py [SECONDS]`.

The paired policy gradient and Stable-Baselines3's PPO and DQN learn on the same worlds, by the same vectorised twin,
from the same inputs, with one thread and as many seconds of processor time. Images in flight get new splits every
round. Two rows show what ours owes to exploration that persists from round to round, and to new splits. Now and then
each is scored on validation worlds: the gain as a share of what the rule `price` gains, whose splits stay, mean over
the kinds. The peers are paid what requests turn out to gain when that is known, as a share of what the rule gains in a
world, with a discount of 0.98 and without; networks of 2 x 32. PPO's actions begin at 0 with the deviation of our
exploration. DQN, the kin of the paper's agent, chooses one of 15 pairs of prices.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from edgesplit.common.arrays import Floats
from edgesplit.common.tables import plain_table, print_table
from edgesplit.optimizer.model.qoe import Scenario
from edgesplit.optimizer.model.terms import Prices
from edgesplit.service.learn.paired import PairedLearner, PairedSettings
from edgesplit.service.learn.played import PlayedWorlds
from edgesplit.service.learn.training import MIXTURE, SECONDS, SEED
from edgesplit.service.learn.vector_simulation import Pricing, VectorSimulation, formula_pricing
from edgesplit.service.price_policy import FEATURES, HIDDEN, OUTPUTS, PricePolicy, Sight, features, prices_of
from edgesplit.service.simulator import World
from edgesplit.service.tuning import worlds_of

LIMIT_S, BETWEEN_S = 90.0, 30.0
TRAINING, VALIDATION, AT_ONCE = 24, 6, 3
VALIDATION_SEED = 100
STEP_S = 0.5
"""Seconds of a learning step of ours, about, so that its learning rate has fallen when the time is over."""


CHOICES = np.array([[y_1, y_2] for y_1 in (-0.4, -0.2, 0.0, 0.2, 0.4) for y_2 in (-0.2, 0.0, 0.2)])
"""The outputs that DQN chooses from."""


class Twin(VecEnv):
    """Worlds of every kind side by side; when all have ended, others begin."""

    def __init__(self, kinds: list[list[World]], seed: int, discrete: bool = False) -> None:
        box = gymnasium.spaces.Box
        actions = gymnasium.spaces.Discrete(len(CHOICES)) if discrete else box(-5.0, 5.0, (OUTPUTS,))
        super().__init__(len(kinds) * AT_ONCE, box(-np.inf, np.inf, (FEATURES,)), actions)
        self.kinds, self.rng, self.discrete = kinds, np.random.default_rng(seed), discrete

    def reset(self) -> Floats:
        """Other worlds."""
        worlds = [kind[n] for kind in self.kinds for n in self.rng.permutation(len(kind))[:AT_ONCE]]
        self.unit = VectorSimulation(worlds).run(formula_pricing) / 100
        self.played = PlayedWorlds(worlds, revises=True)
        return self._seen()

    def _seen(self) -> Floats:
        return features(self.played.now, self.played.sight).astype(np.float32)

    def step_async(self, actions: Floats) -> None:
        """The prices of all worlds."""
        self.says = CHOICES[actions] if self.discrete else actions.astype(float)

    def step_wait(self) -> tuple[Floats, Floats, Any, list[dict[str, Any]]]:
        """Decide the round of all worlds."""
        played = self.played
        reward = played.decide_at(prices_of(played.now, played.sight, self.says)) / self.unit
        ended = played.ended
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended:
            for info in infos:
                info["terminal_observation"] = np.zeros(FEATURES, np.float32)
        return self.reset() if ended else self._seen(), reward, np.full(self.num_envs, ended), infos

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:  # noqa: ARG002 - the interface's
        """No world has an attribute of its own."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not used."""

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:  # noqa: ARG002 - the interface's
        """Not used."""
        return []

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:  # noqa: ARG002 - the interface's
        """Nothing is wrapped."""
        return [False] * self.num_envs


class Scores:
    """Validation worlds, and what a policy gains there."""

    def __init__(self) -> None:
        self.worlds = [
            w for kind in MIXTURE for w in worlds_of(kind, "default", SECONDS, VALIDATION_SEED, VALIDATION)[0]
        ]
        self.unit = self._by_kind(formula_pricing, revises=False)

    def _by_kind(self, pricing: Pricing, revises: bool = True) -> Floats:
        gain: Floats = VectorSimulation(self.worlds, revises).run(pricing).reshape(len(MIXTURE), -1).sum(axis=1)
        return gain

    def of(self, pricing: Pricing, revises: bool = True) -> float:
        """Mean share of what the rule `price` gains."""
        return float(np.mean(self._by_kind(pricing, revises) / self.unit))


OURS: dict[str, dict[str, Any]] = {
    "paired policy gradient": {},
    "the same, exploration anew each round": {"persistence": 0.0},
    "the same, splits stay": {"revises": False},
}
"""Our learner, by what differs."""


def ours(kinds: list[list[World]], limit_s: float, changes: dict[str, Any]) -> Iterator[tuple[float, Pricing]]:
    """Seconds of learning, and the policy then."""
    learner = PairedLearner(kinds, PairedSettings(steps=int(limit_s / STEP_S), **changes), 0)
    said = 0.0
    while learner.seconds < limit_s:
        learner.step()
        if learner.seconds - said > BETWEEN_S:
            said = learner.seconds
            yield said, PricePolicy(learner.mean).prices


class Watch(BaseCallback):
    """Scores now and then; that does not count as learning."""

    def __init__(self, limit_s: float, tell: Callable[[float, Pricing], None]) -> None:
        super().__init__()
        self.limit_s, self.tell, self.start, self.said = limit_s, tell, time.process_time(), 0.0

    def _on_step(self) -> bool:
        seconds = time.process_time() - self.start
        if seconds - self.said > BETWEEN_S:
            self.said = seconds
            before = time.process_time()
            self.tell(seconds, self.pricing)
            self.start += time.process_time() - before
        return seconds < self.limit_s

    def pricing(self, now: Scenario, sight: Sight) -> Prices:
        """The prices of the peer's policy, without exploration."""
        says, _ = self.model.predict(features(now, sight).astype(np.float32), deterministic=True)
        return prices_of(now, sight, CHOICES[says] if says.ndim == 1 else says.astype(float))


def main() -> None:
    """Both, and a table."""
    torch.set_num_threads(1)
    limit_s = float(sys.argv[1]) if len(sys.argv) > 1 else LIMIT_S
    kinds = [worlds_of(kind, "default", SECONDS, SEED, TRAINING)[0] for kind in MIXTURE]
    scores, table = Scores(), plain_table("learner", "seconds", "of what price gains", "best so far")
    best: dict[str, float] = {}

    def tell(name: str, seconds: float, pricing: Pricing) -> None:
        share = scores.of(pricing, OURS.get(name, {}).get("revises", True))
        best[name] = max(best.get(name, 0.0), share)
        table.add_row(name, f"{seconds:.0f}", f"{share:.2%}", f"{best[name]:.2%}")

    for name, changes in OURS.items():
        for seconds, pricing in ours(kinds, limit_s, changes):
            tell(name, seconds, pricing)
    for discount in (0.98, 1.0):
        for name, model in peers(kinds, discount).items():
            model.learn(10**9, callback=Watch(limit_s, partial(tell, f"{name}, discount {discount:g}")))
    print_table(table)


def peers(kinds: list[list[World]], discount: float) -> dict[str, BaseAlgorithm]:
    """The peers, untrained, by name."""
    network = {"net_arch": [HIDDEN, HIDDEN], "activation_fn": torch.nn.Tanh}
    same: dict[str, Any] = {"gamma": discount, "device": "cpu", "seed": 0}
    begins = {**network, "log_std_init": float(np.log(PairedSettings.noise))}
    return {
        "PPO": PPO("MlpPolicy", Twin(kinds, 0), n_steps=60, batch_size=1200, policy_kwargs=begins, **same),
        "DQN": DQN(
            "MlpPolicy",
            Twin(kinds, 0, discrete=True),
            learning_rate=1e-3,
            buffer_size=200_000,
            learning_starts=5000,
            batch_size=512,
            train_freq=1,
            gradient_steps=2,
            target_update_interval=20,
            exploration_fraction=1e-4,
            exploration_final_eps=0.05,
            policy_kwargs=network,
            **same,
        ),
    }


if __name__ == "__main__":
    main()

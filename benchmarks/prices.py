"""Learning to price rounds, against the field's standard: `python benchmarks/prices.py [SECONDS]`.

The paired policy gradient and Stable-Baselines3's PPO learn on the same worlds, by the same vectorised twin, from the
same inputs, with one thread and as many seconds of processor time. Now and then each is scored on validation worlds:
the gain as a share of what the rule `price` gains, mean over the kinds. PPO is paid what requests turn out to gain when
that is known, as a share of what the rule gains in a world; discount 0.98, networks of 2 x 32 with tanh, actions that
begin at 0 with the deviation of our exploration.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from edgesplit.common.arrays import Floats
from edgesplit.common.tables import plain_table, print_table
from edgesplit.optimizer.model.qoe import Scenario
from edgesplit.optimizer.model.terms import Prices
from edgesplit.service.learn.paired import PairedLearner, PairedSettings
from edgesplit.service.learn.training import MIXTURE, SECONDS, SEED
from edgesplit.service.learn.vector_simulation import Pricing, VectorSimulation, price
from edgesplit.service.price_policy import FEATURES, HIDDEN, OUTPUTS, PricePolicy, Sight, features, prices_of
from edgesplit.service.simulator import World
from edgesplit.service.tuning import worlds_of

LIMIT_S, BETWEEN_S = 90.0, 30.0
TRAINING, VALIDATION, AT_ONCE = 24, 6, 3
VALIDATION_SEED = 100
STEP_S = 0.25
"""Seconds of a learning step of ours, about, so that its learning rate has fallen when the time is over."""


class Twin(VecEnv):
    """Worlds of every kind side by side; when all have ended, others begin."""

    def __init__(self, kinds: list[list[World]], seed: int) -> None:
        box = gymnasium.spaces.Box
        super().__init__(len(kinds) * AT_ONCE, box(-np.inf, np.inf, (FEATURES,)), box(-5.0, 5.0, (OUTPUTS,)))
        self.kinds, self.rng = kinds, np.random.default_rng(seed)

    def reset(self) -> Floats:
        """Other worlds."""
        worlds = [kind[n] for kind in self.kinds for n in self.rng.permutation(len(kind))[:AT_ONCE]]
        self.unit = VectorSimulation(worlds).run(price) / 100
        self.play, self.paid = VectorSimulation(worlds), np.zeros(len(worlds))
        return self._seen()

    def _seen(self) -> Floats:
        self.now, self.sight = self.play.begin_round()
        return features(self.now, self.sight).astype(np.float32)

    def step_async(self, actions: Floats) -> None:
        """The prices of all worlds."""
        self.says = actions.astype(float)

    def step_wait(self) -> tuple[Floats, Floats, Any, list[dict[str, Any]]]:
        """Decide the round of all worlds."""
        self.play.end_round(self.now, self.sight, prices_of(self.now, self.sight, self.says))
        ended = self.play.round == self.play.rounds
        if ended:
            self.play.advance(np.inf)
        known = np.nansum(self.play.gain, axis=1)
        reward, self.paid = (known - self.paid) / self.unit, known
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
        self.unit = self._by_kind(price)

    def _by_kind(self, pricing: Pricing) -> Floats:
        gain: Floats = VectorSimulation(self.worlds).run(pricing).reshape(len(MIXTURE), -1).sum(axis=1)
        return gain

    def of(self, pricing: Pricing) -> float:
        """Mean share of what the rule `price` gains."""
        return float(np.mean(self._by_kind(pricing) / self.unit))


def ours(kinds: list[list[World]], limit_s: float) -> Iterator[tuple[float, Pricing]]:
    """Seconds of learning, and the policy then."""
    learner = PairedLearner(kinds, PairedSettings(steps=int(limit_s / STEP_S)), 0)
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
        """The prices of PPO's policy, without exploration."""
        says, _ = self.model.predict(features(now, sight).astype(np.float32), deterministic=True)
        return prices_of(now, sight, says.astype(float))


def main() -> None:
    """Both, and a table."""
    torch.set_num_threads(1)
    limit_s = float(sys.argv[1]) if len(sys.argv) > 1 else LIMIT_S
    kinds = [worlds_of(kind, "default", SECONDS, SEED, TRAINING)[0] for kind in MIXTURE]
    scores, table = Scores(), plain_table("learner", "seconds", "of what price gains", "best so far")
    best: dict[str, float] = {}

    def tell(name: str, seconds: float, pricing: Pricing) -> None:
        share = scores.of(pricing)
        best[name] = max(best.get(name, 0.0), share)
        table.add_row(name, f"{seconds:.0f}", f"{share:.2%}", f"{best[name]:.2%}")

    for seconds, pricing in ours(kinds, limit_s):
        tell("paired policy gradient", seconds, pricing)
    network = {"net_arch": [HIDDEN, HIDDEN], "activation_fn": torch.nn.Tanh, "log_std_init": float(np.log(0.15))}
    model = PPO(
        "MlpPolicy",
        Twin(kinds, 0),
        n_steps=60,
        batch_size=1020,
        gamma=0.98,
        policy_kwargs=network,
        device="cpu",
        seed=0,
    )
    model.learn(10**9, callback=Watch(limit_s, lambda seconds, pricing: tell("PPO", seconds, pricing)))
    print_table(table)


if __name__ == "__main__":
    main()

"""The hyper-parameters of trainings. Importing them costs nothing, so that help stays quick."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..agent.names import NetworkName, OrderName

PresetName = Literal["set", "flat-gain", "paper"]
RewardName = Literal["paper", "gain"]
"""Rewards of a training: "paper" is eq. (21); "gain" is ours, the rise of the objective at each step."""
MONTE_CARLO = 10**6
"""Steps of an n-step return that reach the end of every episode."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Hyper-parameters; the defaults are the paper's, section 6.1.2. `docs/drl.md` says where presets leave it and why.

    Attributes:
        network: "flat" for the paper's network, "set" for ours.
        reward: what the steps of an episode pay.
        n_step: number of rewards that a target sums before the target network values the rest; `MONTE_CARLO` for all.
        order: order in which the users of an episode are taken in training.
        deciding: order in which the trained policy takes users.
        double: whether the current network chooses the target's action (arXiv 1509.06461).
        robust: whether large errors count linearly (Huber's loss) instead of squared.
        learning_rate: learning rate at the start.
        last_learning_rate: learning rate at the end, linear between.
        batch: number of experiences in a mini-batch.
        memory: number of experiences kept.
        target_every: number of learning steps between copies into the target network.
        epsilon: chance to explore at the start and at the end, linear between.
        temperature: temperature of Boltzmann exploration at the start and at the end, linear between.
        exponent: exponent of the priorities of experiences.
        importance: exponent of the importance weights.
        offset: number added to every error before it becomes a priority, in the unit that rewards are learned in: the
            paper's 0.1 is of rewards in seconds, which are learned in units of 100 s.
        discount: discount of later rewards, gamma.
        episodes: number of episodes side by side, M.
        updates: number of learning steps for each step of all of these episodes.
        averaging: weight of the past in the running mean of the weights that becomes the policy; 0 for the last ones.
    """

    network: NetworkName = "flat"
    reward: RewardName = "paper"
    n_step: int = 1
    order: OrderName = "file"
    deciding: Literal["file", "slowest"] = "file"
    double: bool = False
    robust: bool = False
    learning_rate: float = 1e-4
    last_learning_rate: float = 1e-4
    batch: int = 128
    memory: int = 400_000
    target_every: int = 2000
    epsilon: tuple[float, float] = (0.5, 0.001)
    temperature: tuple[float, float] = (5.0, 0.01)
    exponent: float = 0.7
    importance: float = 0.3
    offset: float = 0.001
    discount: float = 1.0
    episodes: int = 32
    updates: int = 32
    averaging: float = 0.0


PRESETS: Mapping[PresetName, Preset] = {
    "set": Preset(
        network="set",
        reward="gain",
        double=True,
        robust=True,
        learning_rate=1e-3,
        last_learning_rate=2e-5,
        target_every=500,
        temperature=(1.0, 0.01),
        memory=200_000,
        offset=0.1,
        discount=0.5,
        updates=1,
    ),
    "flat-gain": Preset(
        reward="gain",
        n_step=MONTE_CARLO,
        order="mixed",
        deciding="slowest",
        robust=True,
        learning_rate=1e-3,
        last_learning_rate=1e-6,
        batch=512,
        memory=60_000,
        temperature=(0.05, 0.005),
        offset=0.1,
        episodes=256,
        updates=1,
        averaging=0.999,
    ),
    "paper": Preset(),
}
"""Our network, reward and loss; the paper's network, trained our way; network, reward and learning of the paper."""

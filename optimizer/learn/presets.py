"""The hyper-parameters of trainings. Importing them costs nothing, so that help stays quick."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..agent.names import NetworkName

PresetName = Literal["set", "flat-gain", "paper"]
RewardName = Literal["paper", "gain"]
"""Rewards of a training: "paper" is eq. (21), paid at once; "gain" is ours, the rise of the objective at each step."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Hyper-parameters; the defaults are the paper's, section 6.1.2. `docs/drl.md` says where presets leave it and why.

    Attributes:
        network: "flat" for the paper's network, "set" for ours.
        reward: what the steps of an episode pay.
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
        offset: number added to every error before it becomes a priority.
        discount: discount of later rewards, gamma.
        episodes: number of episodes side by side, M.
    """

    network: NetworkName = "flat"
    reward: RewardName = "paper"
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
    offset: float = 0.1
    discount: float = 1.0
    episodes: int = 32


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
        discount=0.5,
    ),
    "flat-gain": Preset(reward="gain", robust=True),
    "paper": Preset(),
}
"""Our network, reward and loss; the paper's network with our reward and loss; network, reward and loss of the paper."""

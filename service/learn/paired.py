"""Paired policy gradient: every world is played twice with opposite exploration, and only the difference counts.

Both runs of a pair have the same arrivals, users and GPUs. In one the network's outputs of round r are moved by e_r, in
the other by -e_r. What differs in the gains that become known from round r on is due to exploration alone, where a
usual policy gradient has to see through the chance of arrivals as well. A gain counts when it becomes known, because
the prices of a round move those of images in flight as well: these step more slowly, and may get new splits.

Exploration persists: e_r = m e_(r-1) + w_r, where w_r is normal and e_r has the deviation s. A single round's price
hardly matters among all others; prices that stay high or low for a while do, and a network of slow inputs can only
learn such. With D_r the difference of what becomes known after round r in the one run and in the other,

    (w_r D_r / s_r^2 - m w_(r+1) D_(r+1) / s_(r+1)^2) / 2

estimates the gradient of the gain by the outputs of round r without bias; s_r is the deviation of w_r. A world's gains
count as a share of what a run gained in it, so that loads count alike.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ...common.arrays import Floats
from ...common.errors import InputError, reason_of
from ...optimizer.agent.layers import Weights
from ...optimizer.learn.networks import linear
from ...optimizer.model.qoe import Scenario
from ...optimizer.model.terms import Prices
from ..price_policy import FEATURES, HIDDEN, OUTPUTS, Sight, features, outputs, prices_of
from ..simulator import World
from .vector_simulation import VectorSimulation


@dataclass(frozen=True, kw_only=True)
class PairedSettings:
    """Hyper-parameters.

    Attributes:
        steps: number of learning steps.
        learning_rate: of Adam at the start; it falls to a fiftieth, linearly.
        noise: deviation s of the exploration of each output at the start; it falls to a quarter, linearly.
        persistence: m, the share of it that the next round keeps; below 1.
        averaging: weight of the past in the running mean of the weights that becomes the policy.
        worlds: worlds of each kind in a learning step.
        revises: whether images in flight get new splits at the end of every round.
    """

    steps: int = 1500
    learning_rate: float = 1e-2
    noise: float = 0.2
    persistence: float = 0.9
    averaging: float = 0.98
    worlds: int = 3
    revises: bool = True


@dataclass(frozen=True)
class Exploration:
    """Moves of outputs that persist; arrays of shape (worlds, rounds, outputs).

    Attributes:
        moves: e_r.
        score: w_r over its variance.
        persistence: m.
    """

    moves: Floats
    score: Floats
    persistence: float

    def of_one(self, first: int) -> "Exploration":
        """One output of each world alone, in turn, so that no gain that is due to one is taken for another's."""
        worlds, _, outputs = self.moves.shape
        chosen = (np.arange(worlds)[:, None] + first) % outputs == np.arange(outputs)
        return Exploration(self.moves * chosen[:, None], self.score * chosen[:, None], self.persistence)

    def gradient(self, later: Floats) -> Floats:
        """The derivative of the log-likelihood of every w_r by the outputs, each times its own D_r, `later`."""
        term = self.score * later
        term[:, :-1] -= self.persistence * term[:, 1:].copy()
        return term


def explore(shape: tuple[int, int, int], noise: float, persistence: float, rng: np.random.Generator) -> Exploration:
    """Exploration of so many worlds, rounds and outputs, with this deviation."""
    deviation = np.full((shape[1], 1), noise * np.sqrt(1 - persistence**2))
    deviation[0] = noise
    new = rng.normal(0, deviation, shape)
    moves = new.copy()
    for r in range(1, shape[1]):
        moves[:, r] += persistence * moves[:, r - 1]
    return Exploration(moves, new / deviation**2, persistence)


class PricesNetwork(nn.Module):
    """The network of `PricePolicy`; untrained it says almost 0, the rule `price`."""

    def __init__(self) -> None:
        super().__init__()
        self.prices = linear((FEATURES, HIDDEN, HIDDEN, OUTPUTS))
        last = self.prices[-1]
        nn.init.normal_(last.weight, std=0.001)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """y_1 and y_2 of inputs of shape (..., features)."""
        for layer in self.prices[:-1]:
            x = torch.tanh(layer(x))
        result: Tensor = self.prices[-1](x)
        return result

    def weights(self) -> Weights:
        """The weights as NumPy has them, float64."""
        return {name: value.detach().numpy().astype(np.float64) for name, value in self.state_dict().items()}


@dataclass
class Trial:
    """One run of many worlds with exploration.

    Attributes:
        weights: the network.
        moves: what its outputs are moved by, shape (worlds, rounds, outputs).
        seen: inputs of the network, one array of shape (worlds, features) a round.
    """

    weights: Weights
    moves: Floats
    seen: list[Floats]

    def __call__(self, now: Scenario, sight: Sight) -> Prices:
        """The prices of the next round."""
        x = features(now, sight)
        says = outputs(self.weights, x) + self.moves[:, len(self.seen)]
        self.seen.append(x)
        return prices_of(now, sight, says)


class PairedLearner:
    """A training.

    Attributes:
        settings: hyper-parameters.
        network: the network as it is now.
        mean: running mean of its weights.
        done: number of learning steps so far.
        seconds: processor time of learning so far.
    """

    def __init__(self, kinds: Sequence[Sequence[World]], settings: PairedSettings, seed: int) -> None:
        """An untrained network.

        Args:
            kinds: training worlds of each kind, all of one scenario but for GPUs and bandwidth.
            settings: hyper-parameters.
            seed: of initial weights, exploration and the draw of worlds.
        """
        torch.manual_seed(seed)
        self.kinds, self.settings, self.seed = kinds, settings, seed
        self.network, self.done, self.seconds = PricesNetwork(), 0, 0.0
        self.mean = self.network.weights()
        self._adam = torch.optim.Adam(self.network.parameters(), settings.learning_rate)

    def step(self) -> float:
        """One learning step; returns what the trials gain on average in a world, seconds."""
        start, rng = time.process_time(), np.random.default_rng([self.seed, self.done])
        worlds = [kind[n] for kind in self.kinds for n in rng.permutation(len(kind))[: self.settings.worlds]]
        seen, credit, gain = self._play_pairs(worlds, rng)
        for group in self._adam.param_groups:
            group["lr"] = self.settings.learning_rate * max(0.02, self._left)
        self._adam.zero_grad()
        loss = -(self.network(torch.tensor(seen).float()) * torch.tensor(credit).float()).sum() / len(worlds)
        loss.backward()
        self._adam.step()
        self._average()
        self.done, self.seconds = self.done + 1, self.seconds + time.process_time() - start
        return gain

    @property
    def _left(self) -> float:
        """The share of the learning steps that are left."""
        return 1 - self.done / self.settings.steps

    def _play_pairs(self, worlds: Sequence[World], rng: np.random.Generator) -> tuple[Floats, Floats, float]:
        """Inputs (2 worlds, rounds, features) of both runs, the estimated gradient by the outputs there, mean gain."""
        simulation = VectorSimulation([*worlds, *worlds], self.settings.revises)
        shape = (len(worlds), simulation.rounds, OUTPUTS)
        noise = self.settings.noise * max(0.25, self._left)
        explored = explore(shape, noise, self.settings.persistence, rng).of_one(self.done)
        trial = Trial(self.network.weights(), np.concatenate([explored.moves, -explored.moves]), [])
        simulation.run(trial)
        one, other = np.split(simulation.gains_by_time(), 2)
        share = (one - other) / np.maximum(1.0, (one + other).sum(axis=1, keepdims=True) / 2)
        later = from_then_on(share)[:, :, None]
        credit = explored.gradient(later) / 4  # the two runs differ by twice the moves, and both learn
        gain = float((one + other).sum(axis=1).mean() / 2)
        return np.stack(trial.seen, axis=1), np.concatenate([credit, credit]), gain

    def dump(self) -> bytes:
        """Everything that the training needs to go on, as safetensors."""
        arrays = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        arrays |= {f"mean.{name}": torch.tensor(value) for name, value in self.mean.items()}
        for number, state in self._adam.state_dict()["state"].items():
            arrays |= {f"adam.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
        told = {"done": str(self.done), "seconds": str(self.seconds), "training": self.training}
        return save(arrays, told)

    @property
    def training(self) -> str:
        """What the training is, in words that a card and a checkpoint keep."""
        settings = ", ".join(f"{name} {value}" for name, value in asdict(self.settings).items())
        return f"seed {self.seed}; {settings}; worlds {_digest(self.kinds)}"

    def load(self, content: bytes, source: str = "the checkpoint") -> None:
        """Go on from what `dump` returned.

        Args:
            content: that.
            source: where it was, for messages.

        Raises:
            InputError: for a checkpoint that is cut short, or of another training.
        """
        try:
            arrays, told = load(content), _metadata(content)
            if told["training"] != self.training:
                raise InputError(f"{source}: found another training, {told['training']}; delete it to begin again")
            self.network.load_state_dict(_below("network.", arrays))
            self.mean = {name: value.numpy() for name, value in _below("mean.", arrays).items()}
            states = {number: _below(f"adam.{number}.", arrays) for number in range(len(self.mean))}
            self._adam.load_state_dict({**self._adam.state_dict(), "state": states})
            self.done, self.seconds = int(told["done"]), float(told["seconds"])
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise InputError(f"{source}: {reason_of(error, 80)}; delete it to begin again") from error

    def _average(self) -> None:
        kept, now = self.settings.averaging, self.network.weights()
        self.mean = {name: kept * self.mean[name] + (1 - kept) * now[name] for name in now}


def _digest(kinds: Sequence[Sequence[World]]) -> str:
    """What tells training worlds from others: a digest of all times at which somebody asks or the GPUs change."""
    digest = sha256()
    for world in (world for kind in kinds for world in kind):
        digest.update(world.requests.time_s.tobytes())
        digest.update(repr([(float(time_s), gpus) for time_s, gpus in world.gpus_over_time]).encode())
    return digest.hexdigest()[:8]


def _below(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arrays whose names begin so, without that."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _metadata(content: bytes) -> dict[str, str]:
    """What stands beside the arrays of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    told: dict[str, str] = json.loads(content[8 : 8 + size])["__metadata__"]
    return told


def from_then_on(values: Floats) -> Floats:
    """The sum of each round's value and of all later ones; shape (worlds, rounds)."""
    sums: Floats = values[:, ::-1].cumsum(axis=1)[:, ::-1]
    return sums

"""PER-DQN, paper section 5.3.2: learn whom to grant. Many episodes run side by side, one learning step per turn of all.

q: Q of deny and grant. s, a, r: state, action, reward. y: target. M: episodes at once. Q is in units of `Preset.unit`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import huber_loss
from torch.nn.utils import clip_grad_norm_

from ...common.arrays import Bools, Floats, Ints
from ...common.errors import InputError
from ...common.files import whole_file
from ..agent.state import flat_state, set_globals
from .env import GRANT, Reward, Tables, VectorEnv
from .networks import FlatNetwork, SetNetwork
from .replay import Experience, Replay

State = Mapping[str, Tensor]
UNIT_S = 100.0
"""The paper's rewards are hundreds of seconds: a network learns them in units of this."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Hyper-parameters; the defaults are the paper's, section 6.1.2. `docs/drl.md` says where presets leave it and why.

    Attributes:
        network: "flat", or "set" for any number of users.
        reward: of `VectorEnv`.
        double: whether the current network chooses the target's action (arXiv 1509.06461).
        robust: whether large errors count linearly (Huber's loss) instead of squared.
        learning_rate: at the start; it falls linearly to `last_learning_rate`.
        batch: of a learning step.
        memory: experiences kept.
        target_every: learning steps between copies into the target network.
        epsilon: chance to explore, first and last; linear between.
        temperature: of Boltzmann exploration, likewise.
        exponent: of priorities.
        importance: exponent of importance weights.
        offset: of priorities.
        discount: gamma.
        episodes: M.
    """

    network: Literal["flat", "set"] = "flat"
    reward: Reward = "paper"
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


PRESETS = {
    "paper": Preset(reward="gain", robust=True),
    "literal": Preset(),
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
}


class NotFiniteError(ArithmeticError):
    """The loss or its gradient is no number any more."""


@dataclass
class Learner:
    """An agent in training.

    Attributes:
        tables: of the training instances.
        preset: hyper-parameters.
        steps: learning steps in all.
        seed: of everything random.
        done: learning steps so far.
    """

    tables: Tables
    preset: Preset
    steps: int
    seed: int
    done: int = 0
    current: Any = field(init=False)
    target: Any = field(init=False)
    memory: Replay = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        p, places = self.preset, self.tables.present.shape[1]
        self.current, self.target = (make_network(p.network, places) for _ in range(2))
        self.target.load_state_dict(self.current.state_dict())
        self.optimizer = torch.optim.Adam(self.current.parameters(), lr=p.learning_rate)
        self.memory = Replay(p.memory, places, exponent=p.exponent, importance=p.importance, offset=p.offset)
        self.rng = np.random.default_rng(self.seed)
        self.env = VectorEnv.start(self.tables, self._draw(p.episodes), p.reward)

    @property
    def epsilon(self) -> float:
        """The chance to explore, now."""
        return _linear(*self.preset.epsilon, self.done / self.steps)

    @property
    def temperature(self) -> float:
        """Of Boltzmann exploration, now."""
        return _linear(*self.preset.temperature, self.done / self.steps)

    def turn(self) -> tuple[float, list[tuple[int, float]]]:
        """One step of every episode and one learning step.

        Returns:
            the loss (0 before the memory has both kinds of experience), and (instance, return) of episodes that ended.

        Raises:
            NotFiniteError: for a loss or a gradient that is not finite; the weights are as before then.
        """
        ended = self._act()
        loss = self._learn() if self.memory.ready else 0.0
        self.done += 1
        if self.done % self.preset.target_every == 0:
            self.target.load_state_dict(self.current.state_dict())
        return loss, ended

    def _act(self) -> list[tuple[int, float]]:
        env = self.env
        with torch.no_grad():
            q = self.current(make_state(self.preset.network, self.tables, env.which, env.granted, env.t))
        actions = explore(q.double().numpy() * self._exploration_unit, self.epsilon, self.temperature, self.rng)
        before = env.which.copy(), env.granted.copy(), env.t.copy()
        rewards, ends = env.step(actions)
        self.memory.add(Experience(*before, actions, rewards / self._unit(env.which), ends))
        rows = np.flatnonzero(ends)
        ended = [(int(env.which[row]), float(env.paid[row])) for row in rows]
        env.restart(rows, self._draw(rows.size))
        return ended

    def _learn(self) -> float:
        """Eq. (23), with the value of the taken action, weighted by importance."""
        sample = self.memory.sample(self.preset.batch, self.rng)
        s, a = sample.experience, torch.from_numpy(sample.experience.action.astype(np.int64))
        y = self._targets(s)
        state = make_state(self.preset.network, self.tables, s.which, s.granted, s.t)
        error = self.current(state).gather(1, a[:, None])[:, 0] - y
        each = huber_loss(error, torch.zeros_like(error), reduction="none") if self.preset.robust else error.square()
        loss = (torch.from_numpy(sample.weights).float() * each).mean()
        value = float(loss.detach())
        if not np.isfinite(value):
            raise NotFiniteError(f"the loss is {value} after {self.done} learning steps")
        for group in self.optimizer.param_groups:
            group["lr"] = _linear(self.preset.learning_rate, self.preset.last_learning_rate, self.done / self.steps)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(clip_grad_norm_(self.current.parameters(), 10.0))
        if not np.isfinite(norm):
            raise NotFiniteError(f"the gradient is {norm} after {self.done} learning steps")
        self.optimizer.step()
        self.memory.update(sample.slots, error.detach().numpy())
        return value

    @torch.no_grad()
    def _targets(self, s: Experience) -> Tensor:
        """y = r + gamma max_a Q(s', a) with the target network; r at the end of an episode."""
        granted = s.granted.copy()
        granted[np.arange(len(s.t)), s.t] = s.action == GRANT
        following = make_state(self.preset.network, self.tables, s.which, granted, s.t + 1)
        q = self.target(following)
        best = self.current(following).argmax(dim=1) if self.preset.double else q.argmax(dim=1)
        future: Tensor = q.gather(1, best[:, None])[:, 0] * torch.from_numpy(~s.done)
        return torch.from_numpy(s.reward).float() + self.preset.discount * future

    def _unit(self, which: Ints) -> Floats | float:
        return self.tables.scale[which] if self.preset.reward == "gain" else UNIT_S

    @property
    def _exploration_unit(self) -> float:
        """The paper's temperature is in seconds; with gains it is in units of a round's largest gain."""
        return 1.0 if self.preset.reward == "gain" else UNIT_S

    def _draw(self, count: int) -> Ints:
        return self.rng.integers(0, len(self.tables), count)

    # -- checkpoints --------------------------------------------------------------------------------------

    def save(self, path: Path, note: Mapping[str, Any]) -> None:
        """Write everything that going on needs, whole or not at all; `note` is kept beside it.

        Raises:
            NotFiniteError: for weights that are no numbers; an older checkpoint then stays.
        """
        if not all(bool(torch.isfinite(value).all()) for value in self.current.state_dict().values()):
            raise NotFiniteError(f"a weight is not finite after {self.done} learning steps")
        tensors = {f"current.{k}": v for k, v in self.current.state_dict().items()}
        tensors |= {f"target.{k}": v for k, v in self.target.state_dict().items()}
        adam = self.optimizer.state_dict()["state"]
        tensors |= {f"adam.{i}.{k}": torch.as_tensor(v) for i, s in adam.items() for k, v in s.items()}
        tensors |= {f"array.{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in self._arrays().items()}
        scalars = {
            "settings": self._settings(),
            "done": self.done,
            "rng": self.rng.bit_generator.state,
            "memory": [self.memory.position, self.memory.filled, self.memory.largest],
            "note": dict(note),
        }
        with whole_file(path, "wb") as handle:
            handle.write(save({k: v.clone() for k, v in tensors.items()}, {"scalars": json.dumps(scalars)}))

    def load(self, path: Path) -> dict[str, Any]:
        """Go on from a checkpoint; returns its note.

        Raises:
            InputError: for a file that is no checkpoint of this training.
        """
        try:
            with safe_open(path, "pt") as file:
                scalars = json.loads(file.metadata()["scalars"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        except Exception as error:
            raise InputError(f"{path}: no checkpoint ({' '.join(str(error).split())[:80]}); delete it") from error
        if scalars["settings"] != self._settings():
            raise InputError(f"{path}: is a checkpoint of another training; delete it or choose another -o")
        for name in ("current", "target"):
            getattr(self, name).load_state_dict(_below(f"{name}.", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below("adam.", tensors).items():
            state.setdefault(int(key.split(".")[0]), {})[key.split(".")[1]] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        for name, value in _below("array.", tensors).items():
            self._arrays()[name][...] = value.numpy()
        self.memory.position, self.memory.filled, self.memory.largest = scalars["memory"]
        self.done, self.rng.bit_generator.state = scalars["done"], scalars["rng"]
        note: dict[str, Any] = scalars["note"]
        return note

    def _arrays(self) -> dict[str, np.ndarray]:
        env, memory = self.env, self.memory
        running = {"which": env.which, "granted": env.granted, "t": env.t, "paid": env.paid}
        trees = {f"tree.{int(kind)}": tree.nodes for kind, tree in memory.trees.items()}
        return (
            {f"env.{k}": v for k, v in running.items()} | {f"row.{k}": v for k, v in vars(memory.rows).items()} | trees
        )

    def _settings(self) -> Any:
        what = [asdict(self.preset), self.steps, self.seed, len(self.tables), float(self.tables.all_local.sum())]
        return json.loads(json.dumps(what))


def explore(q: Floats, epsilon: float, temperature: float, rng: np.random.Generator) -> Ints:
    """With chance epsilon an action drawn with Boltzmann's probabilities, else the better one; q (M, 2)."""
    advantage = q[:, GRANT] - q[:, 1 - GRANT]
    grant = 1 / (1 + np.exp(np.clip(-advantage / temperature, -500, 500)))
    drawn = rng.random(len(q)) < grant
    actions: Ints = np.where(rng.random(len(q)) < epsilon, drawn, advantage > 0).astype(np.int64)
    return actions


def make_network(kind: str, places: int) -> Any:
    """An untrained Q-network."""
    return FlatNetwork(places) if kind == "flat" else SetNetwork()


def make_state(kind: str, tables: Tables, which: Ints, granted: Bools, t: Ints) -> State:
    """The network's inputs for states of these instances."""
    present = tables.present[which]
    if kind == "flat":
        local, status, fixed = flat_state(tables.local[which], tables.fixed[which], present, granted, t)
        return {
            "local": torch.from_numpy(local).float(),
            "status": torch.from_numpy(status),
            "fixed": torch.from_numpy(fixed).float(),
        }
    users, place = tables.users[which], np.arange(present.shape[1])
    gains, current = tables.gains[which], np.minimum(t, present.shape[1] - 1)
    fixed = set_globals(tables.set_fixed[which], tables.max_batch[which], users, granted.sum(axis=1), t)
    return {
        "gains": torch.from_numpy(gains).float(),
        "pending": torch.from_numpy(present & (place > t[:, None])).float(),
        "granted": torch.from_numpy(granted).float(),
        "current": torch.from_numpy(gains[np.arange(len(t)), current]).float(),
        "rise": torch.from_numpy(tables.rise(which, granted, current) / tables.scale[which]).float(),
        "fixed": torch.from_numpy(fixed).float(),
    }


@torch.no_grad()
def roll_out(network: Any, kind: str, tables: Tables, at_once: int = 256) -> Floats:
    """The value over all denied, seconds, that a network reaches on every instance; shape (instances,)."""
    values = np.zeros(len(tables))
    for start in range(0, len(tables), at_once):
        env = VectorEnv.start(tables, np.arange(start, min(start + at_once, len(tables))), "gain")
        running = np.arange(len(env.which))
        while running.size:
            rows = env.which[running], env.granted[running], env.t[running], env.paid[running]
            part = VectorEnv(tables, "gain", *rows)
            q = network(make_state(kind, tables, part.which, part.granted, part.t)).numpy()
            _, ends = part.step((q[:, GRANT] > q[:, 1 - GRANT]).astype(np.int64))
            env.granted[running], env.t[running], env.paid[running] = part.granted, part.t, part.paid
            running = running[~ends]
        values[env.which] = env.paid
    return values


def _linear(first: float, last: float, share: float) -> float:
    return first + (last - first) * min(1.0, share)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

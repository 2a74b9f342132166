"""Checkpoints: everything that a training needs to go on, in one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ...common.errors import InputError, reason_of
from ...common.files import whole_file
from ...common.seals import UNSEALED, seal_holds, sealed
from .dqn import DivergedError, Learner


def save_checkpoint(learner: Learner, path: Path, note: Mapping[str, Any]) -> None:
    """Write the state of a training, whole or not at all; `note` is kept beside it.

    Raises:
        DivergedError: for weights that are not finite; an older checkpoint then stays.
    """
    current = learner.current.state_dict()
    if not all(bool(torch.isfinite(value).all()) for value in current.values()):
        raise DivergedError(f"a weight is not finite after {learner.done} learning steps")
    tensors = {f"current.{k}": v for k, v in current.items()}
    tensors |= {f"target.{k}": v for k, v in learner.target.state_dict().items()}
    tensors |= {f"policy.{k}": v for k, v in learner.policy.state_dict().items()}
    adam = learner.optimizer.state_dict()["state"]
    tensors |= {f"adam.{i}.{k}": torch.as_tensor(v) for i, s in adam.items() for k, v in s.items()}
    tensors |= {f"array.{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in _arrays(learner).items()}
    memory = learner.memory
    scalars = {
        "settings": _settings(learner),
        "done": learner.done,
        "rng": learner.rng.bit_generator.state,
        "memory": [memory.position, memory.filled, memory.largest],
        "note": dict(note),
    }
    with whole_file(path, "wb") as handle:
        metadata = {"sha256": UNSEALED, "scalars": json.dumps(scalars)}
        handle.write(sealed(save({k: v.clone() for k, v in tensors.items()}, metadata)))


def load_checkpoint(learner: Learner, path: Path) -> dict[str, Any]:
    """Go on from a checkpoint; returns its note.

    Raises:
        InputError: for a file that is no checkpoint of this training.
    """
    scalars, tensors = _read(path)
    if scalars["settings"] != _settings(learner):
        raise InputError(f"{path}: is a checkpoint of another training; delete it or choose another -o")
    learner.current.load_state_dict(_below("current.", tensors))
    learner.target.load_state_dict(_below("target.", tensors))
    learner.policy.load_state_dict(_below("policy.", tensors))
    adam: dict[int, dict[str, Tensor]] = {}
    for key, value in _below("adam.", tensors).items():
        number, _, name = key.partition(".")
        adam.setdefault(int(number), {})[name] = value
    learner.optimizer.load_state_dict(learner.optimizer.state_dict() | {"state": adam})
    arrays = _arrays(learner)
    for name, value in _below("array.", tensors).items():
        arrays[name][...] = value.numpy()
    memory = learner.memory
    memory.position, memory.filled, memory.largest = scalars["memory"]
    learner.done, learner.rng.bit_generator.state = scalars["done"], scalars["rng"]
    note: dict[str, Any] = scalars["note"]
    return note


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The scalars and the tensors of a checkpoint, whose digest holds."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            metadata = file.metadata()
        if not seal_holds(path.read_bytes(), metadata["sha256"]):
            raise ValueError("it is damaged, as its digest says")
        return json.loads(metadata["scalars"]), tensors
    except Exception as error:  # whatever a damaged file makes of the reader
        raise InputError(f"{path}: no checkpoint ({reason_of(error, 80)}); delete it") from error


def _arrays(learner: Learner) -> dict[str, np.ndarray]:
    """The arrays in which the episodes under way and the memory are kept."""
    env, memory = learner.env, learner.memory
    running = {**vars(env.rounds), "granted": env.granted, "t": env.t, "paid": env.paid}
    trees = {f"tree.{int(kind)}": tree.nodes for kind, tree in memory.trees.items()}
    return {f"env.{k}": v for k, v in running.items()} | {f"row.{k}": v for k, v in vars(memory.rows).items()} | trees


def _settings(learner: Learner) -> Any:
    """What tells one training from another, as JSON holds it."""
    all_local = float(learner.tables.all_local.sum())
    settings = [asdict(learner.preset), learner.steps, learner.seed, len(learner.tables), all_local]
    return json.loads(json.dumps(settings))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

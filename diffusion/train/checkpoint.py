"""The state of a training run in one safetensors file, and tensors written whole or not at all."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...common.errors import InputError, reason_of


class TrainingState:
    """Weights, their averages and the optimizer's moments as flat named tensors, and the loss scale of fp16."""

    def __init__(
        self, modules: Mapping[str, nn.Module], averages: Mapping[str, Any], optimizer: Any, scaler: Any = None
    ) -> None:
        self._modules, self._averages, self._optimizer, self._scaler = modules, averages, optimizer, scaler

    def save(self, path: Path, step: int) -> None:
        """Write the state after a number of steps, whole or not at all."""
        scaler = self._scaler.state_dict() if self._scaler else {}
        save_tensors(path, dict(self._tensors()), {"step": str(step), "scaler": json.dumps(scaler)})

    def load(self, path: Path) -> int:
        """Take over a saved state.

        Returns:
            the number of steps that were done; 0 where there is no such file.

        Raises:
            InputError: for a file that is damaged, or of another training.
        """
        if not path.exists():
            return 0
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
                step, scaler = int(file.metadata()["step"]), json.loads(file.metadata()["scaler"])
            self._restore(tensors)
            if self._scaler:
                self._scaler.load_state_dict(scaler)
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise InputError(
                f"{path}: not a checkpoint of this training ({reason_of(error)}); remove it to start anew"
            ) from error
        return step

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._parameters():
            yield name, parameter.detach().cpu().contiguous()
        for index, moments in self._optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                yield f"optimizer.{index}.{key}", torch.as_tensor(value).cpu().contiguous()

    def _parameters(self) -> Iterator[tuple[str, Tensor]]:
        for kind, modules in (("model", self._modules), ("average", self._averages)):
            for module_name, module in modules.items():
                for name, parameter in module.named_parameters():
                    if parameter.requires_grad:
                        yield f"{kind}.{module_name}.{name}", parameter
                for name, buffer in module.named_buffers():
                    yield f"{kind}.{module_name}.buffer.{name}", buffer

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters():
                parameter.copy_(tensors[name])
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                moments.setdefault(int(index), {})[name] = _like(parameters[int(index)], value)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _like(parameter: Tensor, moment: Tensor) -> Tensor:
    """A moment in the memory layout of its parameter; in another layout the optimizer would be slow."""
    if moment.shape != parameter.shape:  # the count of steps, which the optimizer keeps beside its moments
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    The temporary file always has the same name, so that the next run takes what a killed one has left.

    Raises:
        InputError: for a file that cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        try:
            save_file(dict(tensors), temporary, dict(metadata))
            temporary.chmod(0o644)  # safetensors lets only the owner read it
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: cannot write: {reason_of(error)}; free some space or choose another folder"
        ) from error

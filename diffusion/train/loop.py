"""A training loop that a kill cannot harm: seeded step by step, its state in one safetensors file."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...common.errors import InputError
from ..inference.gpu import check_bf16

Progress = Callable[[int, float], None]
"""Called after each step with the number of steps done and the loss."""


@dataclass(kw_only=True)
class Job:
    """What to train and how.

    Attributes:
        modules: what is trained, by name; parameters that need no gradient are left alone and not saved.
        loss: of one batch; all its random numbers come from the generator, which is seeded anew for each step.
        steps: optimizer steps.
        learning_rates: of each module, at its highest.
        schedule: share of the steps done, 0 to 1 -> share of the learning rate.
        average: decay of the exponential moving average of the weights; None for none.
        betas: AdamW's.
        weight_decay: AdamW's.
        seed: of the generator.
        save_every: steps between checkpoints.
    """

    modules: Mapping[str, nn.Module]
    loss: Callable[[torch.Generator], Tensor]
    steps: int
    learning_rates: Mapping[str, float]
    schedule: Callable[[float], float]
    average: float | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    seed: int = 0
    save_every: int = 100


def check_processes() -> None:
    """Refuse to be one of several: each would train the same model and write the same files.

    Raises:
        InputError: where `accelerate launch` or torchrun started more than one process.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise InputError(
            f"found {processes} processes (WORLD_SIZE), accepted: one; start the command itself, with --device"
        )


def make_accelerator(device: str, mixed_precision: str = "no") -> Any:
    """An `accelerate.Accelerator` on a device such as "cpu" or "cuda:1", whatever this process made before.

    Raises:
        InputError: for a mixed precision that the device does not have.
    """
    AcceleratorState._reset_state(reset_partial_state=True)  # it hands the first one's settings to all others
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # it takes no index
    if mixed_precision == "fp16" and device == "cpu":  # accelerate would train in fp32 without a word
        raise InputError("found 'fp16', accepted on a CPU: 'no' or 'bf16'")
    if mixed_precision == "bf16":
        check_bf16(device)
    try:
        return Accelerator(mixed_precision=mixed_precision, cpu=device == "cpu")
    except ValueError as error:
        raise InputError(f"found {mixed_precision!r}, which {device} does not have; accepted: 'no'") from error


def train(job: Job, checkpoint: Path, accelerator: Any, progress: Progress) -> dict[str, nn.Module]:
    """Train, from the checkpoint if there is one; the result does not depend on where a run was cut.

    On a GPU it does by rounding: some of its sums have no fixed order.

    Args:
        job: what to do.
        checkpoint: the state's file; removing it is the caller's business.
        accelerator: an `accelerate.Accelerator`: device and mixed precision.
        progress: called after each step.

    Returns:
        the modules, averaged where the job says so, by name.

    Raises:
        InputError: for a checkpoint that is not this job's, or that cannot be written.
    """
    modules = {name: accelerator.prepare(module) for name, module in job.modules.items()}
    optimizer = accelerator.prepare(_optimizer(job, modules))
    averages = {name: _averaged(module, job.average) for name, module in modules.items()} if job.average else {}
    state = State(modules, averages, optimizer, accelerator.scaler)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(state.load(checkpoint), job.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * job.schedule(step / job.steps)
        loss = job.loss(step_generator(job.seed, step))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        for name, average in averages.items():
            average.update_parameters(modules[name])
        if (step + 1) % job.save_every == 0 or step + 1 == job.steps:
            state.save(checkpoint, step + 1)
        progress(step + 1, float(loss.detach()))
    return {name: averages[name].module if averages else accelerator.unwrap_model(modules[name]) for name in modules}


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, whatever was drawn before it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def warm_then_linear(warm: float, constant: float = 0.0, last: float = 0.0) -> Callable[[float], float]:
    """A schedule that rises over the share `warm`, stays until `constant`, then falls linearly to `last`."""

    def schedule(done: float) -> float:
        rise = min(1.0, (done + 1e-3) / warm) if warm else 1.0
        fall = min(1.0, (1 - done) / (1 - constant))
        return rise * (last + (1 - last) * fall)

    return schedule


class State:
    """Weights, their averages and the optimizer's moments as flat named tensors, and fp16's loss scale."""

    def __init__(
        self, modules: Mapping[str, nn.Module], averages: Mapping[str, Any], optimizer: Any, scaler: Any = None
    ) -> None:
        self._modules, self._averages, self._optimizer, self._scaler = modules, averages, optimizer, scaler

    def save(self, path: Path, step: int) -> None:
        """Write the state whole or not at all."""
        scaler = self._scaler.state_dict() if self._scaler else {}
        save_tensors(path, dict(self._tensors()), {"step": str(step), "scaler": json.dumps(scaler)})

    def load(self, path: Path) -> int:
        """Take over a saved state.

        Returns:
            the steps done; 0 where there is no such file.
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
            reason = " ".join(str(error).split())[:100]
            raise InputError(
                f"{path}: not a checkpoint of this training ({reason}); remove it to start anew"
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
    """A moment laid out in memory as its parameter, without which the optimizer would be slow."""
    if moment.shape != parameter.shape:  # the number of its steps
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file, complete or not at all.

    Raises:
        InputError: where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            save_file(dict(tensors), temporary, dict(metadata))
            temporary.chmod(0o644)  # safetensors keeps it to the owner
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
        raise InputError(f"{path}: cannot write: {reason}; free some space or choose another folder") from error


def _optimizer(job: Job, modules: Mapping[str, nn.Module]) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "highest": job.learning_rates[name]}
        for name, module in modules.items()
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=job.betas, weight_decay=job.weight_decay)


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

"""A training loop that a kill cannot harm: every step has its own seed, and checkpoints hold the whole state."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...common.errors import InputError
from ...common.progress import Progress
from ..inference.gpu import check_bf16
from .checkpoint import TrainingState


@dataclass(kw_only=True)
class Recipe:
    """What to train and how.

    Attributes:
        modules: modules to train, by name; parameters that need no gradient are left as they are and not saved.
        loss: function that returns the loss of one batch; it takes all its random numbers from the generator, which is
            seeded anew for every step.
        steps: number of optimizer steps.
        learning_rates: module -> its highest learning rate.
        schedule: function from the share of the steps that are done, 0 to 1, to a share of the learning rate.
        average: decay of the exponential moving average of the weights; None for no average.
        betas: decay rates of AdamW's two moments.
        weight_decay: weight decay of AdamW.
        seed: seed of the generator.
        save_every: number of steps between checkpoints.
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
    """Refuse to be one of several processes, as each would train the same model and write the same files.

    Raises:
        InputError: if `accelerate launch` or torchrun started more than one process.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise InputError(
            f"found {processes} processes (WORLD_SIZE), accepted: one; start the command itself, with --device"
        )


def make_accelerator(device: str, mixed_precision: str = "no") -> Any:
    """An `accelerate.Accelerator` on a device such as "cpu" or "cuda:1".

    Raises:
        InputError: for a mixed precision that the device does not have.
    """
    AcceleratorState._reset_state(reset_partial_state=True)  # or all accelerators get the settings of the first
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # accelerate takes no index
    if mixed_precision == "fp16" and device == "cpu":  # accelerate would train in fp32 without a word
        raise InputError("found 'fp16', accepted on a CPU: 'no' or 'bf16'")
    if mixed_precision == "bf16":
        check_bf16(device)
    try:
        return Accelerator(mixed_precision=mixed_precision, cpu=device == "cpu")
    except ValueError as error:
        raise InputError(f"found {mixed_precision!r}, which {device} does not have; accepted: 'no'") from error


def train(recipe: Recipe, checkpoint: Path, accelerator: Any, progress: Progress) -> dict[str, nn.Module]:
    """Train, from the checkpoint if there is one; where a run was cut does not change the result.

    On a GPU results differ by rounding, as some of its sums have no fixed order.

    Args:
        recipe: what to train and how.
        checkpoint: file for the state; the caller removes it.
        accelerator: an `accelerate.Accelerator`, which has the device and the mixed precision.
        progress: called after each step with the number of steps done, and the loss as text.

    Returns:
        the trained modules by name; their averages where the recipe asks for them.

    Raises:
        InputError: for a checkpoint of another training, or one that cannot be written; for a loss or a gradient that
            is not finite, before it changes any weight.
    """
    modules = {name: accelerator.prepare(module) for name, module in recipe.modules.items()}
    optimizer = accelerator.prepare(_optimizer(recipe, modules))
    averages = {name: _averaged(module, recipe.average) for name, module in modules.items()} if recipe.average else {}
    state = TrainingState(modules, averages, optimizer, accelerator.scaler)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(state.load(checkpoint), recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * recipe.schedule(step / recipe.steps)
        loss = recipe.loss(step_generator(recipe.seed, step))
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(parameters, 1.0)
        value, slope = torch.stack([loss.detach().float(), norm.detach().float()]).cpu().tolist()
        if not math.isfinite(value) or not (math.isfinite(slope) or accelerator.scaler):  # a scaler skips such steps
            raise InputError(_diverged(recipe, step, value))
        optimizer.step()
        optimizer.zero_grad()
        for name, average in averages.items():
            average.update_parameters(modules[name])
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            state.save(checkpoint, step + 1)
        progress(step + 1, f"loss {value:.3f}")
    return {name: averages[name].module if averages else accelerator.unwrap_model(modules[name]) for name in modules}


def _diverged(recipe: Recipe, step: int, loss: float) -> str:
    """The message of a step whose loss or gradient is not finite."""
    rates = ", ".join(f"{rate:g} ({name})" for name, rate in recipe.learning_rates.items() if rate)
    return (
        f"step {step + 1} of {recipe.steps}: the training diverged, with a loss of {loss:.3g}, at a learning rate of "
        f"up to {rates}; lower it; the last checkpoint is kept"
    )


def step_generator(seed: int, step: int) -> torch.Generator:
    """The source of random numbers for one step, the same whatever was drawn before that step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def warm_then_linear(warm: float, constant: float = 0.0, last: float = 0.0) -> Callable[[float], float]:
    """A schedule of the learning rate: it rises, stays at 1, then falls linearly.

    Args:
        warm: share of the steps over which it rises from 0 to 1.
        constant: share of the steps after which it falls.
        last: value at the end.
    """

    def schedule(done: float) -> float:
        rise = min(1.0, (done + 1e-3) / warm) if warm else 1.0
        fall = min(1.0, (1 - done) / (1 - constant))
        return rise * (last + (1 - last) * fall)

    return schedule


def _optimizer(recipe: Recipe, modules: Mapping[str, nn.Module]) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "highest": recipe.learning_rates[name]}
        for name, module in modules.items()
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=recipe.betas, weight_decay=recipe.weight_decay)


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

"""The noise that an image starts from, and the noise that some schedulers add in a step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .families.base import Model
from .sampling import DEFAULT, Sampling


def initial_noise(model: Model, seeds: Sequence[int], sampling: Sampling = DEFAULT) -> Tensor:
    """x_N of each seed, shape (seeds, channels, height, width): what diffusers' pipelines draw from it."""
    return drawn_noise(model, seeds, sampling.make_scheduler(model.scheduler_config))


def drawn_noise(model: Model, seeds: Sequence[int], scheduler: Any) -> Tensor:
    """The same for a scheduler that is made already; one that matches flows scales nothing."""
    draws = [torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    scale = float(getattr(scheduler, "init_noise_sigma", 1.0))
    return torch.cat(draws).to(model.device, model.dtype) * scale


def step_noise(seed: int, step: int) -> torch.Generator:
    """The source of one sample's noise in one step: the same on either side of the split and in any batch."""
    return torch.Generator().manual_seed((seed * 100_003 + step) % 2**63)

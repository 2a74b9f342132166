"""Scheduler steps that are linear, x' = a x + b prediction, as numbers: images at different steps take them in one go.

The deterministic schedulers of diffusers step so: DDIM without its noise, Euler, and Euler for flows. The numbers are
read off the scheduler's own step, by what it makes of a few scalars; a step that is not linear has none.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .sampling import Sampling
from .step import scaled_input

BENDING = ("clip_sample", "thresholding")
"""Options with which a step is not linear, however the scalars below may look."""
SAMPLES = (1.0, 0.0, 30.0, -7.0, 1e3)
PREDICTIONS = (0.0, 1.0, -2.0, 50.0, 1e3)
"""What a step is tried with: the first two give a and b, and the others have to agree."""
ROUNDING = 1e-5
"""Most by which they may differ, as a share of their terms; Euler's step computes in fp32."""
NONE = torch.full((3,), torch.nan)
"""The numbers of a step that has none."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a scheduler.

    Attributes:
        scheduler: a diffusers scheduler with its timesteps set; only copies of it take steps.
        numbers: a, b and the factor c of the sample that the network gets, of each step; shape (N, 3), fp32, in the
            host's memory; NaN where a step is not linear.
        linear: whether each step is linear.
    """

    scheduler: Any
    numbers: Tensor
    linear: tuple[bool, ...]


def schedule_of(sampling: Sampling, config: Mapping[str, Any]) -> Schedule:
    """The steps of these settings' scheduler, for a model trained with this configuration; found once a process.

    Raises:
        InputError: as `Sampling.make_scheduler`.
    """
    return _schedule(sampling, json.dumps(config, sort_keys=True))


@lru_cache(maxsize=16)
def _schedule(sampling: Sampling, config: str) -> Schedule:
    scheduler, steps = sampling.make_scheduler(json.loads(config)), range(sampling.total_steps)
    bends = sampling.noisy or any(scheduler.config.get(option) for option in BENDING)
    numbers = torch.stack([NONE if bends else _numbers(scheduler, index) for index in steps])
    return Schedule(scheduler, numbers, tuple(numbers.isfinite().all(1).tolist()))


def _numbers(scheduler: Any, index: int) -> Tensor:
    """a, b and c of a step, shape (3,); NaN where it is not linear."""
    twin, timestep = ready_for(scheduler, index), scheduler.timesteps[index]
    x, prediction = (torch.tensor(values, dtype=torch.float64) for values in (SAMPLES, PREDICTIONS))
    scaled = scaled_input(twin, x, timestep)
    stepped = twin.step(prediction, timestep, x, return_dict=False)[0].double()
    a, b = stepped[:2]
    bound = ROUNDING * ((a * x).abs() + (b * prediction).abs())
    fits = ((stepped - (a * x + b * prediction)).abs() <= bound).all()
    return torch.stack([a, b, scaled[0].double()]).float() if fits else NONE


def ready_for(scheduler: Any, index: int) -> Any:
    """A copy of a scheduler that has taken no step, ready for any; its numbers are shared, where it stands is not."""
    twin = copy.copy(scheduler)
    if hasattr(twin, "set_begin_index"):
        twin.set_begin_index(index)
    return twin

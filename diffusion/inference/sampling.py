"""How an image is sampled: steps, guidance and scheduler, the same at the edge and on the device."""

import hashlib
import inspect
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...common.errors import InputError, nearest, reason_of, shown
from .schedules import check_options, completed, said

DENOISING = ("ddim", "ddpm", "euler", "euler-ancestral")
"""Schedulers of models that predict noise, its velocity or the sample."""
FLOW = ("flow-euler",)
"""Schedulers of models that match flows: their noise levels are no betas, and shift with the picture's size."""
SCHEDULERS = (*DENOISING, *FLOW)
"""Schedulers whose step depends on the current sample (and a seed) alone, so that handing off the sample is enough."""
NOISY = ("ddpm", "euler-ancestral")
"""Schedulers that add noise in each step."""
OWN_OPTIONS = ("image_tokens", "last_sigma")
"""Options that a family adds to a scheduler's configuration, as its pipeline passes them to the scheduler."""
IDLE_WITHOUT = {
    "clip_sample_range": "clip_sample",
    "dynamic_thresholding_ratio": "thresholding",
    "sample_max_value": "thresholding",
}
"""Options of schedulers that have no effect where another option is off."""
LARGEST_SEED = 2**63 - 1
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
"""What a UNet may be trained to predict, in diffusers' words."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings that edge and device must share.

    Attributes:
        total_steps: N, number of denoising steps.
        guidance_scale: scale of classifier-free guidance; 1 for no guidance.
        negative_prompt: text that guidance leads away from.
        scheduler: name of the scheduler, one of `SCHEDULERS`.
    """

    total_steps: int = 50
    guidance_scale: float = 7.5
    negative_prompt: str = ""
    scheduler: str = "ddim"

    def __post_init__(self) -> None:
        if not 1 <= self.total_steps <= 1000:
            raise InputError(f"total_steps: found {self.total_steps}, accepted: 1 to 1000")
        if not 1 <= self.guidance_scale <= 100:
            raise InputError(f"guidance_scale: found {self.guidance_scale}, accepted: 1 (none) to 100")
        if self.scheduler not in SCHEDULERS:
            raise InputError(
                f"scheduler: found {shown(self.scheduler)}, accepted: one whose step needs the current sample alone, "
                f"as a multistep scheduler's history is not handed off: {', '.join(SCHEDULERS)}; "
                + nearest(self.scheduler, SCHEDULERS)
            )

    @property
    def guided(self) -> float | None:
        """The guidance scale; None for no guidance."""
        return self.guidance_scale if self.guidance_scale > 1 else None

    @property
    def noisy(self) -> bool:
        """Whether the scheduler adds noise in each step."""
        return self.scheduler in NOISY

    def make_scheduler(self, config: dict[str, Any]) -> Any:
        """A fresh scheduler with its timesteps set, for a model trained with this configuration.

        Raises:
            InputError: for a configuration that this scheduler cannot have, or more steps than the model's noise
                schedule has places for.
        """
        scheduler = self._scheduler_of(completed(config, self.scheduler))
        trained = scheduler.config.num_train_timesteps
        last = trained - 1 if self.scheduler not in FLOW else trained
        if self.total_steps > trained or float(scheduler.timesteps.max()) > last:
            raise InputError(
                f"total_steps: found {self.total_steps}, accepted: fewer, as the model was trained with {trained} "
                f"timesteps and its steps_offset is {scheduler.config.get('steps_offset', 0)}"
            )
        return scheduler

    def can_run(self, prediction_type: str) -> bool:
        """Whether the scheduler takes models that predict this: diffusers' Euler methods know no samples."""
        return prediction_type != "sample" or not self.scheduler.startswith("euler")

    def _scheduler_of(self, options: dict[str, Any]) -> Any:
        if not self.can_run(options["prediction_type"]):
            raise InputError(
                f"scheduler: found {self.scheduler}, accepted for a model that predicts samples: ddim or ddpm"
            )
        kind = _scheduler_class(self.scheduler)
        own = _options_of(kind)
        check_options(options, own)
        try:
            scheduler = kind.from_config({name: value for name, value in options.items() if name in own})
            trained = scheduler.config.num_train_timesteps
            betas = getattr(scheduler, "betas", None)
            if betas is not None and not (len(betas) == trained and bool(((betas > 0) & (betas <= 1)).all())):
                raise ValueError(f"its noise levels are not {trained} betas from 0 to 1")
            if self.total_steps <= trained:
                scheduler.set_timesteps(self.total_steps, **self._noise_levels(options))
        except Exception as error:  # its class may refuse any combination of options
            raise InputError(
                f"scheduler: {self.scheduler} cannot run with the model's configuration ({reason_of(error)}); mend its "
                "scheduler_config.json"
            ) from error
        return scheduler

    def _noise_levels(self, options: dict[str, Any]) -> dict[str, Any]:
        """What a pipeline of diffusers tells a scheduler that matches flows: its shift, and where its levels end."""
        told: dict[str, Any] = {}
        if self.scheduler in FLOW and options["use_dynamic_shifting"]:
            told["mu"] = shift_of(options)
        if self.scheduler in FLOW and options["last_sigma"] == "1/N":
            told["sigmas"] = np.linspace(1.0, 1 / self.total_steps, self.total_steps)
        return told

    def decisive(self, config: dict[str, Any]) -> dict[str, Any]:
        """The scheduler, and the options that decide its steps for a model trained with this configuration."""
        scheduler = self.make_scheduler(config)
        used = _options_of(type(scheduler))
        options = {name: value for name, value in scheduler.config.items() if name in used}
        if self.scheduler in FLOW:
            options |= {name: completed(config, self.scheduler)[name] for name in OWN_OPTIONS}
        idle = {name for name, other in IDLE_WITHOUT.items() if not options.get(other)}
        return {"scheduler": self.scheduler} | {name: options[name] for name in sorted(options.keys() - idle)}

    def lacks_signal(self, config: dict[str, Any]) -> bool:
        """Whether the first step gets pure noise, of which a model that predicts noise cannot say anything."""
        options = completed(config, self.scheduler)
        return bool(options["rescale_betas_zero_snr"]) and options["prediction_type"] == "epsilon"

    def fingerprint(self, config: dict[str, Any]) -> str:
        """A hash of everything that decides the steps; edge and device must have the same one."""
        text = json.dumps(self.decisive(config), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def recognised(self, fingerprint: str, config: dict[str, Any]) -> str:
        """The scheduler behind the fingerprint of another side, in words.

        Args:
            fingerprint: fingerprint that the other side named.
            config: scheduler configuration of this side's model.
        """
        for scheduler in SCHEDULERS:
            for kind in PREDICTION_TYPES:
                other = replace(self, scheduler=scheduler)
                if other.can_run(kind) and other.fingerprint(said(config) | {"prediction_type": kind}) == fingerprint:
                    return f"{scheduler} with prediction_type {kind}"
        return f"one with other options or noise levels ({fingerprint})"


def check_seed(seed: int) -> None:
    """Refuse a seed outside the range that torch's random generators take.

    Raises:
        InputError: naming the seed.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed: found {shown(seed)}, accepted: 0 to {LARGEST_SEED}")


def shift_of(options: dict[str, Any]) -> float:
    """mu, by which noise levels shift with the number of a picture's tokens: linear between two of them."""
    first, last = options["base_image_seq_len"], options["max_image_seq_len"]
    slope = (options["max_shift"] - options["base_shift"]) / (last - first)
    shift: float = options["base_shift"] + slope * (options["image_tokens"] - first)
    return shift


def scheduler_to_save(config: dict[str, Any], scheduler: str = "ddim") -> Any:
    """A scheduler whose file says what a model's file says, and all options of its own.

    Args:
        config: what the model's file says.
        scheduler: name of the scheduler, one of `SCHEDULERS`.
    """
    kind, words = _scheduler_class(scheduler), said(config)
    options = {name: value for name, value in completed(config, scheduler).items() if name not in OWN_OPTIONS}
    return kind.from_config({name: options[name] for name in options if name in words or name in _options_of(kind)})


def _scheduler_class(name: str) -> Any:
    """The class in diffusers of one of `SCHEDULERS`."""
    from diffusers import (
        DDIMScheduler,
        DDPMScheduler,
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        FlowMatchEulerDiscreteScheduler,
    )

    classes = {
        "ddim": DDIMScheduler,
        "ddpm": DDPMScheduler,
        "euler": EulerDiscreteScheduler,
        "euler-ancestral": EulerAncestralDiscreteScheduler,
        "flow-euler": FlowMatchEulerDiscreteScheduler,
    }
    return classes[name]


def _options_of(scheduler_class: Any) -> Collection[str]:
    """The names of the options of a scheduler of diffusers."""
    return inspect.signature(scheduler_class.__init__).parameters


DEFAULT = Sampling()
"""The settings of functions that are called without any."""

"""How an image is sampled: steps, guidance and scheduler, the same at the edge and on the device."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from ..common.errors import InputError, nearest, shown

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
}
"""Those whose step depends on nothing but the current sample (and a seed): a hand-off of the sample is enough."""
NOISY = {"ddpm", "euler-ancestral"}
"""Those that add noise in each step."""
TRAINED_WITH = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
"""The parts of a scheduler's configuration that a model was trained with."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings that edge and device must share.

    Attributes:
        total_steps: N.
        guidance_scale: of classifier-free guidance; 1 for none.
        negative_prompt: what guidance leads away from.
        scheduler: a key of `SCHEDULERS`.
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
        """The guidance scale, None for no guidance."""
        return self.guidance_scale if self.guidance_scale > 1 else None

    @property
    def noisy(self) -> bool:
        """Whether the scheduler adds noise in each step."""
        return self.scheduler in NOISY

    def make_scheduler(self, config: dict[str, Any]) -> Any:
        """A fresh scheduler with its timesteps set, for a model trained with this configuration."""
        import diffusers

        scheduler = getattr(diffusers, SCHEDULERS[self.scheduler]).from_config(config)
        scheduler.set_timesteps(self.total_steps)
        return scheduler

    def fingerprint(self, config: dict[str, Any]) -> str:
        """A hash of the scheduler and all that decides its steps."""
        scheduler = self.make_scheduler(config)
        decisive = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
        text = json.dumps([SCHEDULERS[self.scheduler], decisive], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

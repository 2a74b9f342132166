"""The batch engine of a running edge, paper section 3.3: images at steps of their own share the passes of one model.

One pass of the UNet a tick serves all images in flight; noise, step indexes and prompts are its three inputs. The
scheduler then steps every group of images with equal steps left. Images join and leave between two ticks, and no image
can tell who else was there. Steps count down, as in `batch`.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...common.errors import InputError
from .batch import initial_noise, step_noise
from .models import Model
from .sampling import Sampling, check_seed
from .step import predict_noise


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image whose first steps run here.

    Attributes:
        name: what the caller knows it by; unique among the images in flight.
        prompt: prompt with the subject's words in it.
        seed: seed of the initial noise, and of each step's noise where the scheduler adds some.
        to_step: n, the steps that are left when it leaves.
        guidance_scale: scale of classifier-free guidance; None for that of the engine's settings.
    """

    name: Hashable
    prompt: str
    seed: int
    to_step: int
    guidance_scale: float | None = None


@dataclass
class Trajectory:
    """The latents that one or more images of equal prompt, seed and guidance share.

    Attributes:
        key: prompt, seed and guidance.
        latents: x_left, shape (channels, height, width).
        condition: embeddings, shape (1, tokens, width); with guidance (2, ...), the unconditional one first.
        guidance: guidance scale; 1 for none.
        left: steps left.
        leaving: image -> steps left when it leaves.
    """

    key: tuple[str, int, float]
    latents: Tensor
    condition: Tensor
    guidance: float
    left: int
    leaving: dict[Hashable, int] = field(default_factory=dict)


class InFlight:
    """Images that step together on one model.

    Attributes:
        model: the model.
        sampling: settings that all images share, but for their guidance.
        most: most trajectories in one pass of the UNet; more take several passes a tick.
        share: whether images of equal prompt, seed and guidance share one trajectory.
        shared: images so far that found their trajectory on its way.
    """

    def __init__(self, model: Model, sampling: Sampling, most: int = 64, share: bool = True) -> None:
        self.model, self.sampling, self.most, self.share, self.shared = model, sampling, most, share, 0
        self._trajectories: list[Trajectory] = []
        self._embedded: dict[str, Tensor] = {}
        self._clock = SchedulerPool(model, sampling)

    def __len__(self) -> int:
        return sum(len(trajectory.leaving) for trajectory in self._trajectories)

    def steps_left(self) -> dict[Hashable, int]:
        """Steps that every image still takes here, by its name."""
        return {
            name: trajectory.left - to_step
            for trajectory in self._trajectories
            for name, to_step in trajectory.leaving.items()
        }

    def add(self, image: Image) -> None:
        """Let an image join before the next tick; it takes N - to_step steps.

        Raises:
            InputError: for a split out of range, a seed or a prompt that the model cannot take.
        """
        total = self.sampling.total_steps
        if not 0 <= image.to_step < total:
            raise InputError(f"local steps: found {image.to_step}, accepted: 0 to N - 1 = {total - 1}")
        check_seed(image.seed)
        guidance = self.sampling.guidance_scale if image.guidance_scale is None else image.guidance_scale
        known = self._on_its_way((image.prompt, image.seed, guidance), image.to_step) if self.share else None
        if known is not None:
            self.shared += 1
            known.leaving[image.name] = image.to_step
            return
        noise = initial_noise(self.model, [image.seed], self.sampling)[0]
        key = image.prompt, image.seed, guidance
        condition = self._condition(image.prompt, guidance > 1)
        self._trajectories.append(Trajectory(key, noise, condition, guidance, total, {image.name: image.to_step}))

    def cancel(self, name: Hashable) -> None:
        """Let an image go, if it is here; others that share its trajectory go on."""
        for trajectory in self._trajectories:
            trajectory.leaving.pop(name, None)
        self._forget()

    def tick(self) -> dict[Hashable, Tensor]:
        """One step of every image; returns the latents x_n of those that leave, on the model's device.

        An image that joined a trajectory exactly at its own split leaves with the next tick's images, one step earlier
        on that trajectory's way.
        """
        done = self._leave()
        self._clock.turn()
        for start in range(0, len(self._trajectories), self.most):
            self._step(self._trajectories[start : start + self.most])
        return done | self._leave()

    # -- trajectories ---------------------------------------------------------------------------------------

    def _on_its_way(self, key: tuple[str, int, float], to_step: int) -> Trajectory | None:
        """A trajectory of this key that has not passed the split."""
        return next((t for t in self._trajectories if t.key == key and t.left >= to_step), None)

    def _leave(self) -> dict[Hashable, Tensor]:
        """Let images go that have reached their split."""
        done: dict[Hashable, Tensor] = {}
        for trajectory in self._trajectories:
            for name in [name for name, to_step in trajectory.leaving.items() if to_step == trajectory.left]:
                del trajectory.leaving[name]
                done[name] = trajectory.latents
        self._forget()
        return done

    def _forget(self) -> None:
        """Drop trajectories that nobody waits for, and embeddings that none of them needs."""
        if all(trajectory.leaving for trajectory in self._trajectories):
            return
        self._trajectories = [trajectory for trajectory in self._trajectories if trajectory.leaving]
        needed = {trajectory.key[0] for trajectory in self._trajectories} | {self.sampling.negative_prompt}
        self._embedded = {prompt: value for prompt, value in self._embedded.items() if prompt in needed}

    def _condition(self, prompt: str, guided: bool) -> Tensor:
        conditional = self._embedding(prompt)
        return torch.cat([self._embedding(self.sampling.negative_prompt), conditional]) if guided else conditional

    def _embedding(self, prompt: str) -> Tensor:
        if prompt not in self._embedded:
            self._embedded[prompt] = self.model.embed([prompt])
        return self._embedded[prompt]

    # -- a tick ---------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _step(self, trajectories: Sequence[Trajectory]) -> None:
        """One pass of the UNet over these trajectories, and the scheduler's step of each."""
        for guided in (False, True):
            chosen = [trajectory for trajectory in trajectories if (trajectory.guidance > 1) == guided]
            if chosen:
                self._step_alike(chosen, guided)

    def _step_alike(self, trajectories: list[Trajectory], guided: bool) -> None:
        """The same for trajectories that all have guidance, or none."""
        groups = list(self._clock.groups(trajectories))
        ordered = [trajectory for group in groups for trajectory in group.trajectories]
        inputs = torch.cat([group.scaled() for group in groups])
        timesteps = torch.cat([group.timesteps(self.model.device) for group in groups])
        conditions = torch.stack([trajectory.condition for trajectory in ordered], dim=1).flatten(0, 1)
        scale = self._scale(ordered) if guided else None
        predictions = predict_noise(self.model.unet, inputs, _doubled(timesteps, guided), conditions, scale)
        start = 0
        for group in groups:
            end = start + len(group.trajectories)
            group.step(predictions[start:end], self.sampling.noisy)
            start = end

    def _scale(self, trajectories: Sequence[Trajectory]) -> Any:
        """The guidance scale, of each trajectory where they differ; broadcast against latents."""
        scales = [trajectory.guidance for trajectory in trajectories]
        if len(set(scales)) == 1:
            return scales[0]
        return torch.tensor(scales, device=self.model.device, dtype=self.model.dtype)[:, None, None, None]


def _doubled(timesteps: Tensor, guided: bool) -> Tensor:
    """The timesteps of both halves of a guided pass."""
    return torch.cat([timesteps, timesteps]) if guided else timesteps


@dataclass
class StepGroup:
    """Trajectories with equal steps left, and the scheduler that is ready for their step.

    Attributes:
        scheduler: a diffusers scheduler.
        timestep: timestep of the step, in the host's memory.
        trajectories: the trajectories.
    """

    scheduler: Any
    timestep: Tensor
    trajectories: list[Trajectory]

    @property
    def latents(self) -> Tensor:
        """x_left of all of them, shape (trajectories, channels, height, width)."""
        return torch.stack([trajectory.latents for trajectory in self.trajectories])

    def scaled(self) -> Tensor:
        """What the UNet gets of them."""
        scaled: Tensor = self.scheduler.scale_model_input(self.latents, self.timestep)
        return scaled

    def timesteps(self, device: torch.device) -> Tensor:
        """The timestep of each, shape (trajectories,)."""
        return self.timestep.to(device).expand(len(self.trajectories))

    def step(self, predictions: Tensor, noisy: bool) -> None:
        """Take the scheduler's step of all of them."""
        noise = {}
        if noisy:
            noise = {"generator": [step_noise(t.key[1], t.left) for t in self.trajectories]}
        stepped = self.scheduler.step(predictions, self.timestep, self.latents, **noise, return_dict=False)[0]
        for trajectory, latents in zip(self.trajectories, stepped, strict=True):
            trajectory.latents, trajectory.left = latents, trajectory.left - 1


class SchedulerPool:
    """Schedulers for groups at different steps.

    Some schedulers of diffusers count their own steps. So each serves one group after another only while the steps
    follow each other; a group at another step takes another one, or a fresh one.
    """

    def __init__(self, model: Model, sampling: Sampling) -> None:
        self._model, self._sampling = model, sampling
        self._ready: dict[int, list[Any]] = {}  # steps left -> schedulers that are ready for that step
        self._next: dict[int, list[Any]] = {}  # the same for the next tick

    def turn(self) -> None:
        """Begin a tick; schedulers that the last one did not need are dropped."""
        self._ready, self._next = self._next, {}

    def groups(self, trajectories: Sequence[Trajectory]) -> Iterator[StepGroup]:
        """The trajectories in groups of equal steps left, most first; every group must then take its step."""
        by_left: dict[int, list[Trajectory]] = {}
        for trajectory in trajectories:
            by_left.setdefault(trajectory.left, []).append(trajectory)
        for left in sorted(by_left, reverse=True):
            index, ready = self._sampling.total_steps - left, self._ready.get(left)
            scheduler = ready.pop() if ready else self._fresh(index)
            self._next.setdefault(left - 1, []).append(scheduler)
            yield StepGroup(scheduler, scheduler.timesteps[index], by_left[left])

    def _fresh(self, index: int) -> Any:
        scheduler = self._sampling.make_scheduler(self._model.scheduler_config)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(index)
        return scheduler

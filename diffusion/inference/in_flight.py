"""The batch engine, paper section 3.3: images at steps of their own share the passes of one model.

One pass of the network a tick serves all images in flight; noise, step indexes and prompts are its three inputs. The
scheduler then steps all of them at once where its steps are linear, else every group with equal steps left. Images join
and leave between two ticks, and no image can tell who else was there.

Steps count down as in the paper: step N runs first, step 1 last. x_s is the intermediate with s steps left, so x_N is
the initial noise and x_0 the finished latents; step s makes x_{s-1} of x_s.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...common.errors import InputError
from .families.base import Conditions, Model
from .linear_steps import ready_for, schedule_of
from .noise import drawn_noise, step_noise
from .sampling import Sampling, check_seed
from .step import predict, scaled_input

HOST = "cpu"
"""The kind of device whose tensors can be looked at without waiting for it."""


class NotFiniteError(InputError):
    """Latents became NaN or infinite.

    Attributes:
        image: name of the image.
        step: the first step after which it was so.
    """

    def __init__(self, message: str, image: Any, step: int) -> None:
        super().__init__(message)
        self.image, self.step = image, step


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image some of whose steps run here.

    Attributes:
        name: what the caller knows it by; unique among the images in flight.
        prompt: prompt with the subject's words in it.
        seed: seed of the initial noise, and of each step's noise where the scheduler adds some.
        to_step: n, the steps that are left when it leaves.
        from_step: the steps that are left when it joins; None for N.
        latents: x_from, shape (channels, height, width), on the model's device; None for the noise of the seed.
        guidance_scale: scale of classifier-free guidance; None for that of the engine's settings.
    """

    name: Hashable
    prompt: str
    seed: int = 0
    to_step: int = 0
    from_step: int | None = None
    latents: Tensor | None = None
    guidance_scale: float | None = None


@dataclass
class Trajectory:
    """The latents that one or more images of equal prompt, seed and guidance share.

    Attributes:
        prompt: prompt with the subject's words in it.
        seed: seed of the noise.
        guidance: guidance scale; 1 for none.
        latents: x_left, shape (channels, height, width).
        finite: number of its steps after which the latents were finite, on the model's device.
        left: steps left.
        taken: steps taken here.
        shareable: whether it began from the noise of its seed, so that others may join it.
        leaving: image -> steps left when it leaves.
    """

    prompt: str
    seed: int
    guidance: float
    latents: Tensor
    finite: Tensor
    left: int
    taken: int = 0
    shareable: bool = True
    leaving: dict[Hashable, int] = field(default_factory=dict)

    def serves(self, image: Image, guidance: float) -> bool:
        """Whether it comes by the step at which an image leaves that begins from the noise of its seed."""
        same = (self.prompt, self.seed, self.guidance) == (image.prompt, image.seed, guidance)
        return same and self.shareable and self.left >= image.to_step


class InFlight:
    """Images that step together on one model.

    Attributes:
        model: the model.
        sampling: settings that all images share, but for their guidance.
        most: most trajectories in one pass of the network; more take several passes a tick. None for no bound.
        share: whether images of equal prompt, seed and guidance share one trajectory.
        shared: images so far that found their trajectory on its way.
        stepped: trajectories that the last tick stepped.
    """

    def __init__(self, model: Model, sampling: Sampling, most: int | None = None, share: bool = True) -> None:
        self.model, self.sampling, self.most, self.share = model, sampling, most, share
        self.shared = self.stepped = 0
        self._device = model.device  # diffusers looks through the whole network for it
        self._trajectories: list[Trajectory] = []
        self._prompts = Prompts(model, sampling.negative_prompt)
        self._schedulers = SchedulerPool(model, sampling)

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
        """Let an image join before the next tick; it takes its steps from - to.

        Raises:
            InputError: for steps out of range, a seed or a prompt that the model cannot take.
        """
        first = self._first_step(image)
        guidance = self.sampling.guidance_scale if image.guidance_scale is None else image.guidance_scale
        shareable = self.share and image.latents is None and first == self.sampling.total_steps
        known = next((t for t in self._trajectories if t.serves(image, guidance)), None) if shareable else None
        if known is None:
            self._trajectories.append(self._begun(image, first, guidance, shareable))
        else:
            self.shared += 1
            known.leaving[image.name] = image.to_step

    def revise(self, name: Hashable, to_step: int) -> int:
        """Let an image leave with other steps left; one that has fewer already leaves with the next tick.

        Args:
            name: its name.
            to_step: n, the steps that are left when it leaves.

        Returns:
            the steps that will be left.

        Raises:
            KeyError: where the image is not here.
        """
        for trajectory in self._trajectories:
            if name in trajectory.leaving:
                trajectory.leaving[name] = min(max(0, to_step), trajectory.left)
                return trajectory.leaving[name]
        raise KeyError(name)

    def cancel(self, name: Hashable) -> None:
        """Let an image go, if it is here; others that share its trajectory go on."""
        for trajectory in self._trajectories:
            trajectory.leaving.pop(name, None)
        self._forget()

    def tick(self) -> dict[Hashable, Tensor | NotFiniteError]:
        """One step of every image; returns the latents x_n of those that leave, on the model's device.

        An image whose latents became NaN or infinite leaves with the error in their place: on the CPU at once, on a GPU
        with its last step, so that no step makes the host wait. An image that takes no step here, or joined a
        trajectory exactly at its own split, leaves with this tick's images.
        """
        done = self._leave()
        self._schedulers.turn()
        self.stepped, most = len(self._trajectories), self.most or max(1, len(self._trajectories))
        for start in range(0, self.stepped, most):
            self._step(self._trajectories[start : start + most])
        return done | self._broken() | self._leave()

    # -- trajectories ---------------------------------------------------------------------------------------

    def _first_step(self, image: Image) -> int:
        """The steps that are left when an image joins; one that cannot run is refused."""
        total = self.sampling.total_steps
        first = total if image.from_step is None else image.from_step
        if not 0 <= image.to_step <= first <= total:
            raise InputError(f"steps: found {first} to {image.to_step}, accepted: from N = {total} down to 0")
        check_seed(image.seed)
        self._prompts.check(image.prompt)
        return first

    def _begun(self, image: Image, first: int, guidance: float, shareable: bool) -> Trajectory:
        """The trajectory of an image that finds none on its way."""
        latents = image.latents
        if latents is None:
            (latents,) = drawn_noise(self.model, [image.seed], self._schedulers.first)
        return Trajectory(
            prompt=image.prompt,
            seed=image.seed,
            guidance=guidance,
            latents=latents,
            finite=torch.zeros((), dtype=torch.int32, device=self._device),
            left=first,
            shareable=shareable,
            leaving={image.name: image.to_step},
        )

    def _leave(self) -> dict[Hashable, Tensor | NotFiniteError]:
        """Let images go that have reached their split."""
        leaving = [t for t in self._trajectories if t.left in t.leaving.values()]
        done: dict[Hashable, Tensor | NotFiniteError] = {}
        for trajectory, finite in zip(leaving, self._finite_steps(leaving), strict=True):
            for name in [name for name, to_step in trajectory.leaving.items() if to_step == trajectory.left]:
                del trajectory.leaving[name]
                done[name] = (
                    trajectory.latents.clone()  # not a view that keeps the latents of its whole group
                    if finite == trajectory.taken
                    else self._error(trajectory, finite, name)
                )
        self._forget()
        return done

    def _broken(self) -> dict[Hashable, NotFiniteError]:
        """Let images go whose latents are not finite, where looking at them costs nothing."""
        if self._device.type != HOST:
            return {}
        broken: dict[Hashable, NotFiniteError] = {}
        for trajectory, finite in zip(self._trajectories, self._finite_steps(self._trajectories), strict=True):
            if finite < trajectory.taken:
                broken |= {name: self._error(trajectory, finite, name) for name in trajectory.leaving}
                trajectory.leaving.clear()
        self._forget()
        return broken

    def _finite_steps(self, trajectories: Sequence[Trajectory]) -> list[int]:
        steps: list[int] = torch.stack([t.finite for t in trajectories]).cpu().tolist() if trajectories else []
        return steps

    def _error(self, trajectory: Trajectory, finite: int, name: Hashable) -> NotFiniteError:
        """The error of an image that was finite after some steps, and not after the next one."""
        step = trajectory.left + trajectory.taken - finite
        return NotFiniteError(_not_finite(self.model, self.sampling, step), name, step)

    def _forget(self) -> None:
        """Drop trajectories that nobody waits for."""
        if not all(trajectory.leaving for trajectory in self._trajectories):
            self._trajectories = [trajectory for trajectory in self._trajectories if trajectory.leaving]
            self._prompts.forget(self._trajectories)

    # -- a tick ---------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _step(self, trajectories: Sequence[Trajectory]) -> None:
        """One pass of the network over these trajectories, and the scheduler's step of each."""
        for guided in (False, True):
            chosen = [t for t in trajectories if self.model.is_doubled(t.guidance) == guided]
            if chosen:
                self._step_alike(chosen, guided)

    def _step_alike(self, trajectories: list[Trajectory], guided: bool) -> None:
        """The same for trajectories that all have guidance, or none."""
        groups = list(self._schedulers.groups(trajectories))
        ordered = [trajectory for group in groups for trajectory in group.trajectories]
        inputs = torch.cat([group.scaled() for group in groups])
        timesteps = torch.cat([group.timesteps() for group in groups])
        conditions, scale = self._prompts.of(ordered, guided)
        predictions = predict(self.model, self.model.network, inputs, timesteps, conditions, scale)
        start = 0
        for group in groups:
            end = start + len(group.trajectories)
            group.step(predictions[start:end])
            start = end


def _not_finite(model: Model, sampling: Sampling, step: int) -> str:
    """The message of a step that made NaN or infinity."""
    if sampling.lacks_signal(model.scheduler_config):
        remedy = (
            "its scheduler_config.json leaves no signal in the first step (rescale_betas_zero_snr), of which a model "
            "with prediction_type epsilon can make nothing; correct one of the two"
        )
    elif model.dtype == torch.float16:
        remedy = "numbers were too large for fp16; try --dtype fp32 or bf16"
    else:
        remedy = "its weights or its scheduler_config.json are damaged, or belong to another model; export it again"
    return f"{model.name}: step {step} of {sampling.total_steps} made latents that are not finite; {remedy}"


class Prompts:
    """The conditions of the prompts in flight; those of a whole pass are kept while the same images take part."""

    def __init__(self, model: Model, negative_prompt: str) -> None:
        self._model, self._negative_prompt = model, negative_prompt
        self._new: list[str] = []
        self._known: dict[str, Conditions] = {}
        self._nothing: Conditions | None = None
        self._passes: dict[tuple[bool, tuple[int, ...]], tuple[Conditions, Any]] = {}

    def check(self, prompt: str) -> None:
        """Note the prompt of a new image for the next pass.

        Raises:
            InputError: for one that the model cannot take.
        """
        self._passes.clear()
        if prompt not in self._known and prompt not in self._new:
            self._model.check_prompts([prompt])
            self._new.append(prompt)

    def forget(self, trajectories: Sequence[Trajectory]) -> None:
        """Drop what none of the trajectories needs."""
        needed = {trajectory.prompt for trajectory in trajectories}
        self._new = [prompt for prompt in self._new if prompt in needed]
        self._known = {prompt: value for prompt, value in self._known.items() if prompt in needed}
        self._passes.clear()

    def of(self, trajectories: Sequence[Trajectory], guided: bool) -> tuple[Conditions, Any]:
        """The conditions of a pass.

        Returns:
            by name a row for each trajectory, with guidance those of the unconditional half first; and the guidance
            scale, one of each trajectory where they differ, None without guidance.
        """
        key = guided, tuple(map(id, trajectories))
        if key not in self._passes:
            self._encode()
            self._passes[key] = self._rows(trajectories, guided), self._scale(trajectories) if guided else None
        return self._passes[key]

    def _encode(self) -> None:
        """Encode what is new, all at once."""
        if self._new:
            rows = self._model.encode(self._new)
            for i, prompt in enumerate(self._new):
                self._known[prompt] = {name: values[i : i + 1].clone() for name, values in rows.items()}
        self._new = []

    def _rows(self, trajectories: Sequence[Trajectory], guided: bool) -> Conditions:
        rows = [self._model.with_guidance(self._known[t.prompt], t.guidance) for t in trajectories]
        if guided and self._nothing is None:
            self._nothing = self._model.encode_nothing(self._negative_prompt)
        unconditional = [self._nothing] * len(rows) if guided and self._nothing else []
        every = [*unconditional, *rows]
        return {name: torch.cat([row[name] for row in every]) for name in every[0]}

    def _scale(self, trajectories: Sequence[Trajectory]) -> Any:
        """The guidance scale; where they differ a tensor in fp32, as a number is multiplied in any format."""
        scales = [trajectory.guidance for trajectory in trajectories]
        if len(set(scales)) == 1:
            return scales[0]
        return torch.tensor(scales, device=self._model.device)[:, None, None, None]


@dataclass
class StepGroup(ABC):
    """Trajectories that take their scheduler's step in one go.

    Attributes:
        trajectories: the trajectories.
    """

    trajectories: list[Trajectory]

    @cached_property
    def latents(self) -> Tensor:
        """x_left of all of them, shape (trajectories, channels, height, width)."""
        return torch.stack([trajectory.latents for trajectory in self.trajectories])

    @abstractmethod
    def scaled(self) -> Tensor:
        """What the network gets of them."""

    @abstractmethod
    def timesteps(self) -> Tensor:
        """The timestep of each, shape (trajectories,), in the model's memory."""

    @abstractmethod
    def stepped(self, predictions: Tensor) -> Tensor:
        """What the scheduler makes of their latents and these predictions."""

    def step(self, predictions: Tensor) -> None:
        """Take the scheduler's step of all of them."""
        stepped = self.stepped(predictions)
        finite = torch.stack([t.finite for t in self.trajectories]) + stepped.isfinite().flatten(1).all(1)
        for trajectory, latents, count in zip(self.trajectories, stepped, finite, strict=True):
            trajectory.latents, trajectory.finite = latents, count
            trajectory.left, trajectory.taken = trajectory.left - 1, trajectory.taken + 1


@dataclass
class EqualGroup(StepGroup):
    """Trajectories with equal steps left, which the scheduler steps itself.

    Attributes:
        scheduler: a diffusers scheduler that is ready for their step.
        timestep: timestep of the step, in the host's memory, for the scheduler.
        on_device: the same in the model's memory; a copy in every step would make the host wait.
        noisy: whether the scheduler adds noise.
    """

    scheduler: Any
    timestep: Tensor
    on_device: Tensor
    noisy: bool

    def scaled(self) -> Tensor:
        """What the network gets of them."""
        return scaled_input(self.scheduler, self.latents, self.timestep)

    def timesteps(self) -> Tensor:
        """The timestep of each."""
        return self.on_device.expand(len(self.trajectories))

    def stepped(self, predictions: Tensor) -> Tensor:
        """What the scheduler makes of them."""
        noise = {"generator": [step_noise(t.seed, t.left) for t in self.trajectories]} if self.noisy else {}
        stepped: Tensor = self.scheduler.step(predictions, self.timestep, self.latents, **noise, return_dict=False)[0]
        return stepped


@dataclass
class LinearGroup(StepGroup):
    """Trajectories at steps of their own, which are linear.

    Attributes:
        numbers: those of each trajectory's step, see `linear_steps.Schedule`; shape (3, trajectories, 1, 1, 1), fp32.
        on_device: the timestep of each, shape (trajectories,), in the model's memory.
    """

    numbers: Tensor
    on_device: Tensor

    def scaled(self) -> Tensor:
        """What the network gets of them."""
        return (self.numbers[2] * self.latents).to(self.latents.dtype)

    def timesteps(self) -> Tensor:
        """The timestep of each."""
        return self.on_device

    def stepped(self, predictions: Tensor) -> Tensor:
        """What the scheduler would make of them, one after another."""
        a, b, _ = self.numbers
        stepped: Tensor = (a * self.latents + b * predictions).to(self.latents.dtype)
        return stepped


class SchedulerPool:
    """The scheduler's steps of trajectories at different ones.

    Linear steps are taken together. Other schedulers of diffusers may count their own steps: so each serves one group
    after another only while the steps follow each other; a group at another step takes another one, or a fresh copy of
    the first, which takes no steps.

    Attributes:
        first: the scheduler that the others are copied from.
    """

    def __init__(self, model: Model, sampling: Sampling) -> None:
        schedule = schedule_of(sampling, model.scheduler_config)
        self.first, self._linear = schedule.scheduler, schedule.linear
        self._total_steps, self._noisy = sampling.total_steps, sampling.noisy
        self._ready: dict[int, list[Any]] = {}  # steps left -> schedulers that are ready for that step
        self._next: dict[int, list[Any]] = {}  # the same for the next tick
        self._timesteps = self.first.timesteps.to(model.device).unbind()  # where the network is, as are the numbers
        self._numbers = schedule.numbers.to(model.device).unbind()

    def turn(self) -> None:
        """Begin a tick; schedulers that the last one did not need are dropped."""
        self._ready, self._next = self._next, {}

    def groups(self, trajectories: Sequence[Trajectory]) -> Iterator[StepGroup]:
        """The trajectories in groups, those with linear steps first; every group must then take its step."""
        linear: list[Trajectory] = []
        by_left: dict[int, list[Trajectory]] = {}
        for trajectory in trajectories:
            alike = linear if self._linear[self._index(trajectory.left)] else by_left.setdefault(trajectory.left, [])
            alike.append(trajectory)
        if linear:
            indexes = [self._index(trajectory.left) for trajectory in linear]
            numbers = torch.stack([self._numbers[index] for index in indexes], dim=1)
            timesteps = torch.stack([self._timesteps[index] for index in indexes])
            yield LinearGroup(linear, numbers[..., None, None, None], timesteps)
        for left in sorted(by_left, reverse=True):
            index, ready = self._index(left), self._ready.get(left)
            scheduler = ready.pop() if ready else ready_for(self.first, index)
            self._next.setdefault(left - 1, []).append(scheduler)
            timestep = self.first.timesteps[index]
            yield EqualGroup(by_left[left], scheduler, timestep, self._timesteps[index], self._noisy)

    def _index(self, left: int) -> int:
        """The number of a step, from 0."""
        return self._total_steps - left

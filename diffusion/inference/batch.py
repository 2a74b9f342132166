"""The batch engine, paper section 3.3: samples with own prompts, first and last steps share the passes of one model.

Steps count down as in the paper: step N runs first, step 1 last. x_s is the intermediate with s steps left, so x_N is
the initial noise and x_0 the finished latents; step s makes x_{s-1} of x_s.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...common.errors import InputError
from ...common.progress import Progress
from .models import Model
from .sampling import DEFAULT, Sampling
from .step import Timestep, denoise_step
from .templates import PLAIN


class NotFiniteError(InputError):
    """Latents became NaN or infinite.

    Attributes:
        sample: number of the sample in its batch.
        step: the first step after which it was so.
    """

    def __init__(self, message: str, sample: int, step: int) -> None:
        super().__init__(message)
        self.sample, self.step = sample, step


HOST = "cpu"
"""The kind of device whose tensors can be looked at without waiting for it."""
StepCount = Callable[[int], None]
"""Called after each step with the number of samples in its batch."""


@dataclass
class Batch:
    """Samples to denoise together.

    Attributes:
        model: the model that runs their steps.
        sampling: settings that they share.
        latents: x_from of every sample, shape (samples, channels, height, width).
        prompts: prompt of every sample.
        from_step: steps that every sample has left at the start.
        to_step: steps that every sample has left at the end.
        seeds: seed of every sample's noise, for schedulers that add some.
    """

    model: Model
    sampling: Sampling
    latents: Tensor
    prompts: Sequence[str]
    from_step: Sequence[int]
    to_step: Sequence[int]
    seeds: Sequence[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        total, samples = self.sampling.total_steps, len(self.latents)
        if not samples == len(self.prompts) == len(self.from_step) == len(self.to_step):
            raise ValueError(f"{samples} latents need as many prompts and steps")
        for first, last in zip(self.from_step, self.to_step, strict=True):
            if not 0 <= last <= first <= total:
                raise InputError(f"steps: found {first} to {last}, accepted: from N = {total} down to 0")
        if self.sampling.noisy and len(self.seeds) != samples:
            raise InputError(
                f"seeds: found {len(self.seeds)} for {samples} samples, accepted: one of each, as "
                f"{self.sampling.scheduler} adds noise"
            )

    @property
    def steps(self) -> range:
        """Every step that some sample may need, the first one first."""
        return range(max(self.from_step, default=0), min(self.to_step, default=0), -1)

    def present(self, step: int) -> list[int]:
        """Numbers of the samples that take part in a step."""
        return [i for i, (a, b) in enumerate(zip(self.from_step, self.to_step, strict=True)) if a >= step > b]

    def embeddings(self) -> Tensor:
        """Text embeddings, shape (1, samples, tokens, width); with guidance (2, ...), unconditional ones first."""
        conditional = self.model.embed(self.prompts)
        if self.sampling.guided is None:
            return conditional[None]
        unconditional = self.model.embed([self.sampling.negative_prompt])
        return torch.stack([unconditional.expand_as(conditional), conditional])


def run_steps(batch: Batch) -> Iterator[tuple[int, list[int], Tensor]]:
    """Run a batch; a sample joins it at its own first step and leaves it after its last.

    Yields:
        after each step s: s - 1, the numbers of the samples that took part, and the latents of all samples, of those
        that took part x_{s-1}. The latents are one tensor, which the next step changes.

    Raises:
        NotFiniteError: for NaN or infinity; on a GPU after the last step, so that no step makes the host wait.
    """
    if not batch.steps:
        return
    latents, embeddings = batch.latents.clone(), batch.embeddings()
    clock, watch = _Clock(batch.model, batch.sampling), _Watch(batch)
    active: list[int] = []
    rows: Any = None  # the active samples' numbers, on the model's device
    conditions: Any = None  # their embeddings
    for step in batch.steps:
        present = batch.present(step)
        if not present:
            continue
        if present != active:  # whatever is copied to a GPU in every step makes the host wait
            active, rows = present, torch.tensor(present, device=latents.device)
            conditions = embeddings[:, rows].flatten(0, 1)
        scheduler, timestep = clock.at(step)
        noises = [step_noise(batch.seeds[i], step) for i in active] if batch.sampling.noisy else None
        with torch.inference_mode():
            stepped = denoise_step(
                batch.model.unet,
                scheduler,
                latents[rows],
                timestep,
                conditions,
                batch.sampling.guided,
                generators=noises,
            )
            latents[rows] = stepped
            watch.note(rows, stepped, step)
        yield step - 1, active, latents
    watch.check(to_step=0)


def initial_noise(model: Model, seeds: Sequence[int], sampling: Sampling = DEFAULT) -> Tensor:
    """x_N of each seed, shape (seeds, channels, height, width): what diffusers' pipelines draw from it."""
    draws = [torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    scale = float(sampling.make_scheduler(model.scheduler_config).init_noise_sigma)
    return torch.cat(draws).to(model.device, model.dtype) * scale


def denoise(
    model: Model,
    latents: Tensor,
    prompts: Sequence[str],
    from_step: int | Sequence[int],
    to_step: int | Sequence[int],
    sampling: Sampling = DEFAULT,
    seeds: Sequence[int] = (),
    count: StepCount | None = None,
) -> Tensor:
    """x_from -> x_to of every sample: steps from, from - 1, ..., to + 1.

    Args:
        model: the model that runs the steps.
        latents: x_from, shape (samples, channels, height, width); they are not changed.
        prompts: one prompt per sample, with the subject's words in it.
        from_step: steps left at the start, of all samples or of each.
        to_step: steps left at the end, of all samples or of each.
        sampling: settings that the samples share.
        seeds: one seed per sample, for schedulers that add noise.
        count: called after each step with the batch's size.

    Returns:
        x_to, in the shape, order and dtype of the latents, on the model's device.

    Raises:
        InputError: for steps out of range.
    """
    samples = len(latents)
    first, last = ([s] * samples if isinstance(s, int) else list(s) for s in (from_step, to_step))
    batch = Batch(model, sampling, latents.to(model.device, model.dtype), prompts, first, last, seeds)
    result = batch.latents.clone()
    for _, active, stepped in run_steps(batch):
        result = stepped
        if count:
            count(len(active))
    return result


def generate(
    model: Model,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling = DEFAULT,
    count: StepCount | None = None,
) -> Tensor:
    """Pictures of one model alone, all N steps: shape (prompts, 3, height, width), values 0 to 1."""
    noise = initial_noise(model, seeds, sampling)
    return model.decode(denoise(model, noise, prompts, sampling.total_steps, 0, sampling, seeds, count))


def intermediates(
    model: Model,
    prompts: Sequence[str],
    seeds: Sequence[int],
    splits: Collection[int],
    sampling: Sampling,
    count: StepCount | None = None,
) -> dict[int, Tensor]:
    """x_n of every prompt at several splits n, from one pass of the edge: N - min n steps of each prompt.

    Returns:
        n -> latents, shape (prompts, channels, height, width).
    """
    total, samples = sampling.total_steps, len(prompts)
    noise = initial_noise(model, seeds, sampling)
    stored = {total: noise} if total in splits else {}
    last = min([total, *splits])
    batch = Batch(model, sampling, noise, prompts, [total] * samples, [last] * samples, seeds)
    for left, active, latents in run_steps(batch):
        if left in splits:
            stored[left] = latents.clone()
        if count:
            count(len(active))
    return stored


def timed_step(model: Model, samples: int, sampling: Sampling) -> Callable[[], Tensor]:
    """A function that runs one step of a batch of any pictures, for its duration."""
    seeds, prompts = range(samples), [model.prompt(PLAIN)] * samples
    noise, total = initial_noise(model, seeds, sampling), sampling.total_steps
    return lambda: denoise(model, noise, prompts, total, total - 1, sampling, seeds)


def summed(progress: Progress) -> StepCount:
    """A function for `count` that says to a progress bar how many steps there were in all."""
    done = 0

    def count(samples: int) -> None:
        nonlocal done
        done += samples
        progress(done)

    return count


class _Clock:
    """The scheduler at the steps that are asked for.

    Some schedulers count their steps themselves, so that a gap between two steps needs a fresh one.
    """

    def __init__(self, model: Model, sampling: Sampling) -> None:
        self._model, self._sampling = model, sampling
        self._next = -1
        self._scheduler: Any = None
        self._on_device: Any = None  # all timesteps, where the UNet is

    def at(self, step: int) -> tuple[Any, Timestep]:
        """The scheduler, ready for a step, and the step's timestep."""
        index = self._sampling.total_steps - step
        if step != self._next:
            self._start(index)
        self._next = step - 1
        return self._scheduler, Timestep(self._scheduler.timesteps[index], self._on_device[index])

    def _start(self, index: int) -> None:
        self._scheduler = self._sampling.make_scheduler(self._model.scheduler_config)
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(index)
        self._on_device = self._scheduler.timesteps.to(self._model.device)


class _Watch:
    """Counts the steps after which each sample's latents were finite."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._finite = torch.zeros(len(batch.latents), dtype=torch.int32, device=batch.latents.device)

    def note(self, rows: Tensor, latents: Tensor, step: int) -> None:
        """Count a step of some samples; on the CPU, where that costs nothing, it is checked at once."""
        self._finite[rows] += latents.isfinite().flatten(1).all(1).int()
        if latents.device.type == HOST:
            self.check(to_step=step - 1)

    def check(self, to_step: int) -> None:
        """Refuse the first sample that was not finite after a step, of all steps until few are left.

        Raises:
            NotFiniteError: naming the model and the step.
        """
        batch = self._batch
        for sample, finite in enumerate(self._finite.cpu().tolist()):
            first, last = batch.from_step[sample], max(to_step, batch.to_step[sample])
            if finite < first - last:
                step = first - finite
                raise NotFiniteError(_not_finite(batch, step), sample, step)


def _not_finite(batch: Batch, step: int) -> str:
    """The message of a step that made NaN or infinity."""
    model, sampling = batch.model, batch.sampling
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


def step_noise(seed: int, step: int) -> torch.Generator:
    """The source of one sample's noise in one step: the same on either side of the split and in any batch."""
    return torch.Generator().manual_seed((seed * 100_003 + step) % 2**63)

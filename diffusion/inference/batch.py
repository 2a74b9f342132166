"""Batches whose images are all known at the start, on the engine of `in_flight`.

Samples with own prompts, first and last steps share the passes of one model, and leave when they are done.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor

from ...common.errors import InputError
from ...common.progress import Progress
from .families.base import Model
from .in_flight import Image, InFlight, NotFiniteError
from .noise import initial_noise
from .sampling import DEFAULT, Sampling
from .templates import PLAIN

StepCount = Callable[[int], None]
"""Called after each step with the number of samples in its batch."""


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
        NotFiniteError: for NaN or infinity; it names the sample by its number.
    """
    samples = len(latents)
    first, last = ([s] * samples if isinstance(s, int) else list(s) for s in (from_step, to_step))
    if sampling.noisy and len(seeds) != samples:
        raise InputError(
            f"seeds: found {len(seeds)} for {samples} samples, accepted: one of each, as {sampling.scheduler} adds "
            "noise"
        )
    own_seeds = seeds if sampling.noisy else [0] * samples
    images = [
        Image(name=name, prompt=prompt, seed=seed, from_step=start, to_step=end, latents=x)
        for name, (x, prompt, start, end, seed) in enumerate(
            zip(latents.to(model.device, model.dtype), prompts, first, last, own_seeds, strict=True)
        )
    ]
    if not images:
        return latents.clone()
    done = finished(InFlight(model, sampling), images, count)
    return torch.stack([done[name] for name in range(samples)])


def finished(engine: InFlight, images: Iterable[Image], count: StepCount | None = None) -> dict[object, Tensor]:
    """Run images on an engine until all have left; returns their latents by their names.

    Raises:
        InputError: for steps out of range, a seed or a prompt that the model cannot take.
        NotFiniteError: naming the first image whose latents became NaN or infinite.
    """
    for image in images:
        engine.add(image)
    done: dict[object, Tensor] = {}
    while len(engine):
        leaving = engine.tick()
        if count and engine.stepped:
            count(engine.stepped)
        for name, latents in leaving.items():
            if isinstance(latents, NotFiniteError):
                raise latents
            done[name] = latents
    return done


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
    """x_n of every prompt at several splits n, from one trajectory each: N - min n steps of each prompt.

    Returns:
        n -> latents, shape (prompts, channels, height, width).

    Raises:
        NotFiniteError: it names the image by the number of its prompt and its split.
    """
    images = [
        Image(name=(number, n), prompt=prompt, seed=seed, to_step=n)
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        for n in sorted(splits, reverse=True)
    ]
    done = finished(InFlight(model, sampling), images, count)
    return {n: torch.stack([done[number, n] for number in range(len(prompts))]) for n in splits}


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

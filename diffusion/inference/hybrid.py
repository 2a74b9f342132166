"""Hybrid inference, paper section 3.3: the edge's part and a device's part of one picture, and the hand-off between.

The first N - n steps of many users run in one batch on the cluster-wide model, the last n of each on the user's own.
Steps count down, as in `batch`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...common.errors import InputError
from .batch import StepCount, denoise, finished, intermediates
from .families.base import Model
from .handoff import Handoff
from .in_flight import Image, InFlight, NotFiniteError
from .models import paired
from .sampling import DEFAULT, Sampling, check_seed
from .schedules import completed
from .templates import check_template


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one user asks of the edge.

    Attributes:
        prompt_template: prompt with `{subject}` where the subject's words go.
        local_steps: n*, 0 to N: number of the last steps, which stay on the device.
        seed: seed of the initial noise, and of each step's noise where the scheduler adds some.
    """

    prompt_template: str
    local_steps: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_template(self.prompt_template)
        check_seed(self.seed)


def hybrid(
    edge: Model,
    personal: Sequence[Model],
    requests: Sequence[Request],
    sampling: Sampling = DEFAULT,
    count: StepCount | None = None,
) -> list[Tensor]:
    """Both parts for several users; the edge's part is one batch that shrinks as users are done.

    Args:
        edge: the cluster-wide model.
        personal: one personal model per request.
        requests: the users' requests, each with an own prompt, split and seed.
        sampling: settings that all share.
        count: called after each step of the edge with the batch's size.

    Returns:
        one picture per request, shape (3, height, width), values 0 to 1.

    Raises:
        InputError: for a pair of models that cannot hand off.
    """
    edge, personal = paired(edge, personal, sampling)
    handoffs = edge_prefix(edge, requests, sampling, count)
    return [
        model.decode(finish_local(model, handoff, sampling))[0]
        for model, handoff in zip(personal, handoffs, strict=True)
    ]


def edge_prefix(
    model: Model, requests: Sequence[Request], sampling: Sampling = DEFAULT, count: StepCount | None = None
) -> list[Handoff]:
    """The edge's part: steps N to n*+1 of all requests in one batch that shrinks as users are done.

    It runs exactly sum(N - n_i) sample-steps, less those that requests of equal prompt and seed share.

    Returns:
        one hand-off per request, in their order.
    """
    if not requests:
        return []
    images = [
        Image(name=i, prompt=model.prompt(r.prompt_template), seed=r.seed, to_step=r.local_steps)
        for i, r in enumerate(requests)
    ]
    with _naming_split(lambda error: requests[error.image].local_steps):
        latents = finished(InFlight(model, sampling), images, count)
    return _handoffs(model, requests, [latents[i] for i in range(len(requests))], sampling)


def edge_sweep(
    model: Model, template: str, seed: int, splits: Sequence[int], sampling: Sampling, count: StepCount | None = None
) -> list[Handoff]:
    """The edge's part of one prompt and seed at several splits: one trajectory of N - min n steps, kept at each split.

    Returns:
        one hand-off per split, in their order.
    """
    requests = [Request(prompt_template=template, local_steps=n, seed=seed) for n in splits]
    with _naming_split(lambda error: error.image[1]):
        latents = intermediates(model, [model.prompt(template)], [seed], splits, sampling, count)
    return _handoffs(model, requests, [latents[n][0] for n in splits], sampling)


def finish_local(
    model: Model, handoffs: Handoff | Sequence[Handoff], sampling: Sampling = DEFAULT, count: StepCount | None = None
) -> Tensor:
    """A device's part: steps n* to 1 on the personal model.

    Several hand-offs of one user, from several splits, run as one batch that shrinks as they are done.

    Returns:
        x_0, shape (hand-offs, channels, height, width); `Model.decode` makes pictures of it.

    Raises:
        InputError: for a hand-off from another scheduler, number of steps or latent shape.
    """
    received = [handoffs] if isinstance(handoffs, Handoff) else list(handoffs)
    for handoff in received:
        check_handoff(handoff, model, sampling)
    if not received:
        return torch.empty(0, *model.latent_shape)
    splits = [handoff.step for handoff in received]
    with _naming_split(lambda error: splits[error.image]):
        return denoise(
            model,
            torch.stack([handoff.latents for handoff in received]),
            [model.prompt(handoff.prompt_template) for handoff in received],
            splits,
            0,
            sampling,
            [handoff.seed for handoff in received],
            count,
        )


@contextmanager
def _naming_split(split_of: Callable[[NotFiniteError], int]) -> Iterator[None]:
    """Put the split of the picture whose latents are not finite before the message."""
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"split n = {split_of(error)}: {error}", error.image, error.step) from error


def check_handoff(handoff: Handoff, model: Model, sampling: Sampling) -> None:
    """Refuse a hand-off that this model cannot go on from.

    Raises:
        InputError: naming what differs.
    """
    config = model.scheduler_config
    facts: list[tuple[str, Any, Any]] = [
        ("total steps", handoff.total_steps, sampling.total_steps),
        ("latent shape", tuple(handoff.latents.shape), model.latent_shape),
    ]
    if handoff.scheduler_hash != sampling.fingerprint(config):
        kind = completed(config, sampling.scheduler)["prediction_type"]
        scheduler = f"{sampling.scheduler} with prediction_type {kind}"
        facts.append(("scheduler", sampling.recognised(handoff.scheduler_hash, config), scheduler))
    for what, theirs, ours in facts:
        if theirs != ours:
            raise InputError(f"hand-off: its {what} is {theirs}, that of {model.name} is {ours}; both sides must agree")


def _handoffs(
    model: Model, requests: Sequence[Request], latents: Iterable[Tensor], sampling: Sampling
) -> list[Handoff]:
    fingerprint = sampling.fingerprint(model.scheduler_config)
    return [
        Handoff(
            latents=x,
            step=request.local_steps,
            total_steps=sampling.total_steps,
            scheduler_hash=fingerprint,
            prompt_template=request.prompt_template,
            seed=request.seed,
        )
        for x, request in zip(latents, requests, strict=True)
    ]

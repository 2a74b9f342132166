"""Hybrid inference, paper section 3.3.

The first N - n steps of many users run in one batch on the cluster-wide model, the last n of each on the user's own.

Steps count down as in the paper: step N runs first, step 1 last. x_s is the intermediate with s steps left, so x_N is
the initial noise and x_0 the finished latents; step s makes x_{s-1} of x_s.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...common.errors import InputError, shown
from .handoff import Handoff, check_seed
from .models import Model, check_pair
from .sampling import DEFAULT, Sampling
from .step import Timestep, denoise_step

StepCount = Callable[[int], None]
"""Called after each step with the number of samples in its batch."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one user asks of the edge.

    Attributes:
        prompt_template: with `{subject}` where the subject's words go.
        local_steps: n*, 0 to N: the steps that stay on the device.
        seed: of the initial noise, and of each step's where the scheduler adds some.
    """

    prompt_template: str
    local_steps: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_template(self.prompt_template)
        check_seed(self.seed)


@dataclass
class Batch:
    """Samples on their way, each with its own first and last step.

    Attributes:
        model: that runs them.
        sampling: shared settings.
        latents: x_{from}, shape (users, channels, height, width).
        prompts: one per user.
        from_step: s of each x_s at the start.
        to_step: s of each at the end.
        seeds: of each, for schedulers that add noise.
    """

    model: Model
    sampling: Sampling
    latents: Tensor
    prompts: Sequence[str]
    from_step: Sequence[int]
    to_step: Sequence[int]
    seeds: Sequence[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        total, users = self.sampling.total_steps, len(self.latents)
        if not users == len(self.prompts) == len(self.from_step) == len(self.to_step):
            raise ValueError(f"{users} latents need as many prompts and steps")
        for first, last in zip(self.from_step, self.to_step, strict=True):
            if not 0 <= last <= first <= total:
                raise InputError(f"steps: found {first} to {last}, accepted: from N = {total} down to 0")
        if self.sampling.noisy and len(self.seeds) != users:
            raise InputError(
                f"seeds: found {len(self.seeds)} for {users} samples, accepted: one of each, as "
                f"{self.sampling.scheduler} adds noise"
            )


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

    A sample joins the batch at its own first step and leaves after its last, so the batch grows and shrinks.

    Args:
        model: that runs the steps.
        latents: x_from, shape (users, channels, height, width); not changed.
        prompts: one per user, subject's words included.
        from_step: of all or of each.
        to_step: of all or of each.
        sampling: shared settings.
        seeds: of each user, for schedulers that add noise.
        count: called after each step with the batch's size.

    Returns:
        x_to, same shape, order, dtype and device as the latents on the model's device.

    Raises:
        InputError: for steps out of range.
    """
    users = len(latents)
    first, last = ([s] * users if isinstance(s, int) else list(s) for s in (from_step, to_step))
    batch = Batch(model, sampling, latents.to(model.device, model.dtype), prompts, first, last, seeds)
    result = batch.latents.clone()
    for _, active, stepped in run_steps(batch):
        result = stepped
        if count:
            count(len(active))
    return result


def run_steps(batch: Batch) -> Iterator[tuple[int, list[int], Tensor]]:
    """Run a batch; after each step s yields (s - 1, users in it, x of all users), of those in it x_{s-1}.

    The x are one tensor, which the next step changes.
    """
    if max(batch.from_step, default=0) == min(batch.to_step, default=0):
        return
    model, sampling = batch.model, batch.sampling
    latents, embeddings = batch.latents.clone(), _embeddings(batch)  # (users, ...), (1 or 2, users, tokens, width)
    active: list[int] = []
    rows: Any = None  # active, on the model's device
    conditions: Any = None  # its embeddings
    scheduler: Any = None
    there: Any = None  # the timesteps, on the model's device
    expected = -1
    for step in range(max(batch.from_step), min(batch.to_step), -1):
        present = [i for i, (a, b) in enumerate(zip(batch.from_step, batch.to_step, strict=True)) if a >= step > b]
        if not present:
            continue
        if present != active:  # whatever is copied to a GPU in every step makes the host wait
            active, rows = present, torch.tensor(present, device=latents.device)
            conditions = embeddings[:, rows].flatten(0, 1)
        index = sampling.total_steps - step
        if step != expected:  # some schedulers count their steps themselves
            scheduler = sampling.make_scheduler(model.scheduler_config)
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(index)
            there = scheduler.timesteps.to(latents.device)
        expected = step - 1
        generators = [_step_noise(batch.seeds[i], step) for i in active] if sampling.noisy else None
        timestep = Timestep(scheduler.timesteps[index], there[index])
        with torch.inference_mode():
            latents[rows] = denoise_step(
                model.unet, scheduler, latents[rows], timestep, conditions, sampling.guided, generators=generators
            )
        yield step - 1, active, latents


def edge_prefix(
    model: Model, requests: Sequence[Request], sampling: Sampling = DEFAULT, count: StepCount | None = None
) -> list[Handoff]:
    """The edge's part: steps N to n*+1 of all requests in one batch that shrinks as users are done.

    It runs exactly sum(N - n_i) sample-steps.

    Returns:
        one hand-off per request, in their order.
    """
    if not requests:
        return []
    seeds = [request.seed for request in requests]
    prompts = [model.prompt(request.prompt_template) for request in requests]
    splits = [request.local_steps for request in requests]
    noise = initial_noise(model, seeds, sampling)
    latents = denoise(model, noise, prompts, sampling.total_steps, splits, sampling, seeds, count)
    return _handoffs(model, requests, latents, sampling)


def edge_sweep(
    model: Model, template: str, seed: int, splits: Sequence[int], sampling: Sampling, count: StepCount | None = None
) -> list[Handoff]:
    """The edge's part of one prompt and seed at several splits: one trajectory of N - min n steps, kept at each.

    Returns:
        one hand-off per split, in their order.
    """
    requests = [Request(prompt_template=template, local_steps=n, seed=seed) for n in splits]
    kept = intermediates(model, [model.prompt(template)], [seed], splits, sampling, count)
    return _handoffs(model, requests, [kept[n][0] for n in splits], sampling)


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


def finish_local(
    model: Model, handoffs: Handoff | Sequence[Handoff], sampling: Sampling = DEFAULT, count: StepCount | None = None
) -> Tensor:
    """A device's part: steps n* to 1 on the personal model.

    Several hand-offs of one user, from several splits, run as one batch that grows as later splits join.

    Returns:
        x_0, shape (hand-offs, channels, height, width); `Model.decode` makes pictures of it.

    Raises:
        InputError: for a hand-off from another scheduler, number of steps or latent shape.
    """
    taken = [handoffs] if isinstance(handoffs, Handoff) else list(handoffs)
    for handoff in taken:
        check_handoff(handoff, model, sampling)
    if not taken:
        return torch.empty(0, *model.latent_shape)
    return denoise(
        model,
        torch.stack([handoff.latents for handoff in taken]),
        [model.prompt(handoff.prompt_template) for handoff in taken],
        [handoff.step for handoff in taken],
        0,
        sampling,
        [handoff.seed for handoff in taken],
        count,
    )


def hybrid(
    edge: Model,
    personal: Sequence[Model],
    requests: Sequence[Request],
    sampling: Sampling = DEFAULT,
    count: StepCount | None = None,
) -> list[Tensor]:
    """Both parts for several users, one personal model per request: the edge's in one batch that shrinks.

    Args:
        edge: the cluster-wide model.
        personal: the model of each request.
        requests: each with an own prompt, split and seed.
        sampling: shared settings.
        count: called after each step of the edge with the batch's size.

    Returns:
        the picture of each request, shape (3, height, width), values 0 to 1.

    Raises:
        InputError: for a pair of models that cannot hand off.
    """
    for model in personal:
        check_pair(edge, model, sampling)
    handoffs = edge_prefix(edge, requests, sampling, count)
    return [
        model.decode(finish_local(model, handoff, sampling))[0]
        for model, handoff in zip(personal, handoffs, strict=True)
    ]


def generate(model: Model, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling = DEFAULT) -> Tensor:
    """Pictures of one model alone, all N steps: (prompts, 3, height, width), values 0 to 1."""
    noise = initial_noise(model, seeds, sampling)
    return model.decode(denoise(model, noise, prompts, sampling.total_steps, 0, sampling, seeds))


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
    total = sampling.total_steps
    noise = initial_noise(model, seeds, sampling)
    kept = {total: noise} if total in splits else {}
    last = min([total, *splits])
    users = len(prompts)
    batch = Batch(model, sampling, noise, prompts, [total] * users, [last] * users, seeds)
    for left, active, latents in run_steps(batch):
        if left in splits:
            kept[left] = latents.clone()
        if count:
            count(len(active))
    return kept


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
        own = f"{sampling.scheduler} with prediction_type {config.get('prediction_type')}"
        facts.append(("scheduler", sampling.recognised(handoff.scheduler_hash, config), own))
    for what, found, own in facts:
        if found != own:
            raise InputError(f"hand-off: its {what} is {found}, that of {model.name} is {own}; both sides must agree")


def check_template(template: str) -> str:
    """The template itself.

    Raises:
        InputError: for one without `{subject}`, which would be the same on all models, or with another placeholder.
    """
    rest = template.replace("{subject}", "")
    if "{" in rest or "}" in rest:
        raise InputError(f"prompt {shown(template)}: accepted in braces: {{subject}} alone")
    if rest == template:
        raise InputError(f"prompt {shown(template)}: found no {{subject}}, accepted: such as 'a photo of {{subject}}'")
    return template


def _embeddings(batch: Batch) -> Tensor:
    model, sampling = batch.model, batch.sampling
    conditional = model.embed(batch.prompts)
    if sampling.guided is None:
        return conditional[None]
    unconditional = model.embed([sampling.negative_prompt])
    return torch.stack([unconditional.expand_as(conditional), conditional])


def _step_noise(seed: int, step: int) -> torch.Generator:
    """The noise of one user's step: the same on either side of the split and in any batch."""
    return torch.Generator().manual_seed((seed * 100_003 + step) % 2**63)

"""A user's personal model on the user's own device: what it can go on from, and its steps."""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..common.errors import InputError
from ..diffusion.inference.batch import denoise
from ..diffusion.inference.families.base import Model
from ..diffusion.inference.gpu import gpu_memory
from ..diffusion.inference.handoff import Handoff
from ..diffusion.inference.hybrid import check_handoff
from ..diffusion.inference.models import latent_facts
from ..diffusion.inference.noise import initial_noise
from ..diffusion.inference.pictures import as_pil
from ..diffusion.inference.sampling import Sampling
from ..diffusion.inference.templates import check_template, with_subject
from .protocol import Facts

REMEDY = "free some, or try --dtype fp16"


class StoppedError(Exception):
    """Steps that nobody waits for any more."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What looks on while a picture is made; its functions are called in the thread that makes it.

    Attributes:
        step: called after every step on the device with the number of steps that are left.
        partials: number of unfinished pictures that `partial` gets.
        partial: called with the number of each, from 0 on, and the picture.
    """

    step: Callable[[int], None] = lambda _left: None
    partials: int = 0
    partial: Callable[[int, Tensor], None] = lambda _number, _picture: None


UNWATCHED = Watch()


@dataclass(frozen=True, kw_only=True)
class PersonalModel:
    """A personal model and how its pictures are sampled.

    Attributes:
        model: the model.
        sampling: steps, guidance and scheduler; the edge must have the same.
        words: what may stand for the subject in a prompt.
    """

    model: Model
    sampling: Sampling
    words: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the scheduler."""
        return self.sampling.fingerprint(self.model.scheduler_config)

    def template(self, prompt: str) -> str:
        """The template that a prompt means; without the subject's words it has no `{subject}`.

        Raises:
            InputError: for a prompt that the model cannot take.
        """
        template = with_subject(prompt, self.words)
        if "{" in template or "}" in template:
            check_template(template)
        self.model.check_prompts([self.model.prompt(template)])
        return template

    def difference(self, facts: Facts) -> str:
        """Why this model cannot go on from what a server makes; "" where it can."""
        ours = self.sampling
        if facts.total_steps != ours.total_steps:
            return f"the edge takes {facts.total_steps} steps, this device {ours.total_steps}; see --steps"
        if facts.guidance_scale != ours.guidance_scale:
            return f"the edge has a guidance of {facts.guidance_scale:g}, this device {ours.guidance_scale:g}; see " \
                   "--guidance"  # fmt: skip
        for what, our in latent_facts(self.model).items():
            if (their := facts.latents.get(what, our)) != our:
                return f"the edge's {what} is {their}, that of this model {our}; see --model"
        if tuple(facts.latent_shape) != self.model.latent_shape:
            return f"the edge's latents are {facts.latent_shape}, those of this model {list(self.model.latent_shape)}"
        if facts.scheduler_hash != self.fingerprint:
            theirs = ours.recognised(facts.scheduler_hash, self.model.scheduler_config)
            return f"the edge's scheduler is {theirs}, this device's is {ours.scheduler} of other options; see " \
                   "--scheduler"  # fmt: skip
        return ""

    def noise(self, template: str, seed: int) -> Handoff:
        """x_N of a seed: what all steps start from where they run here."""
        return Handoff(
            latents=initial_noise(self.model, [seed], self.sampling)[0],
            step=self.sampling.total_steps,
            total_steps=self.sampling.total_steps,
            scheduler_hash=self.fingerprint,
            prompt_template=template,
            seed=seed,
        )

    def received(self, payload: bytes, template: str, seed: int, n: int) -> Handoff:
        """A hand-off as it came from the edge.

        Raises:
            InputError: for one that is damaged, or another than was asked for.
        """
        handoff = Handoff.from_bytes(payload)
        for what, found, asked in (
            ("step", handoff.step, n),
            ("seed", handoff.seed, seed),
            ("prompt", handoff.prompt_template, template),
        ):
            if found != asked:
                raise InputError(f"hand-off: its {what} is {found!r}, {asked!r} was asked for; the edge is wrong")
        check_handoff(handoff, self.model, self.sampling)
        return handoff

    def finish(self, handoff: Handoff, watch: Watch = UNWATCHED, stop: threading.Event | None = None) -> Tensor:
        """Steps n to 1; returns x_0, shape (1, channels, height, width).

        Args:
            handoff: x_n.
            watch: what looks on.
            stop: once it is set, the next step is the last.

        Raises:
            InputError: where latents become NaN or infinite, or memory is short.
            StoppedError: where `stop` was set.
        """
        prompt, left, latents = self.model.prompt(handoff.prompt_template), handoff.step, handoff.latents[None]
        taken = 0

        def count(_samples: int) -> None:
            nonlocal taken
            taken += 1
            if stop is not None and stop.is_set():
                raise StoppedError
            watch.step(handoff.step - taken)

        with gpu_memory("the picture", REMEDY):
            for number, last in enumerate([*stops(left, watch.partials), 0]):
                latents = denoise(self.model, latents, [prompt], left, last, self.sampling, [handoff.seed], count)
                left = last
                if left:
                    watch.partial(number, self.model.decode(latents)[0])
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """The picture of x_0, shape (3, height, width)."""
        with gpu_memory("the picture", REMEDY):
            return self.model.decode(latents)[0]


def stops(n: int, partials: int) -> list[int]:
    """Steps left at which a picture of n steps is looked at on its way: evenly apart, none of them 0 or n."""
    places = [round(n * (partials - i) / (partials + 1)) for i in range(partials)]
    return [left for left in dict.fromkeys(places) if 0 < left < n]


def png(picture: Tensor) -> bytes:
    """A picture of shape (3, height, width) as PNG."""
    content = io.BytesIO()
    as_pil(picture).save(content, format="PNG")
    return content.getvalue()

"""Pictures of a user's own: every one asked of the edge, and finished, or made alone, on the personal model."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from ..diffusion.inference.templates import SUBJECT
from ..fitting.schemas import LARGEST
from ..optimizer.model.split import alpha_from_emphasis
from .client import EdgeClient, EdgeError
from .device import DeviceResult, run_alone, run_device
from .personal import UNWATCHED, PersonalModel, Watch
from .protocol import Ask, Facts

T = TypeVar("T")
FACTS_S = 3.0
"""Seconds that a device waits for what the server says of itself."""


@dataclass(frozen=True, kw_only=True)
class OwnPicture:
    """A picture and how it came about.

    Attributes:
        result: what ran where, and how long it took.
        picture: shape (3, height, width), values 0 to 1.
        decode_s: seconds that making a picture of the last latents took; no plan reckons with them.
        alpha: seconds of latency that a PAI of 1 was said to be worth; None where the edge was not asked.
    """

    result: DeviceResult
    picture: Tensor
    decode_s: float
    alpha: float | None


@dataclass
class PersonalDevice:
    """A device with a personal model and an edge that may help it.

    Attributes:
        client: the edge.
        own: the model.
        step_latency_s: L_i(1).
        alpha: seconds of latency that a PAI of 1 is worth; None to take it of the emphasis.
        emphasis: place of the split between N-hat (0) and N (1) that the alpha is chosen for.
        busy: held while steps run: the device works on one picture at a time.
    """

    client: EdgeClient
    own: PersonalModel
    step_latency_s: float
    alpha: float | None
    emphasis: float
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def picture(self, template: str, seed: int, watch: Watch = UNWATCHED) -> OwnPicture:
        """One picture, with the help of the edge where that helps.

        Args:
            template: prompt with `{subject}`; one without is the same on all models, so the edge is not asked.
            seed: seed of the initial noise.
            watch: what looks on.

        Raises:
            InputError: where the personal model itself cannot make it.
        """
        start, run = time.monotonic(), OwnRun(self, template, seed, watch)
        alpha = None
        try:
            if SUBJECT not in template:
                raise EdgeError(f"the prompt has no {SUBJECT}")
            facts, alpha = await self._terms()
        except EdgeError as error:
            result = await run_alone(self._ask(template, seed, 0.0, None), run, str(error), start)
        else:
            result = await run_device(self.client, self._ask(template, seed, alpha, facts), facts.interval_s, run)
        begun = time.monotonic()
        picture = await in_thread(lambda _stop: self.own.decode(run.latents))
        return OwnPicture(result=result, picture=picture, decode_s=time.monotonic() - begun, alpha=alpha)

    async def _terms(self) -> tuple[Facts, float]:
        """What the server serves, and the alpha.

        Raises:
            EdgeError: where it cannot be asked for this model's pictures.
        """
        end = time.monotonic() + FACTS_S
        facts = await self.client.facts(FACTS_S)
        if difference := self.own.difference(facts):
            raise EdgeError(difference)
        if self.alpha is not None:
            return facts, self.alpha
        scenario = await self.client.scenario(end - time.monotonic())
        alpha = float(alpha_from_emphasis(scenario, self.step_latency_s, self.emphasis))
        if not 0 <= alpha <= LARGEST:
            raise EdgeError("at this emphasis alpha would have no bound with the server's PAI curve; see --alpha")
        return facts, alpha

    def _ask(self, template: str, seed: int, alpha: float, facts: Facts | None) -> Ask:
        return Ask(
            prompt_template=template,
            seed=seed,
            step_latency_s=self.step_latency_s,
            alpha=alpha,
            total_steps=self.own.sampling.total_steps,
            scheduler_hash=facts.scheduler_hash if facts else None,
            latent_shape=facts.latent_shape if facts else None,
        )


@dataclass
class OwnRun:
    """The device's own steps of one picture, in a thread; called as `device.FinishLocally`.

    Attributes:
        latents: x_0, once they are done.
    """

    device: PersonalDevice
    template: str
    seed: int
    watch: Watch
    latents: Any = None

    async def __call__(self, payload: bytes | None, n: int) -> None:
        """Take the last n steps of a hand-off, or all of them."""
        async with self.device.busy:
            self.latents = await in_thread(lambda stop: self._steps(payload, n, stop))

    def _steps(self, payload: bytes | None, n: int, stop: threading.Event) -> Tensor:
        own = self.device.own
        if payload is None:
            handoff = own.noise(self.template, self.seed)
        else:
            handoff = own.received(payload, self.template, self.seed, n)
        return own.finish(handoff, self.watch, stop)


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Run work beside the event loop; where nobody waits for it any more, it is told to stop."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, stop)
    except asyncio.CancelledError:
        stop.set()
        raise

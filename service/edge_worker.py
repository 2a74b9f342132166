"""The process with the cluster-wide model: it steps what is in flight, and hands off what is done."""

import signal
import time
from multiprocessing.connection import Connection
from typing import Any

from ..common.errors import InputError
from .engines import receive, send

MEASURED_BATCHES = (1, 2, 4, 8)
MEASURED_STEPS = 6
WARM_UP_STEPS = 2
TRIED_BATCH = 4
"""Images of the step with which the number of CPU threads is chosen."""


def work(pipe: Connection, settings: dict[str, Any]) -> None:
    """Load the model, say what it is, and step until the other side stops or is gone.

    Args:
        pipe: connection to the server.
        settings: cluster, dtype, device, total_steps, guidance_scale, scheduler, most, measure.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    try:
        worker = EdgeWorker(settings)
        send(pipe, {"facts": worker.facts(bool(settings["measure"]))})
        worker.run(pipe)
    except InputError as error:
        send(pipe, {"error": str(error)})
    except (EOFError, OSError):
        return


class EdgeWorker:
    """The model and what is in flight on it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from ..diffusion.inference.batch import timed_step
        from ..diffusion.inference.in_flight import InFlight
        from ..diffusion.inference.models import check_scheduler, load_model
        from ..diffusion.inference.sampling import Sampling
        from ..diffusion.inference.threads import fastest_threads

        self.model = load_model(settings["cluster"], dtype=settings["dtype"], device=settings["device"])
        self.sampling = Sampling(
            total_steps=settings["total_steps"],
            guidance_scale=settings["guidance_scale"],
            scheduler=settings["scheduler"],
        )
        check_scheduler(self.model, self.sampling)
        if self.model.device.type == "cpu":
            fastest_threads(timed_step(self.model, TRIED_BATCH, self.sampling), "serve")
        self.dtype = settings["handoff_dtype"]
        self.engine = InFlight(self.model, self.sampling, settings["most"])
        self.fingerprint = self.sampling.fingerprint(self.model.scheduler_config)
        self._new: list[str] = []
        self._asked: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}
        self._begun_s: float | None = None  # when the tick under way began: what lies between two ticks is part of it

    def facts(self, measure: bool) -> dict[str, Any]:
        """What the server needs to know: the model, its scheduler, its latents, and how long its steps take."""
        from ..diffusion.inference.models import latent_facts

        return {
            "name": self.model.name,
            "scheduler": self.sampling.scheduler,
            "scheduler_hash": self.fingerprint,
            "latent_shape": list(self.model.latent_shape),
            "latents": latent_facts(self.model),
            "step_s": self._measured() if measure else {},
        }

    def _measured(self) -> dict[str, float]:
        """Median seconds of a tick by the number of images."""
        import statistics

        from ..diffusion.inference.in_flight import Image, InFlight

        medians = {}
        for batch in MEASURED_BATCHES:
            engine = InFlight(self.model, self.sampling, share=False)
            prompt = self.model.prompt("a photo of {subject}")
            for number in range(batch):
                engine.add(Image(name=number, prompt=prompt, seed=number, to_step=0))
            seconds = []
            for _ in range(min(WARM_UP_STEPS + MEASURED_STEPS, self.sampling.total_steps)):
                start = time.perf_counter()
                engine.tick()
                self._wait()
                seconds.append(time.perf_counter() - start)
            medians[str(batch)] = statistics.median(seconds[WARM_UP_STEPS:] or seconds)
        return medians

    def _wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.model.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.model.device)

    def run(self, pipe: Connection) -> None:
        """Step what is in flight, and do what the server says between two steps."""
        while True:
            while pipe.poll(0 if len(self.engine) or self._failed else None):
                message, _ = receive(pipe)
                if "stop" in message:
                    return
                self.obey(message)
            if told := self.tick():
                send(pipe, *told)

    def obey(self, message: dict[str, Any]) -> None:
        """Add, revise and cancel images, as a message says."""
        for image in message.get("add", ()):
            self._add(image)
        for name, n in message.get("revise", {}).items():
            if name in self._asked:
                self._asked[name]["local_steps"] = self.engine.revise(name, n)
        for name in message.get("cancel", ()):
            self.engine.cancel(name)
            self._asked.pop(name, None)

    def _add(self, asked: dict[str, Any]) -> None:
        from ..diffusion.inference.in_flight import Image

        name = asked["name"]
        try:
            prompt = self.model.prompt(asked["prompt_template"])
            self.engine.add(Image(name=name, prompt=prompt, seed=asked["seed"], to_step=asked["local_steps"]))
        except InputError as error:
            self._failed[name] = str(error)
            return
        self._asked[name] = asked
        self._new.append(name)

    def tick(self) -> tuple[dict[str, Any], dict[str, bytes]] | None:
        """One step of everything: the fields of `engines.Tick`, and the hand-offs; None where nothing happened."""
        batch, start = len(self.engine), self._begun_s or time.monotonic()
        done = self.engine.tick() if batch else {}
        if batch:
            self._wait()
        ended = time.monotonic()
        self._begun_s = ended if len(self.engine) else None
        handoffs, splits = {}, {}
        for name, latents in done.items():
            split = self._asked[str(name)]["local_steps"]
            try:
                handoffs[str(name)] = self._handoff(str(name), latents)
                splits[str(name)] = split
            except InputError as error:  # latents that are not finite, or too large for the message
                self._failed[str(name)] = str(error)
        joined, failed = self._new, self._failed
        self._new, self._failed = [], {}
        if not batch and not failed:
            return None
        seconds = ended - start if batch else 0.0
        told = {"ended_s": ended, "seconds": seconds, "batch": batch, "joined": joined, "failed": failed}
        return told | {"splits": splits}, handoffs

    def _handoff(self, name: str, latents: Any) -> bytes:
        from ..diffusion.inference.handoff import Handoff

        asked = self._asked.pop(name)
        if isinstance(latents, InputError):
            raise latents
        handoff = Handoff(
            latents=latents,
            step=asked["local_steps"],
            total_steps=self.sampling.total_steps,
            scheduler_hash=self.fingerprint,
            prompt_template=asked["prompt_template"],
            seed=asked["seed"],
        )
        return handoff.to_bytes(self.dtype)

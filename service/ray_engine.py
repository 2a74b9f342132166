"""An engine over the GPUs of a Ray cluster: an actor with the model on each, and images where fewest are.

Each actor steps its own images together, so a step of b images on G GPUs takes L_e(b, G) as the paper has it.
"""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..common.errors import require
from .engines import EdgeImage, OnDeath, OnTick, Tick

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What stops a server."""
IDLE_S = 0.005
"""Seconds between two looks of an actor without images."""


class RayActor:
    """What runs on one GPU: `edge_worker.EdgeWorker`, driven by calls instead of a pipe."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from .edge_worker import EdgeWorker

        self._worker = EdgeWorker(settings)
        self._measure = bool(settings["measure"])

    def facts(self) -> dict[str, Any]:
        """What is known of the model."""
        return self._worker.facts(self._measure)

    def tick(self, message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]] | None:
        """Do what a message says, then one step; see `EdgeWorker.tick`."""
        self._worker.obey(message)
        return self._worker.tick()


class RayEdgeEngine:
    """An engine with one actor a GPU.

    Attributes:
        settings: plain values for the workers, as of `edge_worker.work`.
        gpus: number of actors.
        on_gpu: whether each needs a GPU of the cluster.
    """

    def __init__(self, settings: dict[str, Any], gpus: int, on_gpu: bool) -> None:
        self.settings, self.gpus, self.on_gpu = settings, gpus, on_gpu
        self._actors: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._inside: list[set[str]] = []  # images of each actor
        self._messages: list[dict[str, Any]] = []  # what each actor is told with its next tick

    async def start(self, on_tick: OnTick, on_death: OnDeath) -> dict[str, Any]:
        """Start the actors, and wait until all have their model."""
        require("ray", "ray")
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._actors = await loop.run_in_executor(None, self._started)
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():  # Ray takes them, and ends the process without a word to devices
                signal.signal(number, handler)
        facts: list[dict[str, Any]] = list(await asyncio.gather(*(actor.facts.remote() for actor in self._actors)))
        self._inside = [set() for _ in self._actors]
        self._messages = [_no_news() for _ in self._actors]
        self._tasks = [loop.create_task(self._drive(number, on_tick, on_death)) for number in range(self.gpus)]
        return facts[0]

    def _started(self) -> list[Any]:
        import logging

        import ray

        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        remote = ray.remote(num_gpus=int(self.on_gpu), num_cpus=1)(RayActor)
        return [remote.remote(self.settings) for _ in range(self.gpus)]

    async def _drive(self, number: int, on_tick: OnTick, on_death: OnDeath) -> None:
        """Let an actor step as long as it lives."""
        import ray

        while True:
            message, self._messages[number] = self._messages[number], _no_news()
            if not self._inside[number] and not message["add"]:
                await asyncio.sleep(IDLE_S)
                continue
            try:
                told = await self._actors[number].tick.remote(message)
            except ray.exceptions.RayError as error:
                on_death(f"a worker of the Ray cluster ended ({type(error).__name__})")
                return
            if told:
                self._pass_on(number, on_tick, *told)

    def _pass_on(self, number: int, on_tick: OnTick, fields: dict[str, Any], handoffs: dict[str, bytes]) -> None:
        self._inside[number] -= {*handoffs, *fields["failed"]}
        here = {"ended_s": time.monotonic()}  # the actor may be on a machine with another clock
        on_tick(Tick(**fields | here, done=handoffs))

    def add(self, images: Sequence[EdgeImage]) -> None:
        """Let images join, each where fewest are."""
        for image in images:
            number = min(range(self.gpus), key=lambda place: len(self._inside[place]))
            self._inside[number].add(image.name)
            self._messages[number]["add"].append(asdict(image))

    def revise(self, splits: Mapping[str, int]) -> None:
        """Let images leave at other splits."""
        for inside, message in zip(self._inside, self._messages, strict=True):
            message["revise"] |= {name: n for name, n in splits.items() if name in inside}

    def cancel(self, names: Sequence[str]) -> None:
        """Let images go."""
        for inside, message in zip(self._inside, self._messages, strict=True):
            message["cancel"] += [name for name in names if name in inside]
            inside.difference_update(names)

    async def stop(self) -> None:
        """End the actors."""
        import ray

        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for actor in self._actors:
            ray.kill(actor)


def _no_news() -> dict[str, Any]:
    """A message that says nothing."""
    return {"add": [], "revise": {}, "cancel": []}

"""Where the blocks of a sweep are measured: in this process, or spread over a Ray cluster."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any, Protocol, cast

import torch

from ..common.errors import InputError, reason_of, require, shown
from ..diffusion.inference.batch import StepCount
from ..diffusion.inference.references import pick_device
from .settings import Block, SweepSettings
from .sweep import (
    MeasuredPicture,
    SweepModels,
    automatic_batch,
    fastest_cpu_threads,
    load_sweep_models,
    uncounted,
)

RETRIES = 3
"""How often a worker that died is started again and its block repeated."""
PATIENCE_S = 10
"""How long the address of a Ray cluster may take to answer, seconds."""
PROBE = "import os, ray; print(flush=True); ray.init(log_to_driver=False); os._exit(0)"
"""What joins a Ray cluster, in a process that can be stopped: Ray itself would try for minutes, deaf to Ctrl-C."""


class Engine(Protocol):
    """What measures blocks.

    Attributes:
        kind: kind of its devices, "cpu" or "cuda".
    """

    kind: str

    def load(self, settings: SweepSettings) -> None:
        """Load the models and metrics, and check that they and the texts fit together."""

    def threads(self, settings: SweepSettings) -> int:
        """The number of CPU threads to compute with."""

    def largest_batch(self, settings: SweepSettings) -> int:
        """The batch that `--batch auto` means on a GPU."""

    def measure(
        self, settings: SweepSettings, blocks: Sequence[Block], count: StepCount
    ) -> Iterator[list[MeasuredPicture]]:
        """Measure blocks, in any order; `count` is called with the steps of single pictures that were taken."""

    def close(self) -> None:
        """Let go of what is loaded."""


def open_engine(name: str, device: str, workers: int) -> Engine:
    """The engine of a name.

    Args:
        name: one of `settings.ENGINES`.
        device: device of the local engine, or kind of device of Ray's workers; "" for the best that is there.
        workers: number of Ray's workers; 0 for as many as its cluster holds.

    Raises:
        InputError: for a device or a Ray cluster that is not there.
    """
    return RayEngine(device, workers) if name == "ray" else LocalEngine(device)


class LocalEngine:
    """Measures in this process.

    Raises:
        InputError: for a device that is not there.
    """

    def __init__(self, device: str) -> None:
        self.device = pick_device(device)
        self.kind = self.device.partition(":")[0]
        self._models: SweepModels | None = None

    def load(self, settings: SweepSettings) -> None:
        """As `Engine`; what is loaded already stays."""
        self._loaded(settings)

    def threads(self, settings: SweepSettings) -> int:
        """As `Engine`: on a CPU the number that is fastest now."""
        models = self._loaded(settings)
        return fastest_cpu_threads(models) if self.kind == "cpu" else torch.get_num_threads()

    def largest_batch(self, settings: SweepSettings) -> int:
        """As `Engine`."""
        return automatic_batch(self._loaded(settings))

    def measure(
        self, settings: SweepSettings, blocks: Sequence[Block], count: StepCount
    ) -> Iterator[list[MeasuredPicture]]:
        """As `Engine`."""
        models = replace(self._loaded(settings), settings=settings, count=count)
        for block in blocks:
            yield models.measure(block)

    def close(self) -> None:
        """As `Engine`."""
        self._models = None

    def _loaded(self, settings: SweepSettings) -> SweepModels:
        self._models = self._models or load_sweep_models(settings, self.device)
        return self._models


class Worker(LocalEngine):
    """The state of a Ray actor, which keeps the models loaded from block to block."""

    def measure_one(self, settings: SweepSettings, block: Block) -> list[MeasuredPicture]:
        """Measure one block."""
        return next(self.measure(settings, [block], uncounted))

    def process(self) -> int:
        """The id of its process."""
        return os.getpid()


class RayEngine:
    """Spreads the blocks over the Ray cluster of RAY_ADDRESS, or over one that is started on this machine.

    Args:
        device: "cpu", or "cuda" for a GPU per worker; "" for what the Ray cluster has.
        workers: number of workers; 0 for one per GPU, or one per as many CPUs as torch uses threads.

    Raises:
        InputError: for a Ray cluster that cannot be reached, or without Ray.
    """

    def __init__(self, device: str, workers: int = 0) -> None:
        require("ray", "ray")
        connect()
        import ray

        self.kind = device.partition(":")[0] or ("cuda" if ray.cluster_resources().get("GPU") else "cpu")
        self.workers = workers
        self.actors: list[Any] = []

    def load(self, settings: SweepSettings) -> None:
        """As `Engine`; on all workers at once."""
        import ray

        self._start(settings, len(settings.blocks))
        with worker_errors():
            ray.get([actor.load.remote(settings) for actor in self.actors])

    def threads(self, settings: SweepSettings) -> int:  # noqa: ARG002 - as Engine has it
        """As `Engine`: OMP_NUM_THREADS, or the cores of this machine; each worker takes as many CPUs."""
        return torch.get_num_threads()

    def largest_batch(self, settings: SweepSettings) -> int:
        """As `Engine`; one worker answers for all."""
        import ray

        self._start(settings, len(settings.blocks))
        with worker_errors():
            return int(ray.get(self.actors[0].largest_batch.remote(settings)))

    def measure(
        self, settings: SweepSettings, blocks: Sequence[Block], count: StepCount
    ) -> Iterator[list[MeasuredPicture]]:
        """As `Engine`; a block whose worker dies is repeated."""
        from ray.util import ActorPool

        self._start(settings, len(blocks))
        pool: Any = ActorPool(self.actors)
        with worker_errors():
            for measured in pool.map_unordered(lambda actor, block: actor.measure_one.remote(settings, block), blocks):
                count(settings.group_steps * len(measured) // settings.group_pictures)
                yield measured

    def close(self) -> None:
        """Stop the workers."""
        import ray

        for actor in self.actors:
            ray.kill(actor)
        self.actors = []

    def _start(self, settings: SweepSettings, most: int) -> None:
        self.actors = self.actors or start_workers(self.kind, settings.threads, min(self.workers or most, most))


def connect() -> None:
    """Join the Ray cluster of RAY_ADDRESS, or start one on this machine.

    Raises:
        InputError: where nothing answers at that address.
    """
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        if address not in ("", "local"):
            _probe(address)
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=None if address else False)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--engine ray: RAY_ADDRESS: found {shown(address)}, where no Ray cluster answers "
            f"({reason_of(error, 80)}); start one there, or unset it for one on this machine"
        ) from error


def _probe(address: str) -> None:
    """Try an address.

    Raises:
        OSError: where no Ray cluster answers.
        OverflowError: for a port that is none.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
    command = [sys.executable, "-c", PROBE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            cast(IO[bytes], process.stdout).readline()  # the time counts from when Ray is imported
            failed = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise OSError(f"nothing of Ray's came within {PATIENCE_S} s") from None
        finally:
            process.kill()
    if failed:
        raise OSError("what answers there is not Ray")


def start_workers(kind: str, threads: int, most: int) -> list[Any]:
    """Ray actors, which are started again where they die: at most `most`, and no more than the machines hold.

    Args:
        kind: kind of device of each worker, "cpu" or "cuda".
        threads: number of CPUs of each worker on a CPU.
        most: largest number of workers.

    Raises:
        InputError: where no machine holds one.
    """
    import ray

    name, each = ("CPU", threads) if kind == "cpu" else ("GPU", 1)
    rooms = [int(node["Resources"].get(name, 0)) for node in ray.nodes() if node["Alive"]]
    count = min(most, sum(room // each for room in rooms))
    if not count:
        remedy = "OMP_NUM_THREADS sets how many" if kind == "cpu" else "--device cpu does without"
        raise InputError(
            f"--engine ray: found machines with at most {max(rooms, default=0)} {name}s, accepted: {each} for a "
            f"worker; {remedy}"
        )
    cpus, gpus = (each, 0) if kind == "cpu" else (0, each)
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(Worker)
    return [remote.remote(kind) for _ in range(count)]


@contextmanager
def worker_errors() -> Iterator[None]:
    """Raise an error of a worker as it would be raised in this process.

    Raises:
        InputError: for a worker that keeps dying.
    """
    from ray.exceptions import RayActorError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        raise error.cause from error
    except RayActorError as error:
        raise InputError(f"--engine ray: a worker died {RETRIES + 1} times; see Ray's logs, then repeat") from error

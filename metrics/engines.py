"""Where the blocks of a sweep are measured: in this process, or spread over a Ray cluster."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from ..common.errors import InputError, require, shown
from ..diffusion.dreambooth_command import pick_device
from .sweep import Bench, Block, Measurement, StepCount, SweepSettings, automatic_batch, load_bench

RETRIES = 3
"""How often a worker that died is started again, and its block repeated."""
PATIENCE_S = 10
"""How long the address of a Ray cluster may take to answer."""


class Engine(Protocol):
    """What measures blocks.

    Attributes:
        kind: of its devices, "cpu" or "cuda".
    """

    kind: str

    def load(self, settings: SweepSettings) -> None:
        """Load the models and metrics, and check that they and the texts fit together."""

    def largest_batch(self, settings: SweepSettings) -> int:
        """What --batch auto means on a GPU."""

    def measure(
        self, settings: SweepSettings, blocks: Sequence[Block], count: StepCount
    ) -> Iterator[list[Measurement]]:
        """Measure blocks, in any order; counts sample-steps."""

    def close(self) -> None:
        """Let go of what is loaded."""


class LocalEngine:
    """Measures in this process.

    Raises:
        InputError: for a device that is not there.
    """

    def __init__(self, device: str) -> None:
        self.device = pick_device(device)
        self.kind = self.device.partition(":")[0]
        self._bench: Bench | None = None

    def load(self, settings: SweepSettings) -> None:
        """As `Engine`; once."""
        self._loaded(settings)

    def largest_batch(self, settings: SweepSettings) -> int:
        """As `Engine`."""
        return automatic_batch(self._loaded(settings))

    def measure(
        self, settings: SweepSettings, blocks: Sequence[Block], count: StepCount
    ) -> Iterator[list[Measurement]]:
        """As `Engine`."""
        bench = replace(self._loaded(settings), settings=settings, count=count)
        for block in blocks:
            yield bench.measure(block)

    def close(self) -> None:
        """As `Engine`."""
        self._bench = None

    def _loaded(self, settings: SweepSettings) -> Bench:
        self._bench = self._bench or load_bench(settings, self.device)
        return self._bench


class Worker(LocalEngine):
    """A Ray actor's state: the models stay loaded from block to block."""

    def measure_one(self, settings: SweepSettings, block: Block) -> list[Measurement]:
        """Measure a block."""
        return next(self.measure(settings, [block], lambda _: None))

    def process(self) -> int:
        """Its process id."""
        return os.getpid()


class RayEngine:
    """Spreads the blocks over the Ray cluster of RAY_ADDRESS, or over one that is started on this machine.

    Args:
        device: "cpu", or "cuda" with a GPU for each worker; "" for what the cluster has.
        workers: how many; 0 for one per GPU, or one per as many CPUs as torch uses threads.

    Raises:
        InputError: for a cluster that cannot be reached; for other devices and fewer than 0 workers, before one is.
    """

    def __init__(self, device: str, workers: int = 0) -> None:
        require("ray", "ray")
        kind = device.partition(":")[0]
        if kind not in ("", "cpu", "cuda"):
            raise InputError(f"--device: found {shown(device)}, accepted: cpu or cuda")
        if workers < 0:
            raise InputError(f"--workers: found {workers}, accepted: 0 or more")
        connect()
        import ray

        self.kind = kind or ("cuda" if ray.cluster_resources().get("GPU") else "cpu")
        self.workers = workers
        self.actors: list[Any] = []

    def load(self, settings: SweepSettings) -> None:
        """As `Engine`; on all workers at once."""
        import ray

        self._start(settings, len(settings.blocks))
        with worker_errors():
            ray.get([actor.load.remote(settings) for actor in self.actors])

    def largest_batch(self, settings: SweepSettings) -> int:
        """As `Engine`; of one worker for all."""
        import ray

        self._start(settings, len(settings.blocks))
        with worker_errors():
            return int(ray.get(self.actors[0].largest_batch.remote(settings)))

    def measure(
        self, settings: SweepSettings, blocks: Sequence[Block], count: StepCount
    ) -> Iterator[list[Measurement]]:
        """As `Engine`; a block whose worker dies is repeated."""
        from ray.util import ActorPool

        self._start(settings, len(blocks))
        pool: Any = ActorPool(self.actors)
        with worker_errors():
            for measured in pool.map_unordered(lambda actor, block: actor.measure_one.remote(settings, block), blocks):
                count(settings.cluster_steps * len(measured) // (len(settings.users) * len(settings.splits)))
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
        InputError: where nothing answers there.
    """
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=None if address else False)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(
            f"--engine ray: RAY_ADDRESS: found {shown(address)}, where no Ray cluster answers ({reason}); start one "
            "there, or unset it for one on this machine"
        ) from error


def start_workers(kind: str, threads: int, most: int) -> list[Any]:
    """Ray actors, restarted where they die: at most as many as the cluster's machines hold.

    Raises:
        InputError: where none of them holds one.
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
    """What happens to a worker, as it would in this process.

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

"""Where the blocks of a sweep are measured: in this process, or spread over a Ray cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..common.errors import InputError, require
from .sweep import Bench, Block, Measurement, StepCount, SweepSettings, load_bench

Engine = Callable[[SweepSettings, Sequence[Block], StepCount], Iterator[list[Measurement]]]
RETRIES = 3
"""How often a worker that died is started again, and its block repeated."""


def local_engine(device: str) -> Engine:
    """Measure in this process."""

    def measure(settings: SweepSettings, blocks: Sequence[Block], count: StepCount) -> Iterator[list[Measurement]]:
        bench = load_bench(settings, device, count)
        for block in blocks:
            yield bench.measure(block)

    return measure


class Worker:
    """A Ray actor's state: the models stay loaded from block to block."""

    def __init__(self, settings: SweepSettings, device: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)  # as in the driver, so that sums are formed alike
        self.settings, self.device = settings, device
        self.bench: Bench | None = None

    def measure(self, block: Block) -> list[Measurement]:
        """Measure a block."""
        self.bench = self.bench or load_bench(self.settings, self.device)
        return self.bench.measure(block)

    def process(self) -> int:
        """Its process id."""
        return os.getpid()


def ray_engine(device: str, workers: int = 0) -> Engine:
    """Spread the blocks over the Ray cluster of RAY_ADDRESS, or over one that is started on this machine.

    Args:
        device: "cpu", or "cuda" with a GPU for each worker.
        workers: how many; 0 for one per GPU, or one per as many CPUs as torch uses threads.
    """
    require("ray", "ray")

    def measure(settings: SweepSettings, blocks: Sequence[Block], count: StepCount) -> Iterator[list[Measurement]]:
        import ray
        from ray.exceptions import RayActorError, RayTaskError
        from ray.util import ActorPool

        actors = start_workers(settings, device, min(workers, len(blocks)))
        pool: Any = ActorPool(actors)
        try:
            for measured in pool.map_unordered(lambda actor, block: actor.measure.remote(block), blocks):
                count(settings.cluster_steps * len(measured) // (len(settings.users) * len(settings.splits)))
                yield measured
        except RayTaskError as error:
            raise error.cause from error
        except RayActorError as error:
            raise InputError(f"--engine ray: a worker died {RETRIES + 1} times; see Ray's logs, then repeat") from error
        finally:
            for actor in actors:
                ray.kill(actor)

    return measure


def start_workers(settings: SweepSettings, device: str, workers: int) -> list[Any]:
    """Ray actors, restarted where they die."""
    import ray
    import torch

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False if "RAY_ADDRESS" not in os.environ else None)
    threads = torch.get_num_threads()
    gpus = int(device != "cpu")
    most = int(ray.cluster_resources().get("GPU", 0)) if gpus else int(ray.cluster_resources()["CPU"]) // threads
    remote = ray.remote(num_cpus=0 if gpus else threads, num_gpus=gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(
        Worker
    )
    count = max(1, min(most, workers or most))
    return [remote.remote(settings, device.partition(":")[0], threads) for _ in range(count)]

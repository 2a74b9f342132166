"""Sixteen users with mixed splits in one batch against sixteen separate diffusers pipelines.

`python benchmarks/hybrid.py`: both make the same pictures from the same models and seeds, taking turns. Prints seconds
and sample-steps per second, their ratio, and what the shrinking of the batch costs: the time of a pass with mixed
splits over that of full batches with as many sample-steps.
"""

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console

from edgesplit import data
from edgesplit.common.tables import plain_table
from edgesplit.diffusion.inference.batch import denoise
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, finish_local
from edgesplit.diffusion.inference.models import load_model
from edgesplit.diffusion.inference.noise import initial_noise
from edgesplit.diffusion.inference.sampling import Sampling

USERS, STEPS, TURNS, GUIDANCE = 16, 50, 3, 3.0
TEMPLATE = "a photo of {subject} on the beach"


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def make_works(device: str, splits: list[int]) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    from diffusers import StableDiffusionPipeline

    folder = data.FOLDER / "toyworld" / "base"
    model, sampling = load_model(folder, device=device), Sampling(total_steps=STEPS, guidance_scale=GUIDANCE)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).to(device, torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    requests = [Request(prompt_template=TEMPLATE, local_steps=n, seed=i) for i, n in enumerate(splits)]
    left = STEPS - round(offloaded(splits) / USERS)

    def full_batches() -> None:
        noise = initial_noise(model, range(USERS), sampling)
        denoise(model, noise, [model.prompt(TEMPLATE)] * USERS, STEPS, left, sampling)

    def together() -> None:
        for handoff in edge_prefix(model, requests, sampling):
            model.decode(finish_local(model, handoff, sampling))

    def separate() -> None:
        for request in requests:
            generator = torch.Generator().manual_seed(request.seed)
            settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "height": 48, "width": 48}
            pipeline(model.prompt(TEMPLATE), generator=generator, output_type="pt", **settings)

    return {
        "edge": lambda: edge_prefix(model, requests, sampling),
        "full batches": full_batches,
        "together": together,
        "separate": separate,
    }


def offloaded(splits: list[int]) -> int:
    """Sample-steps of the edge."""
    return sum(STEPS - n for n in splits)


def main() -> None:
    """One table."""
    warnings.simplefilter("ignore")
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    splits = np.linspace(0, STEPS, USERS).round().astype(int).tolist()
    works = make_works(device, splits)
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(TURNS + 1):
        for name, work in works.items():
            took = seconds(work)
            if turn:  # the first turn warms up
                times[name].append(took)
    _print({name: float(np.median(taken)) for name, taken in times.items()}, offloaded(splits), device)


def _print(median: dict[str, float], edge_steps: int, device: str) -> None:
    table = plain_table("what", "seconds", "sample-steps", "per second", right_from=1)
    every = USERS * STEPS
    for name, steps in (("together", every), ("separate", every), ("edge", edge_steps), ("full batches", edge_steps)):
        table.add_row(name, f"{median[name]:.2f}", str(steps), f"{steps / median[name]:.0f}")
    console = Console(highlight=False)
    console.print(f"{USERS} users, {STEPS} steps, splits 0 to {STEPS}, toy world, {device}:")
    console.print(table)
    console.print(f"separate pipelines / hybrid, whole job: {median['separate'] / median['together']:.2f}")
    share = edge_steps / every
    console.print(f"separate pipelines / edge, per sample-step: {median['separate'] * share / median['edge']:.2f}")
    console.print(f"shrinking batch / full batches: {median['edge'] / median['full batches']:.2f}")


if __name__ == "__main__":
    main()

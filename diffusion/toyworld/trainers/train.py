"""Train the toy world from nothing: `python -m edgesplit.diffusion.toyworld.trainers.train -o FOLDER [STAGE ...]`.

A stage that was killed goes on from its checkpoint; one whose report is there is skipped. `card.json` collects the
reports: the number of steps, the time and the quality of each stage.
"""

import json
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ....common import console
from ....common.errors import InputError, nearest
from ....common.files import make_folder, whole_file
from ....common.locks import only_run
from ....common.progress import Progress, progress_bar
from ...inference.clip_images import load_image_encoder
from ...inference.models import load_model
from ...inference.references import cohort_models
from ...train.cohort import read_cohort
from ...train.job import prepare_job
from ...train.kept_threads import keep_threads
from ...train.loop import make_accelerator
from ...train.run import run_job
from ..example import write_example
from . import networks
from .base import BATCH, train_base
from .clip import train_clip
from .perceptual import train_perceptual
from .quality import caption_accuracies, identity_accuracy
from .samples import Report
from .vae import train_vae

STAGES = {
    "vae": (train_vae, 2800),
    "perceptual": (train_perceptual, 900),
    "clip": (train_clip, 2400),
    "base": (train_base, 4500),
}
"""The stages in their order: how each is trained, and its number of steps; the last stage is the cohort."""
THREADS = ".threads.json"
"""File in the output for the number of processor threads."""
PICTURES = 128
"""Number of pictures by which the base is judged."""
app = console.make_app("Train the toy world's models from nothing.")


@app.command()
def train(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="Stages to train; default: all.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the models.")] = Path("toyworld"),
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of processor threads; default: with which a step is fastest.")
    ] = None,
) -> None:
    """Train the stages vae, perceptual, clip, base and cohort."""
    make_folder(output)
    with only_run(output, "training of the toy world"), console.resumable():
        if threads:
            torch.set_num_threads(threads)
        else:
            keep_threads(output / THREADS, timed_gradient(), "train")
        for name in names or [*STAGES, "cohort"]:
            run_stage(name, output)
        write_card(output)


def timed_gradient() -> Callable[[], None]:
    """A function that computes a gradient of the UNet, as the longest stage does, for its duration."""
    unet = networks.make_unet()
    latents = torch.zeros(BATCH, networks.LATENT_CHANNELS, networks.LATENT_SIDE, networks.LATENT_SIDE)
    embeddings = torch.zeros(BATCH, networks.TOKENS, networks.WIDTH)
    return lambda: unet(latents, 1, encoder_hidden_states=embeddings, return_dict=False)[0].mean().backward()


def run_stage(name: str, folder: Path) -> None:
    """Train one stage, unless its report is there; the report has the seconds of the run that ended the stage."""
    if name not in (*STAGES, "cohort"):
        raise InputError(f"stage: found {name!r}, accepted: {', '.join(STAGES)}, cohort; {nearest(name, STAGES)}")
    report = folder / f"{name}.report.json"
    if report.exists():
        return
    start = time.perf_counter()
    steps, quality = train_cohort(folder) if name == "cohort" else train_network(name, folder)
    took = time.perf_counter() - start
    with whole_file(report) as handle:
        handle.write(json.dumps({"steps": steps, "seconds": round(took), **quality}, indent=1) + "\n")
    (folder / f"{name}.checkpoint.safetensors").unlink(missing_ok=True)


def train_network(name: str, folder: Path) -> tuple[int, Report]:
    """Train one of `STAGES`; returns its number of steps and its quality."""
    stage, steps = STAGES[name]
    with _bar(name, steps, "steps") as progress:
        return steps, stage(folder, steps, make_accelerator("cpu"), progress)


def train_cohort(folder: Path) -> tuple[int, Report]:
    """Train the models of a cohort on rendered photos; returns the number of steps of each, and how many they are."""
    path = folder / "cohort" / "cohort.toml"
    if not path.exists():
        write_example(path.parent, base="../base", clip="../clip")
    file = read_cohort(path)
    warnings.filterwarnings("ignore", module="diffusers|transformers|peft|accelerate")
    for gate in run_job(prepare_job(file, folder, "cpu", _bar)):
        gains = ", ".join(f"{user} {gain:+.3f}" for user, gain in gate.gains.items())
        console.say(f"train: {gate.name}: similarity to the photos of {gains}")
    return file.cohort.training.steps, {"models": 1 + len(file.cohort.users)}


def write_card(folder: Path) -> None:
    """Collect the reports of the finished stages in `card.json`."""
    reports = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in _reports(folder)}
    if "cohort" in reports:
        reports |= _judged(folder, reports)
    card: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "open_clip_torch")},
        "stages": reports,
    }
    with whole_file(folder / "card.json") as handle:
        handle.write(json.dumps(card, indent=1) + "\n")


def _judged(folder: Path, reports: dict[str, Any]) -> dict[str, Any]:
    """The reports of the base and the cohort, with what the toy world's CLIP sees in their pictures."""
    encoder = load_image_encoder(str(folder / "clip"))
    users = {name: load_model(reference) for name, reference in cohort_models(folder)[1].items()}
    captions = caption_accuracies(load_model(folder / "base"), folder / "clip", PICTURES)
    return {
        "base": reports["base"] | {"caption_accuracy": captions},
        "cohort": reports["cohort"] | {"identity_accuracy": identity_accuracy(users, encoder)},
    }


def _bar(name: str, total: float, unit: str) -> AbstractContextManager[Progress]:
    return progress_bar(f"train: {name}", total, unit)


def _reports(folder: Path) -> list[tuple[str, Path]]:
    paths = [(name, folder / f"{name}.report.json") for name in (*STAGES, "cohort")]
    return [(name, path) for name, path in paths if path.exists()]


if __name__ == "__main__":
    console.run(app, "train")

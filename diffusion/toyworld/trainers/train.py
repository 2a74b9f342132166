"""Train the toy world from nothing: `python -m edgesplit.diffusion.toyworld.train -o FOLDER [STAGE ...]`.

Each stage goes on from its checkpoint and is skipped once its report is there. `card.json` collects the reports: the
steps, time and quality of each stage.
"""

import json
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ....common import console
from ....common.errors import InputError, nearest
from ....common.files import make_folder, whole_file
from ...dreambooth_command import cohort_models, run_dreambooth, training_bar
from ...inference.clip_images import load_image_encoder
from ...inference.models import load_model
from ...train.cohort import read_cohort
from ...train.loop import make_accelerator
from ..example import write_example
from . import stages
from .quality import caption_accuracies, identity_accuracy

STAGES = {
    "vae": (stages.train_vae, 2800),
    "perceptual": (stages.train_perceptual, 900),
    "clip": (stages.train_clip, 2400),
    "base": (stages.train_base, 4500),
}
"""In their order, with their steps; then comes the cohort, which is `dreambooth` on rendered photos."""
PICTURES = 128
"""On which the base is judged."""
app = console.make_app("Train the toy world's models from nothing.")


@app.command()
def train(
    names: Annotated[list[str] | None, typer.Argument(metavar="[STAGE]...", help="Default: all.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder.")] = Path("toyworld"),
    threads: Annotated[int, typer.Option(help="Processor threads.")] = 1,
) -> None:
    """Train the stages vae, perceptual, clip, base and cohort."""
    torch.set_num_threads(threads)
    make_folder(output)
    for name in names or [*STAGES, "cohort"]:
        run_stage(name, output)
    write_card(output)


def run_stage(name: str, folder: Path) -> None:
    """Train one stage, unless its report is there; a report's seconds are those of the run that ended the stage."""
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


def train_network(name: str, folder: Path) -> tuple[int, stages.Report]:
    """One of `STAGES`: its steps and quality."""
    stage, steps = STAGES[name]
    with training_bar(name, steps) as progress:
        return steps, stage(folder, steps, make_accelerator("cpu"), progress)


def train_cohort(folder: Path) -> tuple[int, stages.Report]:
    """The cluster-wide and the personal models: steps of each, and how many they are."""
    path = folder / "cohort" / "cohort.toml"
    if not path.exists():
        write_example(path.parent, base="../base", clip="../clip")
    run_dreambooth(path, folder, "cpu", as_json=False)
    cohort = read_cohort(path)
    return cohort.training.steps, {"models": 1 + len(cohort.users)}


def write_card(folder: Path) -> None:
    """Collect the reports of the finished stages."""
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
    """What the toy world's CLIP sees in the pictures of the base and of the personal models."""
    encoder = load_image_encoder(str(folder / "clip"))
    users = {name: load_model(reference) for name, reference in cohort_models(folder)[1].items()}
    captions = caption_accuracies(load_model(folder / "base"), folder / "clip", PICTURES)
    return {
        "base": reports["base"] | {"caption_accuracy": captions},
        "cohort": reports["cohort"] | {"identity_accuracy": identity_accuracy(users, encoder)},
    }


def _reports(folder: Path) -> list[tuple[str, Path]]:
    paths = [(name, folder / f"{name}.report.json") for name in (*STAGES, "cohort")]
    return [(name, path) for name, path in paths if path.exists()]


if __name__ == "__main__":
    console.run(app, "train")

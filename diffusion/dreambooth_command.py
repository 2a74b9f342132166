"""What the command `dreambooth` does."""

import json
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..common.console import resumable, say
from ..common.errors import require
from ..common.locks import only_run
from ..common.progress import Progress, progress_bar
from ..common.tables import plain_table
from .inference.references import MODULES, check_device, check_models, pick_device

if TYPE_CHECKING:
    from .train.cohort import CohortFile
    from .train.gate import Gate

REMEDY = 'free some, or try a smaller batch_size, gradient_checkpointing or method = "lora"'


def write_example(folder: Path) -> None:
    """Write a cohort of the toy world into a folder."""
    require("models", *MODULES)
    from .toyworld.example import write_example as write

    path = write(folder)
    say(f"wrote {path} and rendered photos; now: dreambooth {path}")


def run_dreambooth(path: Path, output: Path | None, device: str, as_json: bool) -> None:
    """Train the models of a cohort that are not finished yet, and print their gates.

    Raises:
        InputError: one line; what is finished stays.
    """
    from .train.cohort import read_cohort

    file = read_cohort(path)
    check_device(device)
    with file.field("base"):
        check_models([file.base_reference])
    require("models", *MODULES)
    folder = output or path.with_suffix("")
    with only_run(folder, "dreambooth"), resumable():
        gates = _train(file, folder, device)
    if as_json:
        rows = [gate.as_json() for gate in gates]
        print(json.dumps({"output": str(folder), "clip": file.clip_name, "gates": rows}, indent=1))
        return
    _print_gates(gates)
    say(f"wrote {folder}; now: hybrid --cohort {folder}")


def _train(file: "CohortFile", folder: Path, device: str) -> list["Gate"]:
    """Train what is not finished yet; says each gate and returns them all."""
    from .inference.gpu import gpu_memory
    from .train.job import prepare_job
    from .train.run import choose_threads, run_job

    warnings.filterwarnings("ignore", module="diffusers|transformers|peft|accelerate")
    gates = []
    with gpu_memory("this training", REMEDY):
        job = prepare_job(file, folder, pick_device(device), _bar)
        choose_threads(job, "dreambooth")
        for gate in run_job(job):
            gates.append(gate)
            say(f"dreambooth: {gate.name}: {'finished before' if gate.reused else 'trained'}; {_gate_line(gate)}")
    return gates


def _bar(name: str, total: float, unit: str) -> AbstractContextManager[Progress]:
    return progress_bar(f"dreambooth: {name}", total, unit)


def _print_gates(gates: Sequence["Gate"]) -> None:
    console = Console(highlight=False)
    users = list(gates[0].after)
    console.print("CLIP similarity of samples to each user's photos (gain over the base):")
    table = plain_table("model", *users, "raises its own most", right_from=1)
    for gate in gates:
        cells = [f"{gate.after[user]:.3f} ({gate.gains[user]:+.3f})" for user in users]
        own = gate.name in users
        table.add_row(gate.name, *cells, _verdict(gate) if own else "-")
    console.print(table)


def _gate_line(gate: "Gate") -> str:
    """How similar a model's samples are to the photos, compared with the base's samples of the same prompts."""
    if gate.name not in gate.after:
        before, after = (sum(values.values()) / len(values) for values in (gate.before, gate.after))
        return f"similarity to all photos {before:.3f} -> {after:.3f}"
    others = f", to others' at most {gate.others_gain:+.3f}" if len(gate.after) > 1 else ""
    return (
        f"similarity to its own photos {gate.before[gate.name]:.3f} -> {gate.after[gate.name]:.3f} "
        f"({gate.gains[gate.name]:+.3f}{others}); raises its own most: {_verdict(gate)}"
    )


def _verdict(gate: "Gate") -> str:
    return "yes" if gate.is_its_own else "no"

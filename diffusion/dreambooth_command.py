"""What the command `dreambooth` does, and what it shares with `hybrid`."""

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import data
from ..common.console import say
from ..common.errors import InputError, require, shown
from ..common.tables import plain_table

if TYPE_CHECKING:
    from .train.train_cohort import Gate

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MODULES = ("torch", "diffusers", "transformers", "accelerate", "peft", "open_clip")


def write_example(folder: Path) -> None:
    """Write the toy world's cohort."""
    require("models", *MODULES)
    from .toyworld.example import write_example as write

    path = write(folder)
    say(f"wrote {path} and rendered photos; now: dreambooth {path}")


def run_dreambooth(path: Path, output: Path | None, device: str, as_json: bool) -> None:
    """Train what is not trained yet and print the gates.

    Raises:
        InputError: one line; what is finished stays.
    """
    from .train.cohort import read_cohort

    cohort = read_cohort(path)
    require("models", *MODULES)
    from .inference.gpu import gpu_memory
    from .train.train_cohort import Job, run_job

    warnings.filterwarnings("ignore", module="diffusers|transformers|peft|accelerate")
    folder = output or path.with_suffix("")
    job = Job(cohort, path, folder, pick_device(device), training_bar)
    gates = []
    remedy = 'free some, or try a smaller batch_size, gradient_checkpointing or method = "lora"'
    with gpu_memory("this training", remedy):
        job.prepare()
        for gate in run_job(job):
            gates.append(gate)
            say(f"dreambooth: {gate.name}: {'finished before' if gate.reused else 'trained'}; {_gate_line(gate)}")
    if as_json:
        rows = [gate.as_json() for gate in gates]
        print(json.dumps({"output": str(folder), "clip": job.clip_name, "gates": rows}, indent=1))
        return
    _print_gates(gates)
    say(f"wrote {folder}; now: hybrid --cohort {folder}")


def pick_device(name: str) -> str:
    """The device to run on.

    Raises:
        InputError: for one that is not there.
    """
    import torch

    if not name:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind != "cuda" or not (index or "0").isdecimal():
        raise InputError(f"--device: found {shown(name)}, accepted: cpu, cuda or cuda:NUMBER")
    if int(index or 0) >= count:
        raise InputError(f"--device: found {name}, but {count} NVIDIA GPUs are usable here; use --device cpu")
    return f"cuda:{index or 0}"


def model_references(cluster: str | None, users: Sequence[str], cohort: Path | None) -> tuple[str, dict[str, str]]:
    """The cluster-wide model and the users' models that the options name; without any, the toy world's.

    Args:
        cluster: of --cluster.
        users: of every --user, NAME=MODEL.
        cohort: of --cohort.

    Raises:
        InputError: for options that do not go together.
    """
    if cluster and cohort:
        raise InputError("--cluster: found --cohort as well, accepted: one of the two")
    if cluster:
        if not users:
            raise InputError("--cluster: found no --user, accepted: one NAME=MODEL or more")
        return cluster, named("--user", users)
    if users:
        raise InputError("--user: found no --cluster, accepted: both, or --cohort FOLDER alone")
    return cohort_models(cohort or data.FOLDER / "toyworld")


def cohort_models(folder: Path) -> tuple[str, dict[str, str]]:
    """The models in a folder that `dreambooth` wrote.

    Raises:
        InputError: where they are not there.
    """
    users = {path.name: str(path) for path in sorted((folder / "users").glob("*")) if not path.name.startswith(".")}
    if not (folder / "cluster").is_dir() or not users:
        raise InputError(f"{folder}: found no finished cohort, accepted: a folder that dreambooth wrote")
    return str(folder / "cluster"), users


def named(option: str, texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE options as a dictionary.

    Raises:
        InputError: for anything else, or a name that stands twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not NAME.fullmatch(name) or not value or name in pairs:
            raise InputError(
                f"{option}: found {shown(text)}, accepted: NAME=VALUE, each name once, of letters, "
                "digits, dots, - and _"
            )
        pairs[name] = value
    return pairs


# -- dreambooth ---------------------------------------------------------------------------------------------


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
    """What its samples look like, against the base's of the same prompts."""
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


@contextmanager
def training_bar(name: str, total: int) -> Iterator[Any]:
    """A line with steps, loss and time left, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task(name, total=total)

        def update(done: int, loss: float) -> None:
            text = f"{name}  loss {loss:.3f}" if loss else name
            bar.update(task, completed=done, description=text)

        yield update

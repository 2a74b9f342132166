"""What the commands `dreambooth` and `hybrid` do."""

import json
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import data
from ..common.console import say
from ..common.errors import InputError, require, shown
from ..common.files import make_folder
from ..common.ranges import parse_ranges
from ..common.tables import plain_table
from .splits import own_splits, read_plan

if TYPE_CHECKING:
    from torch import Tensor

    from .models import Model
    from .sampling import Sampling
    from .train_cohort import Gate

    Row = list[tuple[str, int, Tensor]]
    """Pictures side by side: user, local steps, picture (3, height, width)."""

TOY_PROMPT = "a photo of {subject} wearing a hat on the beach"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MODULES = ("torch", "diffusers", "transformers", "accelerate", "peft", "open_clip")


@dataclass(frozen=True)
class HybridRequest:
    """The options of `hybrid`; see its help."""

    prompts: list[str]
    cohort: Path | None
    cluster: str | None
    users: list[str]
    local_steps: str | None
    plan: Path | None
    total_steps: int | None
    guidance: float | None
    scheduler: str
    seed: int
    dtype: str
    device: str
    output: Path
    as_json: bool


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
    from .cohort import read_cohort

    cohort = read_cohort(path)
    require("models", *MODULES)
    from .train_cohort import Job, run_job

    warnings.filterwarnings("ignore", module="diffusers|transformers|peft|accelerate")
    folder = output or path.with_suffix("")
    job = Job(cohort, path, folder, pick_device(device), training_bar)
    job.prepare()
    gates = []
    for gate in run_job(job):
        gates.append(gate)
        say(f"dreambooth: {gate.name}: {'finished before' if gate.reused else 'trained'}; {_gate_line(gate)}")
    if as_json:
        rows = [gate.as_json() for gate in gates]
        print(json.dumps({"output": str(folder), "clip": job.clip_name, "gates": rows}, indent=1))
        return
    _print_gates(gates)
    say(f"wrote {folder}; now: hybrid --cohort {folder}")


def run_hybrid(request: HybridRequest) -> None:
    """Generate, write pictures and a grid, print what ran where.

    Raises:
        InputError: one line.
    """
    require("models", *MODULES)
    from .handoff import check_seed
    from .hybrid import check_template
    from .models import DTYPES, load_model

    cluster, users = model_references(request.cluster, request.users, request.cohort)
    sampling, splits = _sampling(request, users)
    if request.dtype not in DTYPES:
        raise InputError(f"--dtype: found {shown(request.dtype)}, accepted: {', '.join(DTYPES)}")
    check_seed(request.seed)
    device = pick_device(request.device)
    warnings.filterwarnings("ignore", module="diffusers|transformers|peft")
    for template in request.prompts:
        check_template(template)
    edge = load_model(cluster, dtype=request.dtype, device=device)
    personal = {name: load_model(reference, dtype=request.dtype, device=device) for name, reference in users.items()}
    _check_fit(request.prompts, sampling, edge, list(personal.values()))
    make_folder(request.output)
    report = _generate(request, sampling, splits, edge, personal)
    if request.as_json:
        print(json.dumps(report, indent=1))
    else:
        _print_report(report)
    say(f"wrote {report['grid']} and {report['pictures']} pictures into {request.output}")


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


# -- hybrid -------------------------------------------------------------------------------------------------


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


def _sampling(request: HybridRequest, users: Collection[str]) -> tuple["Sampling", list[int] | dict[str, int]]:
    """The settings, and the splits: every user's at each of a list, or each user's own."""
    from .sampling import Sampling

    toy = request.cluster is None and request.cohort is None
    if not toy and not request.prompts:
        raise InputError("--prompt: missing; give a template such as 'a photo of {subject} on the beach'")
    if request.plan and request.local_steps:
        raise InputError("--plan: found --local-steps as well, accepted: one of the two")
    plan = read_plan(request.plan) if request.plan else None
    usual = plan.total_steps if plan else 50 if toy else 200
    sampling = Sampling(
        total_steps=usual if request.total_steps is None else request.total_steps,
        guidance_scale=(3.0 if toy else 7.5) if request.guidance is None else request.guidance,
        scheduler=request.scheduler,
    )
    total = sampling.total_steps
    if plan:
        return sampling, own_splits(str(request.plan), plan.local_steps, users, total)
    text = request.local_steps or f"0:{total}:{max(1, total // 5)}"
    if "=" in text:
        return sampling, own_splits("--local-steps", named("--local-steps", text.split(",")), users, total)
    return sampling, parse_ranges("--local-steps", text, 0, total)


def _check_fit(prompts: Sequence[str], sampling: "Sampling", edge: "Model", personal: Sequence["Model"]) -> None:
    """Refuse models that cannot hand off and prompts that one of them cannot read, before any step runs."""
    from .models import check_pair

    for model in personal:
        check_pair(edge, model, sampling)
    for model in (edge, *personal):
        model.tokens([model.prompt(template) for template in prompts or [TOY_PROMPT]])


def _generate(
    request: HybridRequest,
    sampling: "Sampling",
    splits: list[int] | dict[str, int],
    edge: "Model",
    personal: dict[str, "Model"],
) -> dict[str, Any]:
    from .handoff import handoff_bits

    prompts = request.prompts or [TOY_PROMPT]
    edge_steps: list[int] = []
    made = (
        _planned(prompts, request.seed, sampling, splits, edge, personal, edge_steps.append)
        if isinstance(splits, dict)
        else _swept(prompts, request.seed, sampling, splits, edge, personal, edge_steps.append)
    )
    rows: list[Row] = []
    for row in made:
        rows.append(row)
        _save(request.output, len(rows), row)
    bits = handoff_bits(edge.latent_shape, "fp16", prompts[0])
    grid = request.output / "grid.png"
    _save_grid(grid, rows)
    return {
        "cluster": edge.name,
        "users": list(personal),
        "prompts": prompts,
        "total_steps": sampling.total_steps,
        "local_steps": splits,
        "edge_sample_steps": sum(edge_steps),
        "edge_passes": len(edge_steps),
        "handoff_payload_bits": bits.payload,
        "handoff_total_bits": bits.total,
        "pictures": sum(map(len, rows)),
        "grid": str(grid),
    }


def _swept(
    prompts: Sequence[str],
    seed: int,
    sampling: "Sampling",
    splits: Sequence[int],
    edge: "Model",
    personal: dict[str, "Model"],
    count: Callable[[int], None],
) -> Iterator["Row"]:
    """A row per prompt and user: every split, most local steps first. One edge pass per prompt serves them all."""
    from .hybrid import edge_sweep, finish_local

    falling = sorted(splits, reverse=True)
    for template in prompts:
        handoffs = edge_sweep(edge, template, seed, falling, sampling, count)
        for name, model in personal.items():
            pictures = model.decode(finish_local(model, handoffs, sampling))
            yield [(name, n, picture) for n, picture in zip(falling, pictures, strict=True)]


def _planned(
    prompts: Sequence[str],
    seed: int,
    sampling: "Sampling",
    splits: dict[str, int],
    edge: "Model",
    personal: dict[str, "Model"],
    count: Callable[[int], None],
) -> Iterator["Row"]:
    """A row per prompt: every user at the own split. One edge pass in all, whose batch shrinks."""
    from .hybrid import Request, hybrid

    users = [(template, name, number) for template in prompts for number, name in enumerate(personal)]
    requests = [Request(prompt_template=t, local_steps=splits[name], seed=seed + i) for t, name, i in users]
    pictures = hybrid(edge, [personal[name] for _, name, _ in users], requests, sampling, count)
    made = [(name, splits[name], picture) for (_, name, _), picture in zip(users, pictures, strict=True)]
    for start in range(0, len(made), len(personal)):
        yield made[start : start + len(personal)]


def _save(folder: Path, number: int, row: "Row") -> None:
    from .photos import save_image

    for name, split, picture in row:
        save_image(folder / f"{number:02d}-{name}-n{split:03d}.png", picture)


def _save_grid(path: Path, rows: Sequence["Row"]) -> None:
    import torch

    from .photos import save_image

    save_image(path, torch.cat([torch.cat([picture for *_, picture in row], dim=2) for row in rows], dim=1))


def _print_report(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    table = plain_table("what", "value", right_from=1)
    table.add_row("users", ", ".join(report["users"]))
    table.add_row("steps in all, N", str(report["total_steps"]))
    splits = report["local_steps"]
    own = [f"{name}={n}" for name, n in splits.items()] if isinstance(splits, dict) else map(str, splits)
    table.add_row("local steps, n", ", ".join(own))
    table.add_row("edge: sample-steps", str(report["edge_sample_steps"]))
    table.add_row("edge: passes of the UNet", str(report["edge_passes"]))
    table.add_row("hand-off, fp16: payload bits", str(report["handoff_payload_bits"]))
    table.add_row("hand-off, fp16: bits with header", str(report["handoff_total_bits"]))
    console.print(table)
    console.print("latent_bits of a scenario is the last line.")


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

"""What the command `hybrid` does."""

import json
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..common.console import say
from ..common.errors import InputError, require, shown
from ..common.files import make_folder
from ..common.ranges import parse_ranges
from ..common.tables import plain_table
from .inference.references import MODULES, model_references, named, pick_device
from .inference.sampling import Sampling
from .inference.splits import own_splits, read_plan
from .inference.templates import check_template

if TYPE_CHECKING:
    from torch import Tensor

    from .inference.models import Model

    Row = list[tuple[str, int, Tensor]]
    """Pictures side by side: user, local steps, picture of shape (3, height, width)."""

Splits = list[int] | dict[str, int]
"""Splits that every user gets a picture at, or user -> the user's own split."""
TOY_PROMPT = "a photo of {subject} wearing a hat on the beach"


@dataclass(frozen=True, kw_only=True)
class HybridRequest:
    """What to generate; the options of `hybrid` of the same names, whose help explains them.

    Attributes:
        prompts: templates with `{subject}`; none for one about the toy world.
        cohort: folder that `dreambooth` wrote.
        cluster: reference of the cluster-wide model.
        users: NAME=MODEL of every user.
        local_steps: the splits, as text.
        plan: CSV that `plan` wrote.
        total_steps: N; None for the default.
        guidance: guidance scale; None for the default.
        scheduler: name of the scheduler.
        seed: seed of the initial noise.
        dtype: number format of the models.
        device: device to run on; empty for the default.
        output: folder for the pictures.
    """

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


def run_hybrid(request: HybridRequest, as_json: bool) -> None:
    """Generate, write pictures and a grid, and print what ran where.

    Raises:
        InputError: one line.
    """
    require("models", *MODULES)
    from .inference.gpu import gpu_memory

    cluster, users = model_references(request.cluster, request.users, request.cohort)
    sampling, splits = _sampling(request, users)
    edge, personal = _fitting_models(request, sampling, *_load_models(request, cluster, users))
    make_folder(request.output)
    with gpu_memory("the pictures", "free some, try --dtype fp16, or fewer --prompt and --local-steps"):
        report = _generate(request, sampling, splits, edge, personal)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        _print_report(report)
    say(f"wrote {report['grid']} and {report['pictures']} pictures into {request.output}")


def _sampling(request: HybridRequest, users: Collection[str]) -> tuple[Sampling, Splits]:
    """The settings that edge and devices share, and the splits."""
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
    if plan:
        return sampling, own_splits(str(request.plan), plan.local_steps, users, sampling.total_steps)
    return sampling, _splits(request.local_steps, users, sampling.total_steps)


def _splits(text: str | None, users: Collection[str], total: int) -> Splits:
    """The splits that `--local-steps` names; without it about six, from 0 to N."""
    text = text or f"0:{total}:{max(1, total // 5)}"
    if "=" in text:
        return own_splits("--local-steps", named("--local-steps", text.split(",")), users, total)
    return parse_ranges("--local-steps", text, 0, total)


def _load_models(request: HybridRequest, cluster: str, users: dict[str, str]) -> tuple["Model", dict[str, "Model"]]:
    """The cluster-wide model, and user -> personal model; all other options are checked before."""
    from .inference.gpu import gpu_memory
    from .inference.handoff import check_seed
    from .inference.models import DTYPES, load_model

    if request.dtype not in DTYPES:
        raise InputError(f"--dtype: found {shown(request.dtype)}, accepted: {', '.join(DTYPES)}")
    check_seed(request.seed)
    device = pick_device(request.device)
    for template in request.prompts:
        check_template(template)
    warnings.filterwarnings("ignore", module="diffusers|transformers|peft")
    with gpu_memory("the models", "free some, or try --dtype fp16"):
        edge = load_model(cluster, dtype=request.dtype, device=device)
        personal = {name: load_model(model, dtype=request.dtype, device=device) for name, model in users.items()}
    return edge, personal


def _fitting_models(
    request: HybridRequest, sampling: Sampling, edge: "Model", personal: dict[str, "Model"]
) -> tuple["Model", dict[str, "Model"]]:
    """The models, having checked before any step that they can hand off and can read every prompt."""
    from .inference.models import paired

    edge, models = paired(edge, list(personal.values()), sampling)
    for model in (edge, *models):
        model.tokens([model.prompt(template) for template in request.prompts or [TOY_PROMPT]])
    return edge, dict(zip(personal, models, strict=True))


@dataclass(frozen=True, kw_only=True)
class HybridRun:
    """What to generate, with loaded models.

    Attributes:
        prompts: templates with `{subject}`.
        seed: seed of the initial noise.
        sampling: settings that edge and devices share.
        edge: the cluster-wide model.
        personal: user -> personal model.
        count: called after each step of the edge with the batch's size.
    """

    prompts: Sequence[str]
    seed: int
    sampling: Sampling
    edge: "Model"
    personal: dict[str, "Model"]
    count: Callable[[int], None]

    def rows(self, splits: Splits) -> Iterator["Row"]:
        """The pictures, row by row."""
        return self._planned(splits) if isinstance(splits, dict) else self._swept(splits)

    def _swept(self, splits: Sequence[int]) -> Iterator["Row"]:
        """A row per prompt and user: every split, most local steps first. One edge pass per prompt serves them all."""
        from .inference.hybrid import edge_sweep, finish_local

        falling = sorted(splits, reverse=True)
        for template in self.prompts:
            handoffs = edge_sweep(self.edge, template, self.seed, falling, self.sampling, self.count)
            for name, model in self.personal.items():
                pictures = model.decode(finish_local(model, handoffs, self.sampling))
                yield [(name, n, picture) for n, picture in zip(falling, pictures, strict=True)]

    def _planned(self, splits: dict[str, int]) -> Iterator["Row"]:
        """A row per prompt: every user at the own split. One edge pass in all, whose batch shrinks."""
        from .inference.hybrid import Request, hybrid

        users = [(template, name, i) for template in self.prompts for i, name in enumerate(self.personal)]
        requests = [Request(prompt_template=t, local_steps=splits[name], seed=self.seed + i) for t, name, i in users]
        models = [self.personal[name] for _, name, _ in users]
        pictures = hybrid(self.edge, models, requests, self.sampling, self.count)
        entries = [(name, splits[name], picture) for (_, name, _), picture in zip(users, pictures, strict=True)]
        for start in range(0, len(entries), len(self.personal)):
            yield entries[start : start + len(self.personal)]


def _generate(
    request: HybridRequest, sampling: Sampling, splits: Splits, edge: "Model", personal: dict[str, "Model"]
) -> dict[str, Any]:
    """Make and write the pictures; returns the report."""
    from .inference.handoff import handoff_bits

    prompts = request.prompts or [TOY_PROMPT]
    edge_steps: list[int] = []
    run = HybridRun(
        prompts=prompts,
        seed=request.seed,
        sampling=sampling,
        edge=edge,
        personal=personal,
        count=edge_steps.append,
    )
    rows = _saved_rows(request.output, run.rows(splits))
    grid = request.output / "grid.png"
    _save_grid(grid, rows)
    bits = handoff_bits(edge.latent_shape, "fp16", prompts[0])
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


def _saved_rows(folder: Path, rows: Iterator["Row"]) -> list["Row"]:
    """All rows, the pictures of each written as soon as they are made."""
    from .inference.pictures import save_image

    saved = []
    for number, row in enumerate(rows, 1):
        for name, split, picture in row:
            save_image(folder / f"{number:02d}-{name}-n{split:03d}.png", picture)
        saved.append(row)
    return saved


def _save_grid(path: Path, rows: Sequence["Row"]) -> None:
    """Write all pictures as one, row under row."""
    import torch

    from .inference.pictures import save_image

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

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
from .dreambooth_command import MODULES, model_references, named, pick_device
from .inference.splits import own_splits, read_plan

if TYPE_CHECKING:
    from torch import Tensor

    from .inference.models import Model
    from .inference.sampling import Sampling

    Row = list[tuple[str, int, Tensor]]
    """Pictures side by side: user, local steps, picture (3, height, width)."""

TOY_PROMPT = "a photo of {subject} wearing a hat on the beach"


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


def run_hybrid(request: HybridRequest) -> None:
    """Generate, write pictures and a grid, print what ran where.

    Raises:
        InputError: one line.
    """
    require("models", *MODULES)
    from .inference.gpu import gpu_memory
    from .inference.handoff import check_seed
    from .inference.hybrid import check_template
    from .inference.models import DTYPES, load_model

    cluster, users = model_references(request.cluster, request.users, request.cohort)
    sampling, splits = _sampling(request, users)
    if request.dtype not in DTYPES:
        raise InputError(f"--dtype: found {shown(request.dtype)}, accepted: {', '.join(DTYPES)}")
    check_seed(request.seed)
    device = pick_device(request.device)
    warnings.filterwarnings("ignore", module="diffusers|transformers|peft")
    for template in request.prompts:
        check_template(template)
    how: Any = {"dtype": request.dtype, "device": device}
    with gpu_memory("the models", "free some, or try --dtype fp16"):
        edge = load_model(cluster, **how)
        personal = {name: load_model(reference, **how) for name, reference in users.items()}
    _check_fit(request.prompts, sampling, edge, list(personal.values()))
    make_folder(request.output)
    with gpu_memory("the pictures", "free some, try --dtype fp16, or fewer --prompt and --local-steps"):
        report = _generate(request, sampling, splits, edge, personal)
    if request.as_json:
        print(json.dumps(report, indent=1))
    else:
        _print_report(report)
    say(f"wrote {report['grid']} and {report['pictures']} pictures into {request.output}")


def _sampling(request: HybridRequest, users: Collection[str]) -> tuple["Sampling", list[int] | dict[str, int]]:
    """The settings, and the splits: every user's at each of a list, or each user's own."""
    from .inference.sampling import Sampling

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
    from .inference.models import check_pair

    for model in personal:
        check_pair(edge, model, sampling)
    for model in (edge, *personal):
        model.tokens([model.prompt(template) for template in prompts or [TOY_PROMPT]])


@dataclass(frozen=True)
class Round:
    """Loaded models and what to make with them.

    Attributes:
        prompts: templates.
        seed: of the initial noise.
        sampling: shared settings.
        edge: the cluster-wide model.
        personal: user -> model.
        count: called after each step of the edge with the batch's size.
    """

    prompts: Sequence[str]
    seed: int
    sampling: "Sampling"
    edge: "Model"
    personal: dict[str, "Model"]
    count: Callable[[int], None]

    def swept(self, splits: Sequence[int]) -> Iterator["Row"]:
        """A row per prompt and user: every split, most local steps first. One edge pass per prompt serves them all."""
        from .inference.hybrid import edge_sweep, finish_local

        falling = sorted(splits, reverse=True)
        for template in self.prompts:
            handoffs = edge_sweep(self.edge, template, self.seed, falling, self.sampling, self.count)
            for name, model in self.personal.items():
                pictures = model.decode(finish_local(model, handoffs, self.sampling))
                yield [(name, n, picture) for n, picture in zip(falling, pictures, strict=True)]

    def planned(self, splits: dict[str, int]) -> Iterator["Row"]:
        """A row per prompt: every user at the own split. One edge pass in all, whose batch shrinks."""
        from .inference.hybrid import Request, hybrid

        users = [(template, name, i) for template in self.prompts for i, name in enumerate(self.personal)]
        requests = [Request(prompt_template=t, local_steps=splits[name], seed=self.seed + i) for t, name, i in users]
        models = [self.personal[name] for _, name, _ in users]
        pictures = hybrid(self.edge, models, requests, self.sampling, self.count)
        made = [(name, splits[name], picture) for (_, name, _), picture in zip(users, pictures, strict=True)]
        for start in range(0, len(made), len(self.personal)):
            yield made[start : start + len(self.personal)]


def _generate(
    request: HybridRequest,
    sampling: "Sampling",
    splits: list[int] | dict[str, int],
    edge: "Model",
    personal: dict[str, "Model"],
) -> dict[str, Any]:
    from .inference.handoff import handoff_bits

    prompts = request.prompts or [TOY_PROMPT]
    edge_steps: list[int] = []
    work = Round(prompts, request.seed, sampling, edge, personal, edge_steps.append)
    rows: list[Row] = []
    for row in work.planned(splits) if isinstance(splits, dict) else work.swept(splits):
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


def _save(folder: Path, number: int, row: "Row") -> None:
    from .train.photos import save_image

    for name, split, picture in row:
        save_image(folder / f"{number:02d}-{name}-n{split:03d}.png", picture)


def _save_grid(path: Path, rows: Sequence["Row"]) -> None:
    import torch

    from .train.photos import save_image

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

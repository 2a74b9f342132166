"""What the command `hybrid` does."""

import json
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..common.console import say
from ..common.errors import InputError, require
from ..common.files import make_folder
from ..common.progress import progress_bar
from ..common.ranges import parse_ranges
from ..common.tables import plain_table
from .inference.references import (
    CLASS,
    MODULES,
    SETTINGS,
    check_device,
    check_format,
    check_models,
    model_references,
    named,
    names_subject,
    pick_device,
    subjects,
    usual_guidance,
    usual_scheduler,
)
from .inference.sampling import Sampling, check_seed
from .inference.splits import own_splits, read_plan
from .inference.templates import check_template, with_subject

if TYPE_CHECKING:
    from torch import Tensor

    from .inference.families.base import Model
    from .inference.handoff import Handoff

    Row = list[tuple[str, int, Tensor]]
    """Pictures side by side: user, local steps, picture of shape (3, height, width)."""

Splits = list[int] | dict[str, int]
"""Splits that every user gets a picture at, or user -> the user's own split."""
TOY_PROMPT = "a photo of {subject} wearing a hat on the beach"
EDGE = "at the edge, for all users"
"""Place in messages of what runs on the cluster-wide model."""
MOST_TIMED = 8
"""Most pictures in a step that is timed to choose the number of threads."""


@dataclass(frozen=True, kw_only=True)
class HybridRequest:
    """What to generate; the options of `hybrid` of the same names, whose help explains them.

    Attributes:
        prompts: templates with `{subject}`, or prompts with the subject's words; none for one about the toy world.
        cohort: folder that `dreambooth` wrote.
        cluster: reference of the cluster-wide model.
        users: NAME=MODEL of every user.
        local_steps: the splits, as text.
        plan: table that `plan` wrote.
        total_steps: N; None for the default.
        guidance: guidance scale; None for the default.
        scheduler: name of the scheduler; None for the usual one of the models' family.
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
    scheduler: str | None
    seed: int
    dtype: str
    device: str
    output: Path


@dataclass(frozen=True, kw_only=True)
class HybridPlan:
    """What is going to be generated: the checked options.

    Attributes:
        cluster: reference of the cluster-wide model.
        users: user -> reference of the personal model.
        prompts: templates with `{subject}`.
        sampling: settings that edge and devices share.
        splits: the splits.
        seed: seed of the initial noise.
    """

    cluster: str
    users: dict[str, str]
    prompts: list[str]
    sampling: Sampling
    splits: Splits
    seed: int

    @property
    def sample_steps(self) -> int:
        """Number of steps of all pictures, at the edge and on the devices."""
        total = self.sampling.total_steps
        if isinstance(self.splits, dict):
            return len(self.prompts) * len(self.users) * total
        return len(self.prompts) * (total - min(self.splits) + len(self.users) * sum(self.splits))


def run_hybrid(request: HybridRequest, as_json: bool) -> None:
    """Generate, write pictures and a grid, and print what ran where.

    Raises:
        InputError: one line.
    """
    require("models", *MODULES)
    plan = _plan(request)  # needs no torch, so that wrong options are refused at once
    from .inference.gpu import gpu_memory

    warnings.filterwarnings("ignore", module="diffusers|transformers|peft")
    device = pick_device(request.device)
    edge, personal = _load_models(plan, request.dtype, device)
    _notice_silent_users(plan.users)
    make_folder(request.output)
    with gpu_memory("the pictures", "free some, try --dtype fp16, or fewer --prompt and --local-steps"):
        if device == "cpu":
            _choose_threads(plan, edge)
        report = _generate(plan, request.output, edge, personal)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        _print_report(report)
    say(f"wrote {report['grid']} and {report['pictures']} pictures into {request.output}")


# -- options ------------------------------------------------------------------------------------------------


def _plan(request: HybridRequest) -> HybridPlan:
    """The options, checked as far as that needs no model."""
    cluster, users = model_references(request.cluster, request.users, request.cohort)
    check_format(request.dtype)
    check_seed(request.seed)
    check_device(request.device)
    check_models([cluster, *users.values()])
    sampling, splits = _sampling(request, cluster, users)
    words = subjects([cluster, *users.values()])
    return HybridPlan(
        cluster=cluster,
        users=users,
        prompts=[check_template(with_subject(prompt, words)) for prompt in request.prompts or [TOY_PROMPT]],
        sampling=sampling,
        splits=splits,
        seed=request.seed,
    )


def _notice_silent_users(users: dict[str, str]) -> None:
    """Say which models do not name their subject, as those that other programs made."""
    if silent := [name for name, reference in users.items() if not names_subject(reference)]:
        say(
            f"hybrid: {SETTINGS} with the words for {{subject}} is missing in the models of {', '.join(silent)}: it is "
            f'{CLASS!r} there; write such as {{"subject": "sks {CLASS}"}} into it'
        )


def _sampling(request: HybridRequest, cluster: str, users: Collection[str]) -> tuple[Sampling, Splits]:
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
        guidance_scale=usual_guidance(cluster, request.guidance, toy),
        scheduler=usual_scheduler(cluster, request.scheduler),
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


# -- models -------------------------------------------------------------------------------------------------


def _load_models(plan: HybridPlan, dtype: str, device: str) -> tuple["Model", dict[str, "Model"]]:
    """The cluster-wide model, and user -> personal model: able to hand off, and to read every prompt."""
    from .inference.gpu import gpu_memory
    from .inference.models import load_model, paired

    with gpu_memory("the models", "free some, or try --dtype fp16"):
        edge = load_model(plan.cluster, dtype=dtype, device=device)
        personal = {}
        for name, reference in plan.users.items():
            with _about(f"user {name!r}"):
                personal[name] = load_model(reference, dtype=dtype, device=device)
    edge, models = paired(edge, list(personal.values()), plan.sampling)
    for model in (edge, *models):
        model.check_prompts([model.prompt(template) for template in plan.prompts])
    return edge, dict(zip(personal, models, strict=True))


@contextmanager
def _about(place: str) -> Iterator[None]:
    """Put the edge or a user before the message of a refusal."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _choose_threads(plan: HybridPlan, edge: "Model") -> None:
    """Let torch compute with as many threads as a step of this batch is fastest with."""
    from .inference.batch import timed_step
    from .inference.threads import fastest_threads

    pictures = len(plan.prompts) * len(plan.users) if isinstance(plan.splits, dict) else len(plan.splits)
    fastest_threads(timed_step(edge, min(pictures, MOST_TIMED), plan.sampling), "hybrid")


# -- pictures -----------------------------------------------------------------------------------------------


@dataclass
class HybridRun:
    """The pictures of a plan, with loaded models.

    Attributes:
        plan: what is generated.
        edge: the cluster-wide model.
        personal: user -> personal model.
        count: function that is called after each step with the number of pictures in it.
        edge_steps: number of pictures in each step of the edge so far.
    """

    plan: HybridPlan
    edge: "Model"
    personal: dict[str, "Model"]
    count: Callable[[int], None]
    edge_steps: list[int] = field(default_factory=list)

    def rows(self) -> Iterator["Row"]:
        """The pictures, row by row."""
        splits = self.plan.splits
        return self._planned(splits) if isinstance(splits, dict) else self._swept(splits)

    def _swept(self, splits: Sequence[int]) -> Iterator["Row"]:
        """A row per prompt and user: every split, most local steps first. One edge pass per prompt serves them all."""
        from .inference.hybrid import edge_sweep

        falling = sorted(splits, reverse=True)
        for template in self.plan.prompts:
            with _about(EDGE):
                handoffs = edge_sweep(self.edge, template, self.plan.seed, falling, self.plan.sampling, self._at_edge)
            for name in self.personal:
                pictures = self._finished(name, handoffs)
                yield [(name, n, picture) for n, picture in zip(falling, pictures, strict=True)]

    def _planned(self, splits: dict[str, int]) -> Iterator["Row"]:
        """A row per prompt: every user at the own split. One edge pass in all, whose batch shrinks."""
        from .inference.hybrid import Request, edge_prefix

        users = [(template, name, i) for template in self.plan.prompts for i, name in enumerate(self.personal)]
        seed = self.plan.seed
        requests = [Request(prompt_template=t, local_steps=splits[name], seed=seed + i) for t, name, i in users]
        with _about(EDGE):
            handoffs = edge_prefix(self.edge, requests, self.plan.sampling, self._at_edge)
        for start in range(0, len(users), len(self.personal)):
            ends = zip(self.personal, handoffs[start : start + len(self.personal)], strict=True)
            yield [(name, splits[name], self._finished(name, [handoff])[0]) for name, handoff in ends]

    def _finished(self, user: str, handoffs: Sequence["Handoff"]) -> "Tensor":
        """A user's pictures of hand-offs, shape (hand-offs, 3, height, width)."""
        from .inference.hybrid import finish_local

        model = self.personal[user]
        with _about(f"user {user!r}"):
            return model.decode(finish_local(model, handoffs, self.plan.sampling, self.count))

    def _at_edge(self, samples: int) -> None:
        self.edge_steps.append(samples)
        self.count(samples)


def _generate(plan: HybridPlan, folder: Path, edge: "Model", personal: dict[str, "Model"]) -> dict[str, Any]:
    """Make and write the pictures; returns the report."""
    from .inference.batch import summed
    from .inference.handoff import handoff_bits

    with progress_bar("hybrid", plan.sample_steps, "steps") as progress:
        run = HybridRun(plan, edge, personal, summed(progress))
        rows = _saved_rows(folder, run.rows())
    grid = folder / "grid.png"
    _save_grid(grid, plan, rows)
    bits = handoff_bits(edge.latent_shape, "fp16", plan.prompts[0])
    return {
        "cluster": edge.name,
        "users": list(personal),
        "prompts": plan.prompts,
        "total_steps": plan.sampling.total_steps,
        "local_steps": plan.splits,
        "edge_sample_steps": sum(run.edge_steps),
        "edge_passes": len(run.edge_steps),
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


def _save_grid(path: Path, plan: HybridPlan, rows: Sequence["Row"]) -> None:
    """Write all pictures as one, row under row, with users, splits and, where there are several, prompts."""
    from .inference.grid import save_grid

    own = isinstance(plan.splits, dict)
    columns = [f"{name}, n = {split}" if own else f"n = {split}" for name, split, _ in rows[0]]
    titles = plan.prompts if own else [row[0][0] for row in rows]
    if not own and len(plan.prompts) > 1:
        titles = [f"{title}: {plan.prompts[i // len(plan.users)]}" for i, title in enumerate(titles)]
    save_grid(path, [[picture for *_, picture in row] for row in rows], columns, titles)


def _print_report(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    table = plain_table("what", "value", right_from=1)
    table.add_row("users", ", ".join(report["users"]))
    table.add_row("steps in all, N", str(report["total_steps"]))
    splits = report["local_steps"]
    own = [f"{name}={n}" for name, n in splits.items()] if isinstance(splits, dict) else map(str, splits)
    table.add_row("local steps, n", ", ".join(own))
    table.add_row("edge: sample-steps", str(report["edge_sample_steps"]))
    table.add_row("edge: passes of the network", str(report["edge_passes"]))
    table.add_row("hand-off, fp16: payload bits", str(report["handoff_payload_bits"]))
    table.add_row("hand-off, fp16: bits with header", str(report["handoff_total_bits"]))
    console.print(table)
    console.print("latent_bits of a scenario is the last line.")

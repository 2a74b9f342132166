"""What `plan train` and `plan evaluate` do."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from ..common.console import say
from ..common.errors import InputError, require, shown
from ..common.tables import plain_table
from . import output
from .baselines import offload_all, offload_all_fixed
from .drl import instance_key
from .exact import optimum
from .instances import Instance, paper_instance
from .planner import Method
from .policies import Policy, load_policy
from .qoe import Scenario, Users, all_local
from .scenario import load_scenario, overrides
from .scores import SETTINGS, Draw, Result, as_rows, score_all
from .tasks import ONE, Scope, Task, for_gpus, shipped_instance, user_task
from .training import Progress, train
from .users import read_users

PEERS: dict[str, Method] = {
    "exact": optimum,
    "offload-all": offload_all,
    "offload-all-fixed": offload_all_fixed,
    "all-local": all_local,
}


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """The options of one `plan train`; see its help."""

    scope: Scope
    preset: str
    scenario: str
    options: dict[str, Any]
    users: Path | None
    steps: int | None
    seeds: int | None
    seed: int
    name: str | None
    instances: int
    output: Path
    force: bool


def run_training(request: TrainRequest) -> None:
    """Train, with a live view, TensorBoard logs and resume.

    Raises:
        InputError: one line.
    """
    require("train", "torch", "gymnasium", "tensorboard")
    task = _task(request)
    weights = request.output / f"{task.name}.safetensors"
    if weights.exists() and not request.force:
        raise InputError(f"{weights}: is there already; choose another --name or add --force")
    with live_view(task) as view, tensorboard(request.output / "tensorboard" / task.name) as log:
        card = train(task, request.output, view, log)
    for scores in card.scores:
        share = f"captured {scores.captured_mean:.2%}, 5th percentile {scores.captured_p5:.2%}"
        print(f"{task.name}: {scores.setting}: {share}, worst {scores.captured_worst:.2%}")
    say(f"wrote {weights}, its card {weights.with_suffix('.json').name}, curves/{task.name}.csv, tensorboard/")
    say(f"now: plan --users users.csv --policy {weights}")


def _task(request: TrainRequest) -> Task:
    """What was asked for."""
    if (request.scope == "specific") != (request.users is not None):
        raise InputError("--scope, --users: found one without the other, accepted: --scope specific with --users FILE")
    resolved = load_scenario(request.scenario, overrides(**request.options))
    users = _one_cell(request.users, resolved.for_alpha) if request.users else None
    task = user_task(request.scope, request.preset, resolved.scenario, users)
    if request.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", request.name):
        raise InputError(f"--name: found {shown(request.name)}, accepted: letters, digits, '-', '_' and '.'")
    held_out = None if users else request.instances
    wanted: dict[str, Any] = {
        "steps": request.steps,
        "seeds": request.seeds,
        "name": request.name,
        "held_out": held_out,
    }
    return replace(task, seed=request.seed, **{key: value for key, value in wanted.items() if value is not None})


@contextmanager
def live_view(task: Task) -> Iterator[Callable[[Progress], None]]:
    """A live table on a terminal; elsewhere a line now and then."""
    terminal = Console(stderr=True, highlight=False)
    if not terminal.is_terminal:
        yield _Lines(task)
        return
    with Live(console=terminal, transient=True, refresh_per_second=4) as live:
        yield lambda progress: live.update(_view(task, progress))


class _Lines:
    """A line every tenth of the way."""

    def __init__(self, task: Task) -> None:
        self.task, self.tenth = task, -1

    def __call__(self, p: Progress) -> None:
        if 10 * p.steps // p.total > self.tenth:
            self.tenth = 10 * p.steps // p.total
            means = f"loss {p.loss:.4f}, captured {p.captured_share:.1%}"
            say(f"{self.task.name}: {p.steps:,} of {p.total:,} steps, {means}, {p.left_s / 60:.1f} min left")


def _view(task: Task, p: Progress) -> Any:
    rows = plain_table(f"training {task.name}", f"{p.steps / p.total:.0%}")
    fields = {
        "learning steps": f"{p.steps:,} of {p.total:,}",
        "episodes": f"{p.episodes:,}",
        "loss": f"{p.loss:.5f}",
        "return, s": f"{p.episode_return:.2f}",
        "captured share, exploring": f"{p.captured_share:.2%}",
        "epsilon": f"{p.epsilon:.3f}",
        "temperature": f"{p.temperature:.3f}",
        "environment steps/s": f"{p.steps_per_s:,.0f}",
        "time left": f"{p.left_s / 60:.1f} min",
    }
    for name, value in fields.items():
        rows.add_row(name, value)
    return rows


@contextmanager
def tensorboard(folder: Path) -> Iterator[Callable[[str, float, int], None]]:
    """A writer of TensorBoard logs."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    try:
        yield writer.add_scalar
    finally:
        writer.close()


# -- evaluation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """The options of one `plan evaluate`; see its help."""

    policy: str
    scenario: str | None
    users: Path | None
    instances: int
    as_json: bool


def run_evaluation(request: EvaluateRequest) -> None:
    """Score a policy on held-out instances beside its peers.

    Raises:
        InputError: one line.
    """
    policy = load_policy(request.policy)
    settings = _settings(policy, request)
    count = 1 if ONE in settings or request.users else request.instances
    found = score_all(PEERS, policy, count, settings)
    if request.as_json:
        output.print_json({"policy": policy.card.name, "results": as_rows(found)})
    else:
        print_scores(found)


def _settings(policy: Policy, request: EvaluateRequest) -> Mapping[str, Draw]:
    """Where the policy is scored: on what the user names, else on what it was trained for."""
    resolved = load_scenario(request.scenario or "default", overrides())
    if request.users:
        instance = Instance(resolved.scenario, _one_cell(request.users, resolved.for_alpha))
        return {request.users.name: lambda _: instance}
    if request.scenario:
        return {f"{request.scenario}, 5-30 users, G 1-16": partial(paper_instance, base=resolved.scenario)}
    card = policy.card
    if card.scope == "specific":
        if instance_key(shipped_instance().users) != card.instance:
            raise InputError(
                f"policy {shown(card.name)}: found a policy of one instance, accepted: with --users, its users file"
            )
        return {ONE: lambda _: shipped_instance()}
    if card.gpus:
        base = Task(name="", scope="gpu", preset="", draw=paper_instance, seeds=1, steps=1)
        return {name: draw for g in card.gpus for name, draw in for_gpus(base, g).settings.items()}
    return SETTINGS


def _one_cell(path: Path, scenario: Scenario) -> Users:
    users = read_users(path, scenario).users
    if users.cells > 1:
        raise InputError(f"{path}: found {users.cells} cells, accepted: one")
    return users


def print_scores(found: Mapping[str, Mapping[str, Result]]) -> None:
    """A table for each setting."""
    console = Console(highlight=False, file=sys.stdout)
    for number, (setting, results) in enumerate(found.items()):
        if number:
            console.print()
        first = next(iter(results.values())).scores
        console.print(f"{setting}: {first.instances} held-out instances", markup=False)
        headings = ("captured\nmean", "5th\npercentile", "\nworst", "at the\noptimum", "gap\ns", "planned\nin ms")
        rows = plain_table("\nmethod", *headings)
        for name, result in results.items():
            s = result.scores
            shares = [f"{x:.2%}" for x in (s.captured_mean, s.captured_p5, s.captured_worst)]
            rows.add_row(
                name, *shares, f"{s.optimal_share:.1%}", f"{s.gap_mean_s:.3g}", f"{1e3 * result.planning_s:.2f}"
            )
        console.print(rows)
        if first.fall_backs:
            console.print(f"out of the policy's range, counted as nothing captured: {first.fall_backs}", markup=False)

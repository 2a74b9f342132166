"""What `plan train` and `plan evaluate` do."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live

from ..common.console import say
from ..common.errors import InputError, require, shown
from ..common.files import make_folder
from ..common.tables import plain_table
from . import output
from .agent.decide import greedy
from .agent.instances import Instance, paper_instance
from .agent.policies import Policy, load_policy
from .agent.scores import Draw, Result, as_rows, score_all
from .agent.tasks import ONE, Scope, Task, ranges, settings_of, user_task
from .inputs.scenario import overrides, resolve_scenario
from .inputs.users import read_users
from .methods.baselines import offload_all, offload_all_fixed
from .methods.exact import optimum
from .methods.registry import Method
from .model.qoe import Scenario, Users, all_local

if TYPE_CHECKING:
    from .learn.training import Progress  # needs torch, and scoring does not

INSTANCES = 1000
"""Held-out instances per setting."""
PEERS: dict[str, Method] = {
    "exact": optimum,
    "greedy": greedy,
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
    instances: int | None
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
    if weights.with_suffix(".json").exists() and not request.force:
        raise InputError(f"{weights}: is there already; choose another --name or add --force")
    make_folder(request.output)
    from .learn.training import train  # torch costs seconds: wrong options are refused before

    with live_view(task) as view, tensorboard(request.output / "tensorboard" / task.name) as start_log:
        card = train(task, request.output, view, start_log)
    for scores in card.scores:
        share = f"captured {scores.captured_mean:.2%}, 5th percentile {scores.captured_p5:.2%}"
        print(f"{task.name}: {scores.setting}: {share}, worst {scores.captured_worst:.2%}")
    say(f"wrote {weights}, its card {weights.with_suffix('.json').name}, curves/{task.name}.csv, tensorboard/")
    say(f"now: plan --users users.csv --policy {weights}")


def _task(request: TrainRequest) -> Task:
    """What was asked for."""
    _check_options(request)
    resolved = resolve_scenario(request.scenario, overrides(**request.options))
    users = _one_cell(request.users, resolved.for_alpha) if request.users else None
    task = user_task(request.scope, request.preset, resolved.scenario, users)
    wanted: dict[str, Any] = {
        "steps": request.steps,
        "seeds": request.seeds,
        "name": request.name,
        "held_out": request.instances,
    }
    return replace(task, seed=request.seed, **{key: value for key, value in wanted.items() if value is not None})


def _check_options(request: TrainRequest) -> None:
    """Refuse options that would be ignored."""
    specific = request.scope == "specific"
    if specific != (request.users is not None):
        raise InputError("--scope, --users: found one without the other, accepted: --scope specific with --users FILE")
    if specific and (request.seeds is not None or request.instances is not None):
        name = "--seeds" if request.seeds is not None else "--instances"
        raise InputError(f"{name}: found --scope specific, which is one round, accepted: --scope general or gpu")
    if request.scope == "general" and request.options["gpus"] is not None:
        raise InputError("--gpus: found --scope general, which is for any number, accepted: --scope gpu or specific")
    if request.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", request.name):
        raise InputError(f"--name: found {shown(request.name)}, accepted: letters, digits, '-', '_' and '.'")


@contextmanager
def live_view(task: Task) -> "Iterator[Callable[[Progress], None]]":
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

    def __call__(self, p: "Progress") -> None:
        if 10 * p.steps // p.total > self.tenth:
            self.tenth = 10 * p.steps // p.total
            means = f"loss {p.loss:.4f}, captured {p.captured_share:.1%}"
            say(f"{self.task.name}: {p.steps:,} of {p.total:,} steps, {means}, {p.left_s / 60:.1f} min left")


def _view(task: Task, p: "Progress") -> Any:
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
def tensorboard(folder: Path) -> Iterator[Callable[[int], Callable[[str, float, int], None]]]:
    """Starts TensorBoard logs; what an interrupted training logged beyond the steps done does not count."""
    from torch.utils.tensorboard import SummaryWriter

    writers = []

    def start(done: int) -> Callable[[str, float, int], None]:
        writers.append(SummaryWriter(str(folder), purge_step=done + 1 if done else None))
        add: Callable[[str, float, int], None] = writers[-1].add_scalar
        return add

    try:
        yield start
    finally:
        for writer in writers:
            writer.close()


# -- evaluation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """The options of one `plan evaluate`; see its help."""

    policy: str
    scenario: str | None
    users: Path | None
    instances: int | None
    as_json: bool


def run_evaluation(request: EvaluateRequest) -> None:
    """Score a policy on held-out instances beside its peers.

    Raises:
        InputError: one line.
    """
    policy = load_policy(request.policy)
    settings = _settings(policy, request)
    one = request.users is not None or ONE in settings
    if one and request.instances is not None:
        raise InputError("--instances: found one round to score, accepted: no --instances")
    found = score_all(PEERS, policy, 1 if one else request.instances or INSTANCES, settings)
    if request.as_json:
        output.print_json({"policy": policy.card.name, "results": as_rows(found)})
    else:
        print_scores(found)


def _settings(policy: Policy, request: EvaluateRequest) -> Mapping[str, Draw]:
    """Where the policy is scored: on what the user names, else on what it was trained for."""
    if request.users is None and request.scenario is None:
        return settings_of(policy.card.gpus, policy.card.case)
    resolved = resolve_scenario(request.scenario or "default", overrides())
    if request.users:
        instance = Instance(resolved.scenario, _one_cell(request.users, resolved.for_alpha))
        return {request.users.name: lambda _: instance}
    return {
        f"{request.scenario}, {name}": partial(paper_instance, choices=choices, base=resolved.scenario)
        for name, choices in ranges(policy.card.gpus).items()
    }


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
            shares = [_share(x) for x in (s.captured_mean, s.captured_p5, s.captured_worst)]
            planned = "-" if result.planning_s is None else f"{1e3 * result.planning_s:.2f}"
            rows.add_row(name, *shares, f"{s.optimal_share:.1%}", f"{s.gap_mean_s:.3g}", planned)
        console.print(rows)
        if first.fall_backs:
            console.print(f"out of the policy's range, counted as all local: {first.fall_backs}", markup=False)


def _share(share: float) -> str:
    """In per cent; three decimals, as good policies differ in the third."""
    return f"{share:.3%}" if share > -10 else "below -1000%"

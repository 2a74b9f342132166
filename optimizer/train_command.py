"""What `plan train` does."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live

from ..common.console import resumable, say
from ..common.errors import InputError, counted, require, shown
from ..common.locks import only_run
from ..common.progress import live_terminal
from ..common.tables import plain_table, short_name
from .agent.instances import Instance, read_instance
from .agent.names import Scope
from .agent.policies import PolicyCard
from .inputs.scenario import overrides, resolve_scenario
from .learn.paper_tables import check_instances
from .learn.presets import PRESETS, PresetName
from .learn.tasks import Task, user_task

if TYPE_CHECKING:
    from rich.table import Table

    from .learn.training import TrainingProgress, View  # needs torch, and refusing options does not


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """The options of one `plan train`; its help describes each.

    Attributes:
        scope: rounds that the policy is for.
        preset: name of the hyper-parameters.
        scenario: name or file of the scenario.
        changes: values that replace the scenario's, by option.
        users: users of the one round of scope "specific".
        steps: number of learning steps; None for the scope's own.
        seeds: number of training instances; None for the scope's own.
        seed: random seed.
        name: name of the policy; None for own-SCOPE.
        instances: number of held-out instances; None for the scope's own.
        output: folder for the policy.
        force: whether a policy of that name is replaced.
    """

    scope: Scope
    preset: PresetName
    scenario: str
    changes: dict[str, Any]
    users: Path | None
    steps: int | None
    seeds: int | None
    seed: int
    name: str | None
    instances: int | None
    output: Path
    force: bool


def run_training(request: TrainRequest) -> None:
    """Train, with a live view, TensorBoard logs and resume; one run at a time for each name.

    Raises:
        InputError: one line.
    """
    require("train", "torch", "gymnasium", "tensorboard")
    task = _task(request)
    weights = request.output / f"{task.name}.safetensors"
    with only_run(weights, "plan train"):
        if weights.with_suffix(".json").exists() and not request.force:
            raise InputError(f"{weights}: is there already; choose another --name or add --force")
        card = _trained(task, request.output)
    for scores in card.scores:
        share = f"captured {scores.captured_mean:.2%}, 5th percentile {scores.captured_p5:.2%}"
        print(f"{task.name}: {scores.setting}: {share}, worst {scores.captured_worst:.2%}")
    say(f"wrote {weights}, its card {weights.with_suffix('.json').name}, curves/{task.name}.csv, tensorboard/")
    say(f"now: plan --users users.csv --policy {weights}")


def _trained(task: Task, folder: Path) -> PolicyCard:
    """The card of the policy, which is then in its folder; a run that was stopped there goes on."""
    say(f"{task.name}: preparing {counted(task.seeds, 'training instance')}")
    from .learn.logs import tensorboard
    from .learn.training import train  # torch costs seconds: wrong options are refused before

    with resumable(), _live_view(task) as view, tensorboard(folder / "tensorboard" / task.name) as start_log:
        return train(task, folder, view, start_log)


def _task(request: TrainRequest) -> Task:
    """The training that the options ask for."""
    _check_options(request)
    resolved = resolve_scenario(request.scenario, overrides(**request.changes))
    instance = read_instance(request.users, resolved) if request.users else None
    if instance and PRESETS[request.preset].network == "flat":
        _check_round(request.users, instance)
    users = instance.users if instance else None
    task = user_task(request.scope, request.preset, resolved.scenario, users)
    own: dict[str, Any] = {
        "steps": request.steps,
        "seeds": request.seeds,
        "name": request.name,
        "held_out": request.instances,
    }
    return replace(task, seed=request.seed, **{name: value for name, value in own.items() if value is not None})


def _check_round(path: Path | None, instance: Instance) -> None:
    """Refuse one round that the paper's network cannot learn from, before torch is imported."""
    try:
        check_instances([instance])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_options(request: TrainRequest) -> None:
    """Refuse options that would be ignored."""
    specific = request.scope == "specific"
    if specific != (request.users is not None):
        raise InputError("--scope, --users: found one without the other, accepted: --scope specific with --users FILE")
    if specific and (request.seeds is not None or request.instances is not None):
        name = "--seeds" if request.seeds is not None else "--instances"
        raise InputError(f"{name}: found --scope specific, which is one round, accepted: --scope general or gpu")
    if request.scope == "general" and "gpus" in request.changes:
        raise InputError("--gpus: found --scope general, which is for any number, accepted: --scope gpu or specific")
    if request.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", request.name):
        raise InputError(f"--name: found {shown(request.name)}, accepted: letters, digits, '-', '_' and '.'")


@contextmanager
def _live_view(task: Task) -> "Iterator[View]":
    """A live table on a terminal; elsewhere a line at the start and after every tenth of the way."""
    terminal = live_terminal()
    if terminal is None:
        yield _line_view(task)
        return
    with Live(console=terminal, transient=True, refresh_per_second=4) as live:
        yield lambda progress: live.update(_view_table(task, progress))


def _line_view(task: Task) -> "Callable[[TrainingProgress], None]":
    last = -1

    def view(p: "TrainingProgress") -> None:
        nonlocal last
        tenth = 10 * p.steps // p.total
        if tenth > last:
            last = tenth
            means = f"loss {p.loss:.4f}, captured {p.captured_share:.1%}"
            scoring = f"scoring it on {counted(task.held_out, 'held-out instance')}"
            left = f"{p.left_s / 60:.1f} min left" if p.steps < p.total else scoring
            say(f"{task.name}: {p.steps:,} of {p.total:,} steps, {means}, {left}")

    return view


def _view_table(task: Task, p: "TrainingProgress") -> "Table":
    """The live view; on a narrow terminal the names take more lines, and the numbers stay whole."""
    rows = plain_table(short_name(f"training {task.name}", 28).plain, f"{p.steps / p.total:.0%}")
    rows.columns[0].no_wrap = False
    fields = {
        "learning steps": f"{p.steps:,} of {p.total:,}",
        "episodes": f"{p.episodes:,}",
        "loss": f"{p.loss:.5f}",
        "return, s": f"{p.episode_return:.2f}",
        "captured share, exploring": f"{p.captured_share:.2%}",
        "epsilon": f"{p.epsilon:.3f}",
        "temperature": f"{p.temperature:.3f}",
        "environment steps/s": f"{p.steps_per_s:,.0f}",
        "time left": f"{p.left_s / 60:.1f} min" if p.steps < p.total else "scoring",
    }
    for name, value in fields.items():
        rows.add_row(name, value)
    return rows

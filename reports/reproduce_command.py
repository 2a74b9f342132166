"""What `reproduce` does."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..common.console import say
from ..common.database import move_aside
from ..common.errors import InputError
from ..common.files import make_folder, whole_file
from ..common.tables import plain_table
from ..optimizer.inputs.scenario import overrides
from . import timing
from .exhibits import EXHIBITS, collect
from .experiments import Unit, units
from .page import Entry, render
from .setup import FULL, QUICK, Setup, Size, Sources, make_setup
from .summary import summary
from .verdicts import FINDING, HOLDS, Check, overall
from .work import COMMAND, Results, work_off

REPORT, SUMMARY = "report.html", "summary.md"
DPI = 150


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `reproduce`; see its help."""

    output: Path
    quick: bool
    cases: int | None
    scenario: str
    options: Mapping[str, Any]
    devices: str | None
    others: Mapping[str, Any]
    workers: int
    latency_goal_s: float | None
    fresh: bool
    as_json: bool


def run(request: Request) -> None:
    """Compute what is missing, then write tables, figures, verdicts and the report.

    Raises:
        InputError: one line.
    """
    size = _size(request)
    devices = _devices(request.devices)
    setup, sources = make_setup(request.scenario, overrides(**request.options), devices, size, **request.others)
    if request.fresh:
        move_aside(request.output, COMMAND)
    workers = request.workers or os.cpu_count() or 1
    tables = measure(setup, sources, request.output, workers, request.latency_goal_s)
    entries = write(tables, request.output, _facts(request, setup, sources))
    _print({entry.exhibit.title: entry.checks for entry in entries}, request.as_json)
    say(f"wrote {request.output}: {REPORT}, every figure as PNG, SVG and CSV, table1.csv, verdicts.csv, {SUMMARY}")


def _size(request: Request) -> Size:
    size = QUICK if request.quick else FULL
    if request.cases is None:
        return size
    return replace(size, cases=request.cases, slow_cases=request.cases)


def _devices(names: str | None) -> list[str] | None:
    """Profiles between commas."""
    if names is None:
        return None
    found = [name.strip() for name in names.split(",")]
    if not all(found):
        raise InputError(f"--devices: found '{names}', accepted: profiles, names or files, with a comma between two")
    return found


# -- computing ----------------------------------------------------------------------------------------------


def measure(
    setup: Setup, sources: Sources, folder: Path, workers: int, latency_goal_s: float | None = None
) -> Mapping[str, pd.DataFrame]:
    """The table of every exhibit; what an earlier run finished is taken from there."""
    make_folder(folder)
    results = Results(folder, setup.facts())
    try:
        wanted, timed = units(setup), timing.units(setup)
        todo, left = results.missing(wanted), results.missing(timed)
        done = len(wanted) + len(timed) - len(todo) - len(left)
        if done:
            say(f"{COMMAND}: {done} of {len(wanted) + len(timed)} pieces are there already")
        with _progress(done, len(wanted) + len(timed)) as tick:
            for unit, rows in work_off(setup, todo, workers):
                results.add(unit, rows)
                tick(unit)
            for unit in left:
                results.add(unit, list(timing.measure(setup, unit)))
                tick(unit)
        kept = {*wanted, *timed}
        return collect(setup, sources, lambda experiment: results.table(experiment, kept), latency_goal_s)
    finally:
        results.close()


@contextmanager
def _progress(done: int, total: int) -> Iterator[Any]:
    columns = (
        TextColumn(COMMAND),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=done)
        tenth = 10 * done // total

        def tick(unit: Unit) -> None:
            nonlocal tenth
            bar.update(task, advance=1, description=f"{unit.experiment} {unit.point}")
            reached = int(10 * bar.tasks[0].completed // total)
            if reached > tenth and not terminal.is_terminal:
                say(f"{COMMAND}: {bar.tasks[0].completed:.0f} of {total} pieces, {unit.experiment} {unit.point}")
            tenth = reached

        yield tick


# -- writing ------------------------------------------------------------------------------------------------


def write(tables: Mapping[str, pd.DataFrame], folder: Path, facts: Mapping[str, str]) -> list[Entry]:
    """Tables as CSV, figures as PNG and SVG, verdicts.csv and the report."""
    entries = []
    for exhibit in EXHIBITS:
        table = tables[exhibit.name]
        _write_csv(folder / f"{exhibit.name}.csv", table)
        figure = exhibit.draw(table)
        for kind in ("svg", "png"):
            picture = _picture(figure, kind)
            with whole_file(folder / f"{exhibit.name}.{kind}", "wb") as handle:
                handle.write(picture)
        shown = table if exhibit.name == "table1" else None
        entries.append(Entry(exhibit, picture, exhibit.judge(table), shown))
    _write_csv(folder / "verdicts.csv", _verdicts(entries))
    with whole_file(folder / REPORT) as handle:
        handle.write(render(entries, facts))
    with whole_file(folder / SUMMARY) as handle:
        handle.write(summary(entries, facts))
    return entries


def _picture(figure: Any, kind: str) -> bytes:
    from matplotlib import rc_context

    stream = BytesIO()
    dated = {"Date": None} if kind == "svg" else {}  # the same table gives the same file
    with rc_context({"svg.hashsalt": "edgesplit"}):
        figure.savefig(stream, format=kind, dpi=DPI, metadata=dated)
    return stream.getvalue()


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as handle:
        table.to_csv(handle, index=False, lineterminator="\n")


def _verdicts(entries: list[Entry]) -> pd.DataFrame:
    return pd.DataFrame([{"exhibit": entry.exhibit.name, **_row(check)} for entry in entries for check in entry.checks])


def _row(check: Check) -> dict[str, str]:
    return {"claim": check.claim, "verdict": check.verdict, "evidence": check.evidence}


def _facts(request: Request, setup: Setup, sources: Sources) -> dict[str, str]:
    scenario, size = setup.scenario, setup.size
    return {
        "scenario": f"{request.scenario}; edge {scenario.gpus} x {sources.edge.device}, B_max = "
        f"{scenario.max_batch}, N = {scenario.total_steps}, N-hat = {scenario.min_local_steps}, a_F = "
        f"{scenario.pai.steepness:.4g}, b_F = {scenario.pai.midpoint:.4g}, intermediates of "
        f"{scenario.latent_bits:,.0f} bit",
        "random cases": f"{size.cases} per point, {size.slow_cases} of Fig. 11 and the searches; seed {setup.seed}; "
        f"{len(setup.step_latency_s)} devices; alpha uniform in [lo, 0.05 hi] of Remark 1",
        "proposed": f"DRL-convex with the policy {setup.policy}",
        "Fig. 4": f"PAI curve {sources.curve_name}, {', '.join(sources.curve.models)}",
        "Figs. 8 and 9": "the shipped trainings, whatever the scenario",
    }


def _print(judged: Mapping[str, Sequence[Check]], as_json: bool) -> None:
    if as_json:
        rows = [
            {"title": title, "verdict": overall(checks), "checks": [asdict(check) for check in checks]}
            for title, checks in judged.items()
        ]
        print(json.dumps(rows, indent=2))
        return
    table = plain_table("figure", "verdict", right_from=2)
    for title, checks in judged.items():
        claims = [check.verdict for check in checks if check.verdict != FINDING]
        count = f" ({claims.count(HOLDS)} of {len(claims)} claims)" if claims else ""
        table.add_row(title, overall(checks) + count)
    Console(highlight=False).print(table)

"""A plan as a CSV or Parquet file, as JSON, and as a table for people."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..common.errors import counted
from ..common.json_text import visible
from ..common.tables import Columns, plain_table, print_table, short_name
from .methods.scoring import Totals
from .model.qoe import Scenario
from .model.servers import Fleet
from .planner import GPUS, AnyPoint, Outcome, SweepAxis
from .uncertainty import Uncertainty

CLOSED = 1e-9
"""Gap, relative to the objective, below which a plan with several servers counts as optimal."""
NOTED_ROUNDING_S = 1e-6
"""Seconds of a gap that rounding may hide without a word."""
ROWS_SHOWN = 60
CELLS_SHOWN = 20
SERVERS_SHOWN = 60
NUMBERS_WIDTH = 65
"""Characters of a line that the columns behind the names of users take."""
COMMON = ("interval_s", "slots", "reference_batch", "total_steps", "min_local_steps", "pai")
"""Numbers of a scenario that all of its servers have in common."""
COMPARED_WIDTH = 62
"""Characters of a line that the columns behind the names of methods take."""


def plan_json(outcome: Outcome, *, with_users: bool) -> dict[str, Any]:
    """The object of `--json`, with the rows of users or without."""
    result = {**method_json(outcome), "scenario": scenario_json(outcome.scenario)}
    users = outcome.planned_users
    if outcome.servers:
        result["servers"] = outcome.servers
    if users.cell_of is not None:
        cells = zip(users.cell_names, outcome.score.cells, strict=True)
        result["cells"] = [{"cell": name, **asdict(totals)} for name, totals in cells]
    if with_users:
        columns = outcome.columns()
        rows = zip(*columns.values(), strict=True)
        result["users"] = [dict(zip(columns, row, strict=True)) for row in rows]
    return result


def scenario_json(scenario: Scenario) -> dict[str, Any]:
    """Every number of a scenario; with several servers those of each, and models by their names."""
    if not isinstance(scenario, Fleet):
        return asdict(scenario)
    names = [model.name for model in scenario.models]
    common = {name: value for name, value in asdict(scenario).items() if name in COMMON}
    servers = [
        {
            "name": server.name,
            **{name: value for name, value in asdict(server.scenario).items() if name not in COMMON},
            "hosts": [names[c] for c in server.hosts],
            "memory_bytes": server.memory_bytes,
        }
        for server in scenario.servers
    ]
    models = [
        asdict(model) | {"base": names[model.base], "clusters": [scenario.clusters[k] for k in model.clusters]}
        for model in scenario.models
    ]
    return {**common, "servers": servers, "models": models}


def method_json(outcome: Outcome) -> dict[str, Any]:
    """A method's name, totals, planning time and note, where it has one."""
    note = {"note": outcome.plan.note} if outcome.plan.note else {}
    return {"method": outcome.method, **asdict(outcome.totals), "planning_s": outcome.planning_s, **note}


def print_json(result: dict[str, Any]) -> None:
    """One JSON object to stdout, numbers at full precision; of `users`, `cells` and the like one object per line."""
    entries = [f" {json.dumps(key)}: {_json_value(value)}" for key, value in result.items()]
    sys.stdout.write(visible("{\n" + ",\n".join(entries) + "\n}\n"))


def _json_value(value: Any) -> str:
    """Compact where it is short or long: Python's own indentation of a million rows takes minutes."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {_json_value(entry)}" for entry in value) + "\n ]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def print_plan(edge_name: str, outcome: Outcome) -> None:
    """The plan for a person: a row per user (the first ones of a long list), then the summary."""
    console, users = Console(highlight=False), outcome.planned_users
    print_table(_user_table(outcome.columns(), console.width))
    _say_hidden(console, len(users) - ROWS_SHOWN, "users: -o plan.csv writes all of them")
    console.print()
    if users.cell_of is not None:
        print_table(_cell_table(outcome))
        _say_hidden(console, len(users.cell_names) - CELLS_SHOWN, "cells: --json has all of them")
        console.print()
    if outcome.servers:
        print_table(_server_table(outcome))
        console.print()
    for line in summary(edge_name, outcome):
        console.print(line, soft_wrap=True, markup=False)


def _say_hidden(console: Console, count: int, what: str) -> None:
    if count > 0:
        console.print(f"... and {count:,} more {what}")


NUMBER_HEADINGS = (
    "steps\nedge+own", "latency\ns", "\nwait", "\nsend", "\nedge", "\nown", "\nPAI", "QoE\ns",
)  # fmt: skip


def _user_table(columns: Columns, width: int) -> "Table":
    names = [name for name in ("user_id", "cell") if name in columns]
    room = max(8, (width - NUMBERS_WIDTH) // len(names) - 1)
    where = "server" if "server" in columns else "decision"
    rows = plain_table(*(f"\n{name.removesuffix('_id')}" for name in names), f"\n{where}", right_from=len(names) + 1)
    for heading in NUMBER_HEADINGS:
        rows.add_column(heading, justify="right", no_wrap=True)
    keys = [*names, where, "offloaded_steps", "local_steps", "latency_s"]
    keys += ["wait_s", "transmit_s", "edge_s", "local_s", "pai", "qoe"]
    for row in zip(*(columns[key][:ROWS_SHOWN] for key in keys), strict=True):
        named = [short_name(text, room) for text in row[: len(names)]]
        rows.add_row(*named, *_number_cells(*row[len(names) :]))
    return rows


def _number_cells(decision: str, offloaded: int, own: int, *numbers: float) -> list[str | Text]:
    """A user's decision or server, steps, latency with its parts, PAI and QoE."""
    *seconds, pai, qoe = numbers
    word = decision or "local"
    times = [f"{s:.2f}" if s else "-" for s in seconds]
    return [
        Text(word, style="dim" if word in ("deny", "local") else "green"),
        f"{offloaded}+{own}",
        *times,
        f"{pai:.3f}",
        f"{qoe:.2f}",
    ]


def _cell_table(outcome: Outcome) -> "Table":
    rows = plain_table("cell", "granted", "objective s", "all local s", "captured", "gap s")
    for name, totals in zip(outcome.planned_users.cell_names[:CELLS_SHOWN], outcome.score.cells, strict=False):
        rows.add_row(short_name(name, 20), *_total_fields(totals))
    return rows


def _server_table(outcome: Outcome) -> "Table":
    rows = plain_table("server", "models", "granted", "step ms", right_from=2)
    for server in outcome.servers[:SERVERS_SHOWN]:
        step = server["edge_step_latency_s"]
        models = short_name(", ".join(server["models"]) or "-", 40)
        figures = str(server["granted"]), f"{1e3 * step:.1f}" if step else "-"
        rows.add_row(short_name(server["server"], 20), models, *figures)
    return rows


def _total_fields(total: Totals) -> list[str]:
    seconds = [f"{total.objective:.2f}", f"{total.all_local_objective:.2f}"]
    return [str(total.granted), *seconds, f"{total.captured_share:.2%}", f"{total.gap:.3g}"]


def summary(edge_name: str, outcome: Outcome) -> list[str]:
    """What the plan achieves, in a few lines of at most 80 characters."""
    t, scenario = outcome.totals, outcome.scenario
    share, most = ("", "optimum") if _is_optimum(outcome) else (" at least", "no plan exceeds")
    granted = f"{t.granted} of {len(outcome.planned_users)} users granted"
    return [
        f"{outcome.method}: {granted}; {_edge_words(edge_name, outcome)}",
        *_load_lines(scenario),
        f"mean latency {t.mean_latency_s:.2f} s (all local {t.all_local_mean_latency_s:.2f} s), "
        f"mean PAI {t.mean_pai:.3f} (all local {t.all_local_mean_pai:.3f})",
        f"95th percentile of latency {t.p95_latency_s:.2f} s (all local {t.all_local_p95_latency_s:.2f} s)",
        f"objective {t.objective:.3f} s; all local {t.all_local_objective:.3f} s; {most} {t.optimum_objective:.3f} s",
        "(the objective is the sum over the users of alpha x PAI - latency)",
        f"captured share{share} {t.captured_share:.2%} of what offloading can gain; {_gap_words(t)}",
    ]


def _is_optimum(outcome: Outcome) -> bool:
    """Whether what the plan is measured against is an optimum: always with one server, else where the gap is closed."""
    t = outcome.totals
    return not outcome.servers or t.gap <= CLOSED * (1 + abs(t.optimum_objective))


def _edge_words(edge_name: str, outcome: Outcome) -> str:
    """The edge GPUs and how long a step of theirs takes, or the number of servers."""
    if outcome.servers:
        return counted(len(outcome.servers), "server")
    seconds = outcome.totals.edge_step_latency_s
    step = f", {1e3 * seconds:.1f} ms a step" if seconds else ""
    return f"edge {outcome.scenario.gpus} x {edge_name}{step}"


def _load_lines(scenario: Scenario) -> list[str]:
    """What earlier rounds still have at work; nothing for an empty edge."""
    images, sent = scenario.in_flight, scenario.on_radio
    return [f"beside {images} images in flight and {sent} intermediates on the radio"] if images or sent else []


def _gap_words(t: Totals) -> str:
    """The gap, and how sure it is where numbers are so large that rounding hides what a user might care for."""
    within = f", to within {t.gap_rounding_s:.2g} s" if t.gap_rounding_s > NOTED_ROUNDING_S else ""
    return f"proven gap {t.gap:.3g} s{within}"


def print_uncertainty(method: str, intervals: Uncertainty) -> None:
    """The intervals over the PAI curve's draws, in a few lines."""
    (low, high), (least, most), (few, many) = intervals.objective_ci, intervals.optimum_ci, intervals.granted_ci
    left_out = f" ({intervals.left_out} more do not rise and are left out)" if intervals.left_out else ""
    regret, most_regret = f"{intervals.regret_s:.3g} s", f"{intervals.regret_high_s:.3g} s"
    for line in (
        f"over {intervals.draws} draws of the PAI curve{left_out}, 95 % of the time:",
        f"  this plan ({method}) is worth {low:.3f} to {high:.3f} s, the optimum {least:.3f} to {most:.3f} s",
        f"  the optimum grants {few:.0f} to {many:.0f} users",
        f"knowing the curve would gain {regret} on average, and less than {most_regret} in 97.5 % of the draws",
    ):
        Console(highlight=False).print(line, soft_wrap=True, markup=False)


def print_comparison(outcomes: Sequence[Outcome]) -> None:
    """All methods side by side."""
    headings = (
        "objective\ns", "captured\nshare", "gap\ns", "\ngranted", "mean\nlatency s", "mean\nPAI", "planned\nin ms",
    )  # fmt: skip
    rows, console = plain_table("\nmethod", *headings), Console(highlight=False)
    room = max(16, console.width - COMPARED_WIDTH)
    for outcome in outcomes:
        t = outcome.totals
        worth = [f"{t.objective:.2f}", f"{t.captured_share:.1%}", f"{t.gap:.2f}", str(t.granted)]
        means = [f"{t.mean_latency_s:.2f}", f"{t.mean_pai:.3f}", f"{1e3 * outcome.planning_s:.2f}"]
        rows.add_row(short_name(outcome.method, room), *worth, *means)
    print_table(rows)
    for outcome in outcomes:
        if outcome.plan.note:
            console.print(f"{outcome.method}: {outcome.plan.note}", soft_wrap=True, markup=False)


def print_sweep(points: Sequence[AnyPoint], bend: AnyPoint | None, axis: SweepAxis = GPUS) -> None:
    """One row for every point, the knee marked."""
    headings = ("objective s", "captured", *axis.further.values(), "granted", "mean latency s", "mean PAI")
    rows = plain_table(axis.units, *headings, right_from=0)
    rows.add_column("")
    for point in points:
        counts = [str(getattr(point, column)) for column in (*axis.further, "granted")]
        totals = [f"{point.objective:.3f}", f"{point.captured_share:.1%}", *counts]
        means = [f"{point.mean_latency_s:.2f}", f"{point.mean_pai:.3f}"]
        rows.add_row(str(getattr(point, axis.column)), *totals, *means, "<- knee" if point is bend else "")
    print_table(rows)
    if bend:
        first, last, at = (getattr(point, axis.column) for point in (points[0], points[-1], bend))
        more = f"each further {axis.unit} pays less than the average one"
        print(f"knee of {first} to {last} {axis.units} at {at}: from there on, {more}")

"""A plan as a CSV or Parquet file, as JSON, and as a table for people."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..common.tables import Columns, plain_table
from .inputs.users import UserTable
from .model.qoe import Scenario
from .planner import Outcome, SweepPoint, Totals
from .uncertainty import Uncertainty

ROWS_SHOWN = 60
CELLS_SHOWN = 20
NUMBERS_WIDTH = 65
"""What the columns behind the names take of a line."""


def plan_columns(scenario: Scenario, table: UserTable, outcome: Outcome) -> Columns:
    """The plan file's columns, one entry per user in file order; `cell` only where the input has it."""
    plan, e = outcome.plan, outcome.evaluation
    columns: dict[str, Sequence[Any]] = {"user_id": table.user_id}
    if table.cell is not None:
        columns["cell"] = table.cell
    return columns | {
        "decision": np.where(plan.granted, "grant", "deny").tolist(),
        "local_steps": plan.local_steps.tolist(),
        "offloaded_steps": (scenario.total_steps - plan.local_steps).tolist(),
        "pai": e.pai.tolist(),
        "latency_s": e.latency_s.tolist(),
        "wait_s": e.wait_s.tolist(),
        "transmit_s": e.transmit_s.tolist(),
        "edge_s": e.edge_s.tolist(),
        "local_s": e.local_s.tolist(),
        "alpha": table.users.alpha.tolist(),
        "qoe": e.qoe.tolist(),
    }


def plan_json(scenario: Scenario, table: UserTable, outcome: Outcome, columns: Columns | None) -> dict[str, Any]:
    """The object of `--json`; `columns` None leaves the users out."""
    result = {
        "method": outcome.method,
        **asdict(outcome.total()),
        "planning_s": outcome.planning_s,
        **note(outcome),
        "scenario": asdict(scenario),
    }
    if table.cell is not None:
        cells = enumerate(table.cell_names)
        result["cells"] = [{"cell": name, **asdict(outcome.cell(number))} for number, name in cells]
    if columns is not None:
        rows = zip(*columns.values(), strict=True)
        result["users"] = [dict(zip(columns, row, strict=True)) for row in rows]
    return result


def note(outcome: Outcome) -> dict[str, str]:
    """What the method says of its plan, where it says something."""
    return {"note": outcome.plan.note} if outcome.plan.note else {}


def print_json(result: dict[str, Any]) -> None:
    """One JSON object to stdout, numbers at full precision; of `users`, `cells` and the like one object per line."""
    entries = [f" {json.dumps(key)}: {_json_value(value)}" for key, value in result.items()]
    sys.stdout.write("{\n" + ",\n".join(entries) + "\n}\n")


def _json_value(value: Any) -> str:
    """Compact where it is short or long: Python's own indentation of a million rows takes minutes."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {_json_value(entry)}" for entry in value) + "\n ]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def print_plan(scenario: Scenario, edge_name: str, table: UserTable, outcome: Outcome) -> None:
    """The plan for a person: a row per user (the first ones of a long list), then the summary."""
    console = Console(highlight=False)
    columns = plan_columns(scenario, table, outcome)
    console.print(_user_table(columns, console.width))
    hidden = len(table.user_id) - ROWS_SHOWN
    if hidden > 0:
        console.print(f"... and {hidden:,} more users: -o plan.csv writes all of them")
    console.print()
    if table.cell is not None:
        console.print(_cell_table(table, outcome))
        hidden = len(table.cell_names) - CELLS_SHOWN
        if hidden > 0:
            console.print(f"... and {hidden:,} more cells: --json has all of them")
        console.print()
    for line in summary(scenario, edge_name, outcome):
        console.print(line, soft_wrap=True, markup=False)


def _user_table(columns: Columns, width: int) -> Table:
    names = [name for name in ("user_id", "cell") if name in columns]
    room = max(8, (width - NUMBERS_WIDTH) // len(names) - 1)
    rows = plain_table(*(f"\n{name.removesuffix('_id')}" for name in names), "\ndecision", right_from=len(names) + 1)
    for heading in (
        "steps\nedge+own",
        "latency\ns",
        "\nwait",
        "\nsend",
        "\nedge",
        "\nown",
        "\nPAI",
        "QoE\ns",
    ):
        rows.add_column(heading, justify="right", no_wrap=True)
    keys = [*names, "decision", "offloaded_steps", "local_steps", "latency_s"]
    keys += ["wait_s", "transmit_s", "edge_s", "local_s", "pai", "qoe"]
    for row in zip(*(columns[key][:ROWS_SHOWN] for key in keys), strict=True):
        named = [_name(text, room) for text in row[: len(names)]]
        decision, offloaded, own, *seconds, pai, qoe = row[len(names) :]
        steps = f"{offloaded}+{own}"
        times = [f"{s:.2f}" if s else "-" for s in seconds]
        style = "green" if decision == "grant" else "dim"
        rows.add_row(*named, Text(decision, style=style), steps, *times, f"{pai:.3f}", f"{qoe:.2f}")
    return rows


def _cell_table(table: UserTable, outcome: Outcome) -> Table:
    rows = plain_table("cell", "granted", "objective s", "all local s", "captured", "gap s")
    for number, name in enumerate(table.cell_names[:CELLS_SHOWN]):
        rows.add_row(_name(name, 20), *_total_fields(outcome.cell(number)))
    return rows


def _total_fields(total: Totals) -> list[str]:
    seconds = [f"{total.objective:.2f}", f"{total.all_local_objective:.2f}"]
    return [str(total.granted), *seconds, f"{total.captured_share:.2%}", f"{total.gap:.3g}"]


def summary(scenario: Scenario, edge_name: str, outcome: Outcome) -> list[str]:
    """What the plan achieves, in a few lines."""
    total, e = outcome.total(), outcome.evaluation
    users, gpus = e.pai.size, scenario.gpus
    return [
        f"{outcome.method}: {total.granted} of {users} users granted; edge {gpus} x {edge_name}"
        + (f", {1e3 * total.edge_step_latency_s:.1f} ms a step" if total.edge_step_latency_s else ""),
        f"mean latency {e.latency_s.mean():.2f} s, mean PAI {e.pai.mean():.3f}",
        f"objective {total.objective:.3f} s; all local {total.all_local_objective:.3f} s; "
        f"optimum {total.optimum_objective:.3f} s",
        f"captured share {total.captured_share:.2%} of what offloading can gain; proven gap {total.gap:.3g} s",
    ]


def print_uncertainty(method: str, found: Uncertainty) -> None:
    """The intervals over the PAI curve's draws, in a few lines."""
    (low, high), (least, most), (few, many) = found.objective_ci, found.optimum_ci, found.granted_ci
    left_out = f" ({found.left_out} more do not rise and are left out)" if found.left_out else ""
    for line in (
        f"over {found.draws} draws of the PAI curve{left_out}, 95 % of the time:",
        f"  this plan ({method}) is worth {low:.3f} to {high:.3f} s, the optimum {least:.3f} to {most:.3f} s",
        f"  the optimum grants {few:.0f} to {many:.0f} users",
        f"knowing the curve would gain {found.regret_s:.3g} s on average, below {found.regret_high_s:.3g} s in 97.5 %",
    ):
        Console(highlight=False).print(line, soft_wrap=True, markup=False)


def print_comparison(outcomes: Sequence[Outcome]) -> None:
    """All methods side by side."""
    headings = (
        "objective\ns",
        "captured\nshare",
        "gap\ns",
        "\ngranted",
        "mean\nlatency s",
        "mean\nPAI",
        "planned\nin ms",
    )
    rows = plain_table("\nmethod", *headings)
    for outcome in outcomes:
        total, e = outcome.total(), outcome.evaluation
        means = [f"{e.latency_s.mean():.2f}", f"{e.pai.mean():.3f}", f"{1e3 * outcome.planning_s:.2f}"]
        share, gap = f"{total.captured_share:.1%}", f"{total.gap:.2f}"
        rows.add_row(outcome.method, f"{total.objective:.2f}", share, gap, str(total.granted), *means)
    console = Console(highlight=False)
    console.print(rows)
    for outcome in outcomes:
        if outcome.plan.note:
            console.print(f"{outcome.method}: {outcome.plan.note}", soft_wrap=True, markup=False)


def print_sweep(points: Sequence[SweepPoint], bend: SweepPoint | None) -> None:
    """One row per number of GPUs, the knee marked."""
    rows = plain_table("GPUs", "objective s", "captured", "granted", "mean latency s", "mean PAI", right_from=0)
    rows.add_column("")
    for point in points:
        means = [f"{point.mean_latency_s:.2f}", f"{point.mean_pai:.3f}"]
        totals = [f"{point.objective:.3f}", f"{point.captured_share:.1%}", str(point.granted)]
        rows.add_row(str(point.gpus), *totals, *means, "<- knee" if point is bend else "")
    Console(highlight=False).print(rows)


def _name(text: str, width: int) -> Text:
    """A user's or cell's name, shortened to its column, never read as markup."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return Text(shown if len(shown) <= width else shown[: width - 1] + "~")

"""Planned against measured seconds of many devices: the numbers, the rows, the picture and the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.arrays import Bools, Floats
from ..common.errors import counted
from ..common.tables import plain_table, print_table
from .device import DeviceResult
from .page import PageTable, Picture, render
from .simulator import World

PARTS = ("wait_s", "edge_s", "transmit_s", "local_s")
LEAST_S = 0.01
"""Measured seconds below which an error is taken relative to this: no report can tell less."""
Rows = Mapping[str, NDArray[Any]]


def load_rows(world: World, results: Sequence[DeviceResult]) -> Rows:
    """A column for each number of the requests, planned parts as NaN where there was no decision."""
    total = world.scenario.total_steps
    granted = np.array([result.granted for result in results], bool)
    columns: dict[str, NDArray[Any]] = {
        "request": np.arange(len(results)),
        "time_s": world.requests.time_s,
        "granted": granted,
        "denied": np.array([r.decision is not None and r.decision.decision == "deny" for r in results], bool),
        "local_steps": np.array([result.local_steps for result in results]),
        "planned_local_steps": np.array([r.decision.local_steps if r.decision else total for r in results]),
        "reason": np.array([result.reason for result in results], object),
        "latency_s": np.array([result.measured.latency_s for result in results]),
        "planned_latency_s": np.array([r.decision.planned.latency_s if r.decision else np.nan for r in results]),
    }
    for part in PARTS:
        columns[part] = np.array([getattr(result.measured, part) for result in results])
        planned = [getattr(r.decision.planned, part) if r.decision else np.nan for r in results]
        columns[f"planned_{part}"] = np.array(planned)
    for prefix in ("", "planned_"):
        worth = world.alpha * world.scenario.pai.value(columns[f"{prefix}local_steps"])
        columns[f"{prefix}qoe"] = worth - columns[f"{prefix}latency_s"]
    return columns


def load_totals(world: World, rows: Rows, simulated: Floats) -> dict[str, Any]:
    """The object of `--json`.

    Args:
        world: the arrivals.
        rows: what was planned and measured.
        simulated: everybody's latency as the simulator predicts it, seconds, shape (requests,).
    """
    granted, reasons = rows["granted"], [reason for reason in rows["reason"] if reason]
    quantiles = np.quantile(rows["latency_s"], [0.5, 0.95, 0.99]).tolist()
    predicted = np.quantile(simulated, [0.5, 0.95])
    off_50, off_95 = np.abs(predicted / quantiles[:2] - 1).tolist()
    return {
        "requests": len(rows["request"]),
        "granted": int(granted.sum()),
        "denied": int(rows["denied"].sum()),
        "fell_back": len(reasons),
        "revised": int(np.count_nonzero(granted & (rows["local_steps"] != rows["planned_local_steps"]))),
        "reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "planned_against_measured": {name: _errors(rows, name, granted) for name in ("latency_s", *PARTS)},
        "simulated": {"p50_relative_error": off_50, "p95_relative_error": off_95},
        **dict(zip(("p50_latency_s", "p95_latency_s", "p99_latency_s"), quantiles, strict=True)),
        "mean_latency_s": float(np.mean(rows["latency_s"])),
        "qoe_per_user": float(np.mean(rows["qoe"])),
        "planned_qoe_per_user": float(
            np.mean(np.where(np.isnan(rows["planned_qoe"]), rows["qoe"], rows["planned_qoe"]))
        ),
        "lost": len(world.requests) - len(rows["request"]),
    }


def relative_errors(planned: Floats, measured: Floats) -> Floats:
    """|planned - measured| as a share of what was measured, of `LEAST_S` at least."""
    error: Floats = np.abs(planned - measured) / np.maximum(measured, LEAST_S)
    return error


def _errors(rows: Rows, name: str, here: Bools) -> dict[str, float | None]:
    """Median and 95th percentile of the error, and the median of planned less measured seconds; None for no request."""
    if not here.any():
        return {"median_relative_error": None, "p95_relative_error": None, "median_difference_s": None}
    planned, measured = rows[f"planned_{name}"][here], rows[name][here]
    median, high = np.quantile(relative_errors(planned, measured), [0.5, 0.95]).tolist()
    difference = float(np.median(planned - measured))
    return {"median_relative_error": median, "p95_relative_error": high, "median_difference_s": difference}


def print_load(report: Mapping[str, Any]) -> None:
    """The report for a person."""
    asked, granted, denied = report["requests"], report["granted"], report["denied"]
    fell_back = report["fell_back"]
    print(f"{counted(asked, 'request')}: {granted} granted, {denied} denied, {fell_back} went on by themselves")
    if report["revised"]:
        print(f"{report['revised']} got another split on the way; what was planned is the first one")
    table = plain_table("planned against measured", "median error", "95th percentile", "planned - measured")
    for part, errors in report["planned_against_measured"].items():
        table.add_row(part.removesuffix("_s"), *_error_cells(errors))
    print_table(table)
    p50, p95, p99 = (report[f"p{share}_latency_s"] for share in (50, 95, 99))
    print(f"latency: median {p50:.2f} s, 95th percentile {p95:.2f} s, 99th {p99:.2f} s")
    off_50, off_95 = report["simulated"].values()
    print(f"the simulator is {off_50:.1%} off the median and {off_95:.1%} off the 95th percentile")
    print(f"QoE of a request {report['qoe_per_user']:.2f} s, planned {report['planned_qoe_per_user']:.2f} s")


def _error_cells(errors: Mapping[str, float | None]) -> list[str]:
    median, high, difference = errors.values()
    if median is None or high is None or difference is None:
        return ["-", "-", "-"]
    return [f"{median:.1%}", f"{high:.1%}", f"{difference:+.3f} s"]


def load_page(server: str, report: Mapping[str, Any], picture: bytes) -> str:
    """The report as HTML."""
    errors = report["planned_against_measured"]
    rows = [[part.removesuffix("_s"), *_error_cells(errors[part])] for part in errors]
    head = ["part", "median error", "95th percentile of the error", "median of planned - measured"]
    off_50, off_95 = report["simulated"].values()
    words = [
        f"{counted(report['requests'], 'request')} to {server}: {report['granted']} granted, {report['denied']} "
        f"denied, {report['fell_back']} went on by themselves, {report['lost']} lost.",
        f"The simulator, fed the same arrivals, is {off_50:.1%} off the median latency and {off_95:.1%} off its 95th "
        "percentile.",
    ]
    drawn = Picture("load", "Planned against measured latency of granted requests", picture)
    return render("Planned against measured", words, [PageTable(head, rows)], [drawn])

"""What `simulate` prints and writes: totals, the report with its figures, and the scheduler's calls."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import counted
from ..common.figures import save_both
from ..common.files import whole_file
from ..common.tables import plain_table, print_table, short_name
from ..optimizer.model.qoe import Scenario
from ..optimizer.model.servers import Fleet
from ..optimizer.output import scenario_json
from .figures import draw_latency, draw_load, draw_timeline
from .page import PageTable, Picture, render
from .simulator import World
from .summary import ALL_LOCAL, Goal, Methods, ServiceTotals, servers_used
from .worlds import WorldSettings

COLUMNS = {
    "qoe_per_user": ("QoE, s", "{:.2f}"),
    "gain_per_user": ("gain, s", "{:.3f}"),
    "share_of_hindsight": ("of hindsight", "{:.1%}"),
    "mean_latency_s": ("mean latency, s", "{:.2f}"),
    "p95_latency_s": ("p95, s", "{:.2f}"),
    "p99_latency_s": ("p99, s", "{:.2f}"),
    "mean_pai": ("PAI", "{:.3f}"),
    "share_granted": ("granted", "{:.1%}"),
    "gpu_use": ("edge in use", "{:.0%}"),
    "radio_use": ("radio in use", "{:.0%}"),
}
"""The totals of the report: heading and form."""
REPORT, SUMMARY, CALLS = "report.html", "summary.json", "calls.jsonl"


def totals_json(
    settings: WorldSettings, worlds: Sequence[World], methods: Methods, reached: Mapping[str, ServiceTotals]
) -> dict[str, Any]:
    """The object of `--json`."""
    return {
        "requests": sum(len(world.requests) for world in worlds),
        "seconds": settings.seconds,
        "worlds": len(worlds),
        "methods": {name: asdict(totals) for name, totals in reached.items()},
        **_servers(worlds[0], methods),
        "scenario": scenario_json(settings.resolved.scenario),
        **_decoding(worlds),
    }


def _servers(world: World, methods: Methods) -> dict[str, Any]:
    """What each of several servers did under every way to decide; nothing for one server."""
    if not isinstance(world.scenario, Fleet):
        return {}
    fleet = world.scenario
    return {"servers": {name: servers_used(fleet, runs) for name, runs in methods.items() if name != ALL_LOCAL}}


def _decoding(worlds: Sequence[World]) -> dict[str, float]:
    """Mean seconds of a request's decoding; nothing where nobody decodes."""
    seconds = np.concatenate([world.decoding_s for world in worlds])
    return {"mean_decode_s": float(seconds.mean())} if seconds.any() else {}


def print_totals(worlds: Sequence[World], result: Mapping[str, Any]) -> None:
    """A row for every way to decide."""
    headings = (
        "QoE\ns",
        "gain\ns",
        "of hind-\nsight",
        "latency s\nmean",
        "\np95",
        "\np99",
        "\nPAI",
        "\ngranted",
        "use of\nedge",
        "\nradio",
    )
    table = plain_table("\nmethod", *headings)
    for name, totals in result["methods"].items():
        table.add_row(short_name(name, 14), *_cells(totals))
    print_table(table)
    if servers := result.get("servers"):
        _print_servers(servers)
    each = f" in {len(worlds)} worlds" if len(worlds) > 1 else ""
    print(
        f"{counted(result['requests'], 'request')}{each} of {result['seconds']:g} s; gain: QoE over all local; "
        "both per request"
    )
    if decode_s := result.get("mean_decode_s"):
        print(f"every latency holds the decoding on the device, {decode_s:.3f} s on average")
    for line in _judged_lines(result):
        print(line)


def _print_servers(servers: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A row for every server under every way to decide."""
    table = plain_table("method", "server", "requests", "share", "edge", "radio", right_from=2)
    for name, rows in servers.items():
        for row in rows:
            shares = [f"{row[key]:.0%}" for key in ("share", "gpu_use", "radio_use")]
            table.add_row(short_name(name, 16), short_name(row["server"], 16), f"{row['requests']:,}", *shares)
    print_table(table)


def _cells(totals: Mapping[str, Any]) -> list[str]:
    share = totals["share_of_hindsight"]
    numbers = [f"{totals['qoe_per_user']:.2f}", f"{totals['gain_per_user']:.3f}"]
    latencies = [f"{totals[name]:.1f}" for name in ("mean_latency_s", "p95_latency_s", "p99_latency_s")]
    shares = [f"{totals[name]:.0%}" for name in ("share_granted", "gpu_use", "radio_use")]
    return [*numbers, "-" if share is None else f"{share:.1%}", *latencies, f"{totals['mean_pai']:.3f}", *shares]


def _judged_lines(result: Mapping[str, Any]) -> list[str]:
    lines = []
    if "goal" in result:
        for name, judged in result["goal"]["methods"].items():
            share = "" if judged["share"] is None else f"; {judged['share']:.1%} of the requests do on their own"
            lines.append(f"{result['goal']['text']}: {name} {'holds' if judged['held'] else 'does not hold'}{share}")
    lines += [f"{name}: {cost:.3g} an image" for name, cost in result.get("cost_per_image", {}).items()]
    return lines


def print_fewest(
    method: str, goal: Goal, gpus: Sequence[int], fewest: int | None, judged: Mapping[int, ServiceTotals]
) -> None:
    """The fewest GPUs that hold a goal, and what was tried."""
    table = plain_table("GPUs", goal.name, "gain s", "granted", "edge in use", right_from=0)
    for number in sorted(judged):
        t = judged[number]
        table.add_row(
            str(number),
            f"{getattr(t, goal.name):.4g}",
            f"{t.gain_per_user:.3f}",
            f"{t.share_granted:.0%}",
            f"{t.gpu_use:.0%}",
        )
    print_table(table)
    if fewest is None:
        print(f"{method}: {goal} does not hold with {counted(max(gpus), 'GPU')} either")
    else:
        print(f"{method}: {goal} holds from {counted(fewest, 'GPU')} on, if more GPUs never make it worse")


def write_report(
    folder: Path, settings: WorldSettings, worlds: Sequence[World], methods: Methods, result: Mapping[str, Any]
) -> None:
    """Write summary.json, the figures and the report."""
    with whole_file(folder / SUMMARY) as handle:
        handle.write(json.dumps(result, indent=1, allow_nan=False) + "\n")
    drawn = [
        (
            "timeline",
            "Load and grants over time, first world",
            draw_timeline(methods, settings.resolved.scenario.interval_s),
        ),
        ("latency", "Latency by way to decide", draw_latency(methods)),
        ("load", "Gain over all local against the images in flight", draw_load(methods)),
    ]
    pictures = [Picture(name, title, save_both(folder / name, figure)[0].read_bytes()) for name, title, figure in drawn]
    with whole_file(folder / REPORT) as handle:
        handle.write(render("A service over time", _words(settings, worlds, result), [_table(result)], pictures))


def _words(settings: WorldSettings, worlds: Sequence[World], result: Mapping[str, Any]) -> list[str]:
    """What was played, and what the table says."""
    scenario, resolved = settings.resolved.scenario, settings.resolved
    return [
        f"{counted(result['requests'], 'request')} in {counted(len(worlds), 'world')} of {result['seconds']:g} s; edge "
        f"{_edge(scenario, resolved.edge_name)}, rounds of "
        f"{scenario.interval_s:g} s, physics {settings.physics}, seed {settings.seed}.",
        "Gain is the mean QoE of a request over what it has with all steps on its own device. Hindsight is the best "
        "that was found with all arrivals known, a lower bound of what is possible.",
    ]


def _edge(scenario: Scenario, name: str) -> str:
    """The edge in words."""
    if isinstance(scenario, Fleet):
        return f"of {counted(len(scenario.servers), 'server')}"
    return f"{scenario.gpus} x {name}, {scenario.bandwidth_hz / 1e6:g} MHz"


def _table(result: Mapping[str, Any]) -> PageTable:
    head = ["method", *(title for title, _ in COLUMNS.values())]
    return PageTable(head, [[name, *_texts(totals)] for name, totals in result["methods"].items()])


def _texts(totals: Mapping[str, Any]) -> list[str]:
    return ["-" if totals[name] is None else form.format(totals[name]) for name, (_, form) in COLUMNS.items()]


def write_calls(folder: Path, methods: Methods) -> None:
    """Write the scheduler's calls, one JSON object a line, to compare with a server's."""
    with whole_file(folder / CALLS) as handle:
        for name, runs in methods.items():
            for run in runs:
                for call in run.calls:
                    known = {key: value for key, value in asdict(call).items() if value is not None}
                    line = {"method": name, "world": run.world, **known}
                    handle.write(json.dumps(line) + "\n")

"""What `load` does: many emulated devices against a server, and the report of planned against measured seconds."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..common.arrays import Floats
from ..common.console import say
from ..common.errors import InputError, require
from ..common.files import make_folder, whole_file
from ..common.progress import progress_bar
from ..common.tables import plain_table, print_table, write_table
from ..fitting.latency import LatencyModel
from ..fitting.pai import PaiCurve
from ..optimizer.inputs.scenario import overrides, resolve_scenario
from ..optimizer.model.qoe import Scenario
from . import outcome
from .client import EdgeClient, EdgeError
from .comparison import find_way
from .device import DeviceResult, run_device, sleep_locally
from .price_file import load_prices
from .protocol import Ask, Facts
from .simulator import Simulation, World, decider
from .worlds import WorldSettings, make_world, read_settings

PARTS = ("wait_s", "edge_s", "transmit_s", "local_s")
TEMPLATE = "a photo of {subject} on the beach"
MOST_REQUESTS = 100_000


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """The options of one `load`; see its help."""

    server: str
    users: Path | None
    arrivals: str
    duration: float
    seed: int
    prompt: str
    method: str
    prices: str
    token: str | None
    output: Path | None
    as_json: bool


def run_load(request: LoadRequest) -> None:
    """Drive a server and compare what it planned with what was measured.

    Raises:
        InputError: one line.
    """
    require("serve", "httpx")
    if request.output:
        make_folder(request.output)
    report = asyncio.run(_loaded(request))
    if request.as_json:
        print(json.dumps(report, indent=1, allow_nan=False))
    else:
        print_load(report)


async def _loaded(request: LoadRequest) -> dict[str, Any]:
    async with EdgeClient(request.server, request.token) as client:
        try:
            facts, scenario = await client.facts(), served_scenario(await client.scenario())
        except EdgeError as error:
            raise InputError(f"--server: {error}; start one with `edgesplit serve`") from error
        world = load_world(request, scenario)
        results = await _driven(request, client, facts, world)
        after = served_scenario(await client.scenario())
    report = load_report(world, results, _simulated(request, replace(world, scenario=after)))
    if request.output:
        _write(request.output, world, results, report)
    return report


def served_scenario(numbers: Mapping[str, Any]) -> Scenario:
    """The scenario of a server's answer."""
    known = {name: numbers[name] for name in Scenario.__dataclass_fields__ if name in numbers}
    return Scenario(**known | {"edge": LatencyModel(**numbers["edge"]), "pai": PaiCurve(**numbers["pai"])})


def load_world(request: LoadRequest, scenario: Scenario) -> World:
    """The arrivals and users of a load, as `simulate` draws them, in the server's scenario.

    Raises:
        InputError: for arrivals that bring nobody, or too many.
    """
    resolved = replace(resolve_scenario("default", overrides()), scenario=scenario, for_alpha=scenario)
    settings: WorldSettings = read_settings(
        resolved, request.arrivals, request.users, None, request.duration, 1.0, seed=request.seed
    )
    world = make_world(settings, 0)
    if not 0 < len(world.requests) <= MOST_REQUESTS:
        what = "no request" if not len(world.requests) else f"{len(world.requests):,} requests"
        raise InputError(f"--arrivals, --duration: found {what}, accepted: 1 to {MOST_REQUESTS:,}")
    if world.requests.own_steps is not None:
        raise InputError("--arrivals: found images with own numbers of steps, accepted: a trace without total_steps")
    return world


async def _driven(request: LoadRequest, client: EdgeClient, facts: Facts, world: World) -> list[DeviceResult]:
    """Send every request at its time, whatever the others do; an open loop."""
    start, tasks = time.monotonic(), []
    with progress_bar("load", len(world.requests), "requests") as progress:
        for number, at in enumerate(world.requests.time_s.tolist()):
            await asyncio.sleep(max(0.0, start + at - time.monotonic()))
            tasks.append(asyncio.create_task(_one(request, client, facts, world, number)))
            progress(number)
        return list(await asyncio.gather(*tasks))


async def _one(request: LoadRequest, client: EdgeClient, facts: Facts, world: World, number: int) -> DeviceResult:
    """One request of an emulated device."""
    ask = Ask(
        prompt_template=request.prompt,
        seed=request.seed + number,
        step_latency_s=float(world.step_latency_s[number]),
        alpha=float(world.alpha[number]),
        total_steps=facts.total_steps,
        scheduler_hash=facts.scheduler_hash,
        latent_shape=facts.latent_shape,
    )
    return await run_device(client, ask, facts.interval_s, partial(sleep_locally, ask))


def _simulated(request: LoadRequest, world: World) -> Floats:
    """Everybody's latency as the simulator predicts it for the same arrivals, seconds."""
    way = find_way(request.method, lambda: load_prices(request.prices).rule(), {})
    records = Simulation(world, counts_steps=way.counts_steps).run(decider(world, way.plan))
    return outcome.latency(world, records)


def load_report(world: World, results: Sequence[DeviceResult], simulated: Floats) -> dict[str, Any]:
    """Planned against measured; the object of `--json`."""
    granted = [result for result in results if result.granted and result.decision]
    measured = np.array([result.measured.latency_s for result in results])
    fell_back = [result.reason for result in results if result.reason]
    errors = {
        "latency_s": _errors([(r.decision.planned.latency_s, r.measured.latency_s) for r in granted if r.decision])
    }
    for part in PARTS:
        pairs = [(getattr(r.decision.planned, part), getattr(r.measured, part)) for r in granted if r.decision]
        errors[part] = _errors(pairs)
    quantiles = dict(zip((50, 95, 99), np.quantile(measured, [0.5, 0.95, 0.99]).tolist(), strict=True))
    qoe = [_qoe(world, number, result) for number, result in enumerate(results)]
    return {
        "requests": len(results),
        "granted": len(granted),
        "denied": sum(1 for r in results if r.decision and r.decision.decision == "deny"),
        "fell_back": len(fell_back),
        "reasons": {reason: fell_back.count(reason) for reason in sorted(set(fell_back))},
        "planned_against_measured": errors,
        "simulated": {
            name: float(abs(np.quantile(simulated, share) / np.quantile(measured, share) - 1))
            for name, share in (("p50_relative_error", 0.5), ("p95_relative_error", 0.95))
        },
        **{f"p{share}_latency_s": seconds for share, seconds in quantiles.items()},
        "mean_latency_s": float(np.mean(measured)),
        "qoe_per_user": float(np.mean([own for own, _ in qoe])),
        "planned_qoe_per_user": float(np.mean([planned for _, planned in qoe])),
        "lost": len(world.requests) - len(results),
    }


def _errors(pairs: Sequence[tuple[float, float]]) -> dict[str, float | None]:
    """Median and 95th percentile of |planned - measured| / measured; None without requests."""
    if not pairs:
        return {"median_relative_error": None, "p95_relative_error": None}
    planned, measured = np.array(pairs).T
    error = np.abs(planned - measured) / np.maximum(measured, 1e-9)
    return {"median_relative_error": float(np.median(error)), "p95_relative_error": float(np.quantile(error, 0.95))}


def _qoe(world: World, number: int, result: DeviceResult) -> tuple[float, float]:
    """QoE of a request as measured, and as planned where there was a decision."""
    n = result.decision.local_steps if result.granted and result.decision else world.scenario.total_steps
    worth = float(world.alpha[number]) * float(world.scenario.pai.value(n))
    planned = result.decision.planned.latency_s if result.decision else result.measured.latency_s
    return worth - result.measured.latency_s, worth - planned


def print_load(report: Mapping[str, Any]) -> None:
    """The report for a person."""
    asked, granted, denied = report["requests"], report["granted"], report["denied"]
    print(f"{asked} requests: {granted} granted, {denied} denied, {report['fell_back']} went on by themselves")
    table = plain_table("planned against measured", "median error", "95th percentile")
    for part, errors in report["planned_against_measured"].items():
        cells = ["-" if value is None else f"{value:.1%}" for value in errors.values()]
        table.add_row(part.removesuffix("_s"), *cells)
    print_table(table)
    p50, p95, p99 = (report[f"p{share}_latency_s"] for share in (50, 95, 99))
    print(f"latency: median {p50:.2f} s, 95th percentile {p95:.2f} s, 99th {p99:.2f} s")
    off_50, off_95 = report["simulated"].values()
    print(f"the simulator is {off_50:.1%} off the median and {off_95:.1%} off the 95th percentile")
    print(f"QoE of a request {report['qoe_per_user']:.2f} s, planned {report['planned_qoe_per_user']:.2f} s")
    for reason, count in report["reasons"].items():
        say(f"load: {count} went on by themselves: {reason}")


def _write(folder: Path, world: World, results: Sequence[DeviceResult], report: Mapping[str, Any]) -> None:
    """The report as JSON, and a row for every request as Parquet."""
    with whole_file(folder / "load.json") as handle:
        handle.write(json.dumps(report, indent=1, allow_nan=False) + "\n")
    columns: dict[str, list[Any]] = {
        "request": list(range(len(results))),
        "time_s": world.requests.time_s.tolist(),
        "granted": [result.granted for result in results],
        "local_steps": [r.decision.local_steps if r.decision else None for r in results],
        "reason": [result.reason for result in results],
        "latency_s": [result.measured.latency_s for result in results],
    }
    for part in PARTS:
        columns[part] = [getattr(result.measured, part) for result in results]
        columns[f"planned_{part}"] = [getattr(r.decision.planned, part) if r.decision else None for r in results]
    write_table(folder / "load.parquet", columns)
    say(f"wrote {folder / 'load.json'} and {folder / 'load.parquet'}")

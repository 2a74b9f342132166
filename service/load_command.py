"""What `load` does: many emulated devices against a server, and the report of planned against measured seconds."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..common.arrays import Floats
from ..common.console import say
from ..common.errors import InputError, require
from ..common.figures import save_both
from ..common.files import make_folder, whole_file
from ..common.progress import progress_bar
from ..common.tables import write_table
from ..optimizer.inputs.scenario import overrides, resolve_scenario
from ..optimizer.model.qoe import Scenario
from . import outcome
from .client import EdgeClient, EdgeError
from .comparison import find_way, revising
from .device import DeviceResult, run_device, sleep_locally
from .load_report import Rows, load_page, load_rows, load_totals, print_load, relative_errors
from .protocol import Ask, Facts
from .simulator import Simulation, World, decider
from .worlds import WorldSettings, make_world, read_settings

MOST_REQUESTS = 100_000
POLL_S = 0.5
"""Seconds between two looks whether the server answers."""


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
    prices: str | None
    policy: str
    token: str | None
    wait: float
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
    for reason, count in report["reasons"].items():
        say(f"load: {count} went on by themselves: {reason}")


async def _loaded(request: LoadRequest) -> dict[str, Any]:
    async with EdgeClient(request.server, request.token) as client:
        facts = await _ready_facts(client, request.wait)
        world = load_world(request, await client.scenario())
        results = await _driven(request, client, facts, world)
        after = await _scenario_after(client, world.scenario)
    rows = load_rows(world, results)
    report = load_totals(world, rows, _simulated(request, replace(world, scenario=after)))
    if request.output:
        _write(request, request.output, rows, report)
    return report


async def _ready_facts(client: EdgeClient, wait_s: float) -> Facts:
    """What the server serves, once it answers.

    Raises:
        InputError: where it does not within so many seconds.
    """
    end = time.monotonic() + wait_s
    while True:
        try:
            return await client.facts()
        except EdgeError as error:
            if time.monotonic() >= end:
                raise InputError(f"--server: {error}; start one with `edgesplit serve`") from error
        await asyncio.sleep(POLL_S)


async def _scenario_after(client: EdgeClient, before: Scenario) -> Scenario:
    """The server's numbers at the end of a load; those of its start where it answers no more."""
    try:
        return await client.scenario()
    except EdgeError as error:
        say(f"load: {error}; the simulation has its numbers of the start")
        return before


def load_world(request: LoadRequest, scenario: Scenario) -> World:
    """The arrivals and users of a load, as `simulate` draws them, in the server's scenario.

    Raises:
        InputError: for arrivals that bring nobody, or too many.
    """
    resolved = replace(resolve_scenario("default", overrides()), scenario=scenario, for_alpha=scenario)
    settings: WorldSettings = read_settings(
        resolved, request.arrivals, request.users, None, request.duration, 1.0, seed=request.seed, decode_s=0.0
    )  # emulated devices decode nothing
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
    way = find_way(request.method, request.prices, request.policy)
    simulation = Simulation(world, counts_steps=way.counts_steps, revise=revising(world, way))
    records = simulation.run(decider(world, way.plan))
    return outcome.latency(world, records)


def _write(request: LoadRequest, folder: Path, rows: Rows, report: Mapping[str, Any]) -> None:
    """The report as JSON and HTML with its figure, and a row for every request as Parquet."""
    from .figures import draw_planned  # Matplotlib costs half a second

    granted = rows["granted"]
    planned, measured = rows["planned_latency_s"][granted], rows["latency_s"][granted]
    picture = save_both(folder / "load", draw_planned(planned, measured, relative_errors(planned, measured)))[0]
    with whole_file(folder / "load.json") as handle:
        handle.write(json.dumps(report, indent=1, allow_nan=False) + "\n")
    with whole_file(folder / "load.html") as handle:
        handle.write(load_page(request.server, report, picture.read_bytes()))
    write_table(folder / "load.parquet", {name: values.tolist() for name, values in rows.items()})
    say(f"wrote {folder / 'load.html'}, load.json and load.parquet")

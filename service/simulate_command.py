"""What `simulate` does: make worlds, play them under every way to decide, sum up, draw, write."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..common.console import resumable, say
from ..common.errors import InputError
from ..common.files import make_folder
from ..common.locks import only_run
from ..common.progress import progress_bar
from ..common.ranges import parse_ranges
from ..optimizer.inputs.fleet import resolve_system
from ..optimizer.inputs.scenario import overrides
from ..optimizer.model.servers import Fleet
from .arrivals import parse_process
from .comparison import MOST_HINDSIGHT, Comparison, Way, check_way, find_way, play_way, play_worlds
from .output import print_fewest, print_totals, totals_json, write_calls, write_report
from .runs import Run
from .simulator import Physics, World
from .store import RunFiles, world_digest
from .summary import (
    ALL_LOCAL,
    HINDSIGHT,
    Goal,
    Methods,
    ServiceTotals,
    cost_per_image,
    falls_behind,
    parse_goal,
    totals,
)
from .worlds import WorldSettings, make_world, read_settings

MOST_GPUS = 1_000_000
ROUNDS = 60


@dataclass(frozen=True, kw_only=True)
class SimulateRequest:
    """The options of one `simulate`; see its help.

    Attributes:
        changes: options that replace fields of the scenario, by field.
    """

    users: Path | None
    arrivals: str
    scenario: str
    changes: dict[str, Any]
    gpus: str | None
    gpus_over_time: str | None
    methods: list[str]
    prices: str | None
    policy: str
    rounds: int | None
    hours: float | None
    speed_up: float
    seed: int
    worlds: int
    physics: Physics
    step_overhead_s: float
    decode_s: float | None
    device_queueing: bool
    patience_s: float | None
    goal: str | None
    cost_per_gpu_hour: float | None
    hindsight: bool
    log: bool
    engine: str
    output: Path | None
    as_json: bool


def run_simulate(request: SimulateRequest) -> None:
    """Do what was asked for.

    Raises:
        InputError: one line.
    """
    goal = parse_goal(request.goal) if request.goal else None
    gpus = parse_ranges("--gpus", request.gpus, 1, MOST_GPUS) if request.gpus else []
    if len(gpus) > 1 and goal is None:
        raise InputError("--gpus: found several numbers, accepted: one, or a range beside a --goal")
    if request.log and request.output is None:
        raise InputError("--log: found no -o, accepted: a folder for the calls beside it")
    if len(gpus) > 1 and request.gpus_over_time:
        raise InputError("--gpus, --gpus-over-time: found a range and a file, accepted: one of the two")
    settings = _settings(request, gpus[0] if len(gpus) == 1 else None)
    ways = _ways(request)
    if len(gpus) > 1 and goal:
        _fewest_gpus(request, settings, ways[-1], gpus, goal)
        return
    if request.output:
        make_folder(request.output)
        with only_run(request.output, "simulate"), resumable():
            _compare(request, settings, ways, goal)
    else:
        _compare(request, settings, ways, goal)


def _settings(request: SimulateRequest, gpus: int | None) -> WorldSettings:
    changes = request.changes | ({} if gpus is None else {"gpus": gpus})
    resolved = resolve_system(request.scenario, overrides(**changes))
    if request.gpus and isinstance(resolved.scenario, Fleet):
        raise InputError(
            "--gpus: found a scenario of several servers, accepted: one of one server, or --goal without it"
        )
    settings = read_settings(
        resolved,
        request.arrivals,
        request.users,
        request.gpus_over_time,
        _seconds(request, resolved.scenario.interval_s),
        request.speed_up,
        seed=request.seed,
        physics=request.physics,
        step_overhead_s=request.step_overhead_s,
        decode_s=request.decode_s,
        device_queueing=request.device_queueing,
        patience_s=request.patience_s,
    )
    for notice in [*resolved.notices, *(settings.users.notices if settings.users else ())]:
        say(f"simulate: {notice}")
    return settings


def _seconds(request: SimulateRequest, interval_s: float) -> float | None:
    """The length of the arrivals; None for a trace's own."""
    if request.hours is not None:
        return 3600 * request.hours
    if request.rounds is None and parse_process(request.arrivals) is None:
        return None
    return (request.rounds or ROUNDS) * interval_s


def _ways(request: SimulateRequest) -> list[Way]:
    """The ways to decide, all local before them."""
    names = list(dict.fromkeys([ALL_LOCAL, *request.methods]))
    return [find_way(name, request.prices, request.policy) for name in names]


def _compare(request: SimulateRequest, settings: WorldSettings, ways: Sequence[Way], goal: Goal | None) -> None:
    worlds = [make_world(settings, number) for number in range(request.worlds)]
    if not any(len(world.requests) for world in worlds):
        raise InputError(f"--arrivals: found {request.arrivals}, which brings no request; lengthen --rounds or --hours")
    for way in ways:
        check_way(way, worlds[0])
    methods = _play_all(request, worlds, ways)
    reached = _totals(methods)
    result = totals_json(settings, worlds, methods, reached) | _judged(
        goal, request.cost_per_gpu_hour, methods, reached
    )
    if request.as_json:
        print(json.dumps(result, indent=1, allow_nan=False))
    else:
        print_totals(worlds, result)
    if request.output:
        write_report(request.output, settings, worlds, methods, result)
        if request.log:
            write_calls(request.output, methods)
        say(f"wrote {request.output / 'report.html'} and the requests, a file for each run")
    for notice in _notices(methods, worlds):
        say(f"simulate: {notice}")


# -- playing ------------------------------------------------------------------------------------------------


def _play_all(request: SimulateRequest, worlds: Sequence[World], ways: Sequence[Way]) -> dict[str, list[Run]]:
    """The runs of every way to decide, of hindsight too where it can be found in time."""
    store = RunFiles(request.output, [world_digest(world) for world in worlds]) if request.output else None
    if store:
        store.check()
    comparison = Comparison(ways, _finds_hindsight(request, worlds, ways), request.log, store)
    methods: dict[str, list[Run]] = {name: [] for name in comparison.names}
    total = sum(len(world.requests) for world in worlds) * len(methods)
    with progress_bar("simulate", total, "requests") as progress:
        for run in play_worlds(comparison, worlds, request.engine, progress):
            methods[run.method].append(run)
    return methods


def _finds_hindsight(request: SimulateRequest, worlds: Sequence[World], ways: Sequence[Way]) -> bool:
    largest = max(len(world.requests) for world in worlds)
    wanted = request.hindsight and len(ways) > 2  # all local and one more is no comparison
    if wanted and worlds[0].several:
        say("simulate: hindsight is left out, as it is known for one server alone")
        return False
    if wanted and largest > MOST_HINDSIGHT:
        say(
            f"simulate: hindsight is left out, as a world has {largest:,} requests; it is found for "
            f"{MOST_HINDSIGHT:,} at most"
        )
    return wanted and largest <= MOST_HINDSIGHT


# -- results ------------------------------------------------------------------------------------------------


def _totals(methods: Methods) -> dict[str, ServiceTotals]:
    local, best = methods[ALL_LOCAL], methods.get(HINDSIGHT)
    return {name: totals(runs, local, best) for name, runs in methods.items()}


def _judged(
    goal: Goal | None, gpu_hour: float | None, methods: Methods, reached: dict[str, ServiceTotals]
) -> dict[str, Any]:
    """What --goal and --cost-per-gpu-hour add."""
    added: dict[str, Any] = {}
    if goal:
        judged = {name: {"held": goal.held(reached[name]), "share": goal.share(runs)} for name, runs in methods.items()}
        added["goal"] = {"text": str(goal), "methods": judged}
    if gpu_hour is not None:
        added["cost_per_image"] = {
            name: cost_per_image(runs, gpu_hour) for name, runs in methods.items() if name != ALL_LOCAL
        }
    return added


def _notices(methods: Methods, worlds: Sequence[World]) -> Iterator[str]:
    for name, runs in methods.items():
        behind = [run.world for run in runs if falls_behind(run, worlds[run.world].max_batch)]
        if behind:
            most = int(max(runs[number].rows["in_flight_met"].max() for number in behind))
            yield (
                f"{name}: the edge falls behind, with {most:,} images in flight at last: more requests are granted "
                "than it can serve; use a rule that sees the load, more GPUs, or fewer arrivals"
            )


def _fewest_gpus(request: SimulateRequest, settings: WorldSettings, way: Way, gpus: Sequence[int], goal: Goal) -> None:
    """Find the fewest GPUs of a range that hold a goal, by bisection."""
    judged: dict[int, ServiceTotals] = {}

    def holds(number: int) -> bool:
        if number not in judged:
            own = settings.with_gpus(number)
            worlds = [make_world(own, place) for place in range(request.worlds)]
            local_way = find_way(ALL_LOCAL)
            local = [play_way(world, local_way, place) for place, world in enumerate(worlds)]
            runs = [play_way(world, way, place) for place, world in enumerate(worlds)]
            judged[number] = totals(runs, local, None)
            say(f"simulate: {number} GPUs: {goal.name} = {getattr(judged[number], goal.name):.4g}")
        return goal.held(judged[number])

    fewest = _bisect(sorted(set(gpus)), holds)
    if request.as_json:
        tried = [{"gpus": number, **asdict(judged[number])} for number in sorted(judged)]
        print(json.dumps({"goal": str(goal), "method": way.name, "gpus": fewest, "tried": tried}, indent=1))
    else:
        print_fewest(way.name, goal, gpus, fewest, judged)


def _bisect(numbers: Sequence[int], holds: Callable[[int], bool]) -> int | None:
    """The first number that holds, where all after one that holds do; None where the last does not."""
    if not holds(numbers[-1]):
        return None
    low, high = -1, len(numbers) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(numbers[middle]) else (middle, high)
    return numbers[high]

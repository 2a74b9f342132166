"""What `plan` does: read, plan, write, print."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import data
from ..common.console import say
from ..common.errors import InputError
from ..common.figures import check_picture, save_figure
from ..common.files import make_folder, read_text, whole_file
from ..common.files import resolved as resolved_path
from ..common.ranges import parse_ranges
from ..common.tables import check_table, write_table
from . import output
from .agent.decide import fall_backs
from .agent.policies import Policy, check_orders
from .inputs.example import example_files
from .inputs.fleet import resolve_system
from .inputs.notices import workload_notices
from .inputs.scenario import Resolved, overrides
from .inputs.users import NamedUsers, read_users
from .methods.registry import BUILT_IN, MethodEntry, entry_of, known_methods, load_function, methods_for
from .model.qoe import Scenario, Users, with_load
from .model.servers import Fleet, single
from .planner import (
    GPUS,
    MEMORY,
    AnyPoint,
    Outcome,
    SweepAxis,
    compare,
    default_method,
    knee,
    sweep_gpus,
    sweep_memory,
)
from .uncertainty import Uncertainty, uncertainty

MOST_GPUS = 1_000_000
MOST_GB = 1_000_000
OPTIONS = {
    "policy": "--policy",
    "orders": "--orders",
    "offloaded_steps": "--fixed-offload",
    "time_limit_s": "--time-limit",
    "population": "--population",
    "generations": "--generations",
    "seed": "--seed",
}
"""The command-line option of every argument that a method may have."""


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """The options of one `plan`; see its help.

    Attributes:
        changes: options that replace fields of the scenario, by field.
        method: name of the method; blank for the default of one server or of several.
        settings: further arguments of methods, by name; only those that the user named.
        in_flight: images of earlier rounds at the edge.
        on_radio: intermediates of earlier rounds on the radio.
    """

    users: Path
    scenario: str
    changes: dict[str, Any]
    method: str
    settings: dict[str, Any]
    output: Path | None
    as_json: bool
    compare: bool
    gpu_sweep: str | None
    placement_sweep: str | None
    uncertain: bool
    in_flight: int
    on_radio: int


def run_plan(request: PlanRequest) -> None:
    """Do what was asked for.

    Raises:
        InputError: one line; nothing is printed or written then.
    """
    resolved = resolve_system(request.scenario, overrides(**request.changes))
    request = _for_system(request, resolved.scenario)
    users = read_users(request.users, resolved.for_alpha)
    resolved = replace(resolved, scenario=with_load(resolved.scenario, request.in_flight, request.on_radio))
    settings = request.settings | ({} if isinstance(resolved.scenario, Fleet) else _read_policy(request))
    act = _act(request)
    notices = act(request, resolved, users, settings)
    edges = {edge.name: edge for edge in (resolved.edge, *resolved.more_edges)}.values()
    unlike = [notice for edge in edges for notice in workload_notices(edge, users.devices.values())]
    for notice in [*resolved.notices, *users.notices, *unlike, *notices]:  # last: an error stays the only line
        say(f"plan: {notice}")


def _act(request: PlanRequest) -> Callable[[PlanRequest, Resolved, NamedUsers, dict[str, Any]], list[str]]:
    """What is asked for: one plan, or a sweep."""
    if request.gpu_sweep is not None:
        return _sweep
    return _plan if request.placement_sweep is None else _sweep_memory


def _for_system(request: PlanRequest, scenario: Scenario) -> PlanRequest:
    """The request with the default method of one server or of several, checked."""
    request = replace(request, method=request.method or default_method(scenario))
    several = isinstance(scenario, Fleet)
    _check_together(request, several)
    if request.placement_sweep is not None and not several:
        raise InputError("--placement-sweep: found a scenario of one server, accepted: one of several (scenario@2)")
    if several:
        found = {
            "--gpu-sweep": request.gpu_sweep is not None,
            "--uncertainty": request.uncertain,
            "--in-flight": bool(request.in_flight),
            "--on-the-radio": bool(request.on_radio),
        }
        for option in (option for option, there in found.items() if there):
            raise InputError(f"{option}: found a scenario of several servers, accepted: one of one server")
    return request


def _check_together(request: PlanRequest, several: bool) -> None:
    """Refuse options that would be ignored beside each other."""
    asked = {
        "--compare": request.compare,
        "--uncertainty": request.uncertain,
        "--gpu-sweep": request.gpu_sweep is not None,
        "--placement-sweep": request.placement_sweep is not None,
    }
    for option, sweep in itertools.combinations([option for option, there in asked.items() if there], 2):
        if sweep.endswith("-sweep"):
            raise InputError(f"{option}, {sweep}: found both, accepted: one of them")
    if request.output and request.output.exists() and resolved_path(request.output) == resolved_path(request.users):
        raise InputError(f"-o: found {request.output}, which is the users file, accepted: another file")
    if request.output and not (asked["--gpu-sweep"] or asked["--placement-sweep"]):
        check_table(request.output)
    entry = entry_of(request.method)
    if request.compare and not entry.compared:
        raise InputError(f"--compare: found --method {request.method}, which is not compared, accepted: another method")
    for name in request.settings:
        if not request.compare and name not in entry.options:
            readers = [f"--method {known}" for known, other in known_methods().items()
                       if name in other.options and other.servers == several]  # fmt: skip
            accepted = " or ".join([*readers, "--compare"])
            raise InputError(f"{OPTIONS[name]}: found --method {request.method}, accepted: {accepted}")


def _read_policy(request: PlanRequest) -> dict[str, Any]:
    """The policy, where the method or a comparison needs one; a comparison's is that of `drl`."""
    entry = entry_of("drl" if request.compare else request.method)
    if not entry.reads_policy:
        return {}
    named = [request.settings["policy"]] if "policy" in request.settings else []
    policy = load_function(entry.reads_policy)(*named)
    if "orders" in request.settings:
        check_orders(policy, request.settings["orders"])
    return {"policy": policy}


def _policy_json(settings: Mapping[str, Any], scenario: Scenario, users: Users) -> dict[str, Any]:
    """Which policy planned; of the method `drl` also in how many orders, and why it did not plan everything."""
    policy = settings.get("policy")
    if not isinstance(policy, Policy):
        return {"policy": policy.card.name} if policy else {}
    fallen = list(fall_backs(policy, scenario, users))
    return {"policy": policy.card.name, "orders": settings.get("orders", 1), "fall_backs": fallen}


def write_start_files(folder: Path, force: bool, servers: int | None) -> None:
    """Write a scenario and sample users into a folder: those that ship, or an example of several servers.

    Raises:
        InputError: where a file is there already (unless forced) or cannot be written.
    """
    scenario, users = read_text(data.sample("scenarios/default.json")), read_text(data.sample("users.csv"))
    texts = {"scenario.json": scenario, "users.csv": users} if servers is None else example_files(servers)
    for name in texts:
        if (folder / name).exists() and not force:
            raise InputError(f"{folder / name}: is there already; choose another folder or add --force")
    make_folder(folder)
    for name, text in texts.items():
        with whole_file(folder / name) as handle:
            handle.write(text)
        say(f"wrote {folder / name}")
    say(f"now: plan --users {folder / 'users.csv'} --scenario {folder / 'scenario.json'}")


def _plan(request: PlanRequest, resolved: Resolved, users: NamedUsers, settings: dict[str, Any]) -> list[str]:
    offered = methods_for(isinstance(resolved.scenario, Fleet))
    names = _compared(request, offered, len(users)) if request.compare else [request.method]
    outcomes = compare(resolved.scenario, users, names, **settings)
    chosen = next(outcome for outcome in outcomes if outcome.method == request.method)
    uncertain = _uncertainty(resolved, users, chosen) if request.uncertain else None
    if request.output:
        write_table(request.output, chosen.columns())
    if request.as_json:
        result = output.plan_json(chosen, with_users=request.output is None)
        result |= _policy_json(settings, resolved.scenario, users)
        result |= {"uncertainty": asdict(uncertain)} if uncertain else {}
        result |= {"methods": [output.method_json(outcome) for outcome in outcomes]} if request.compare else {}
        output.print_json(result)
    else:
        _print(resolved.edge_name, chosen, outcomes if request.compare else [], uncertain)
    if request.output:
        say(f"wrote {request.output}")
    notes = {} if request.compare else {chosen.method: chosen.plan.note}
    return [*_notes(notes), *_left_out(request, offered, names, len(users))]


def _notes(note_of: Mapping[str, str]) -> list[str]:
    """What methods say about their plans, such as a solver's status and bound."""
    return [f"{name}: {note}" for name, note in note_of.items() if note]


def _compared(request: PlanRequest, offered: Mapping[str, MethodEntry], users: int) -> list[str]:
    """The methods of a comparison: all, or for many users those that answer soon, and the one that was asked for."""
    names = [name for name, entry in offered.items() if entry.most_compared is None or users <= entry.most_compared]
    return names if request.method in names else [*names, request.method]


def _left_out(request: PlanRequest, offered: Collection[str], names: Collection[str], users: int) -> list[str]:
    """A line on the methods that a comparison has left out."""
    missing = [name for name in offered if name in BUILT_IN and name not in names] if request.compare else []
    words = f"--compare: left out {', '.join(missing)} for as many as {users} users; --method runs one of them"
    return [words] if missing else []


def _print(edge_name: str, chosen: Outcome, compared: list[Outcome], uncertain: Uncertainty | None) -> None:
    if compared:
        output.print_comparison(compared)
    else:
        output.print_plan(edge_name, chosen)
        say(f"planned in {1e3 * chosen.planning_s:.2f} ms")
    if uncertain:
        output.print_uncertainty(chosen.method, uncertain)


def _uncertainty(resolved: Resolved, users: NamedUsers, chosen: Outcome) -> Uncertainty:
    drawn = resolved.drawn_curves
    intervals = uncertainty(resolved.scenario, users, chosen.plan, drawn)
    if intervals is None:
        what = f"whose {len(drawn)} bootstrap draws all fail to rise" if drawn else "without bootstrap draws"
        raise InputError(
            f"--uncertainty: found a PAI curve {what}, accepted: one that pai-sweep made (--pai FILE) of more prompts "
            "and seeds"
        )
    return intervals


def _sweep(request: PlanRequest, resolved: Resolved, users: NamedUsers, settings: dict[str, Any]) -> list[str]:
    gpus = parse_ranges("--gpu-sweep", request.gpu_sweep or "", 1, MOST_GPUS)
    picture = _picture(request, "gpu-sweep")
    start = with_load(resolved.for_alpha, request.in_flight, request.on_radio)
    points = sweep_gpus(start, users, gpus, request.method, resolved.edge.max_batch, **settings)
    result = {"scenario": asdict(resolved.scenario)}
    _tell_sweep(
        request,
        points,
        GPUS,
        picture,
        result | ({"policy": settings["policy"].card.name} if "policy" in settings else {}),
    )
    notes = {f"{request.method}, G = {point.gpus}": point.note for point in points}
    if len(set(notes.values())) == 1:  # what holds for all numbers is said once
        notes = {request.method: points[0].note}
    return _notes(notes)


def _sweep_memory(request: PlanRequest, resolved: Resolved, users: NamedUsers, settings: dict[str, Any]) -> list[str]:
    memory = parse_ranges("--placement-sweep", request.placement_sweep or "", 0, MOST_GB)
    picture = _picture(request, "placement-sweep")
    points = sweep_memory(single(resolved.scenario), users, memory, request.method, **settings)
    _tell_sweep(request, points, MEMORY, picture, {"scenario": output.scenario_json(resolved.scenario)})
    return _notes({f"{request.method}, {point.memory_gb} GB": point.note for point in points})


def _picture(request: PlanRequest, what: str) -> Path:
    """Where the picture of a sweep goes: where the user says, else beside the users file."""
    beside = request.users if request.users.is_file() else Path("users")  # not beside /dev/stdin
    picture = request.output or beside.with_suffix(f".{what}.png")
    check_picture(picture)
    return picture


def _tell_sweep(
    request: PlanRequest, points: Sequence[AnyPoint], axis: SweepAxis, picture: Path, further: dict[str, Any]
) -> None:
    """Draw and print a sweep."""
    from .figures import draw_sweep  # seaborn costs 1 s

    bend = knee(points, axis)
    save_figure(picture, draw_sweep(points, bend, axis))
    if request.as_json:
        at = getattr(bend, axis.column) if bend else None
        rows = [asdict(point) for point in points]
        output.print_json({"method": request.method, f"knee_{axis.column}": at, "points": rows, **further})
    else:
        output.print_sweep(points, bend, axis)
    say(f"wrote {picture}")

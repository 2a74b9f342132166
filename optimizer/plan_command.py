"""What `plan` does: read, plan, write, print."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import data
from ..common.console import say
from ..common.errors import InputError
from ..common.figures import check_picture, save_figure
from ..common.files import make_folder, read_text, whole_file
from ..common.ranges import parse_ranges
from ..common.tables import check_table, write_table
from . import output
from .agent.decide import default_policy, fall_backs
from .agent.policies import Policy, load_policy
from .inputs.scenario import Resolved, load_scenario, overrides
from .inputs.users import UserTable, read_users
from .model.qoe import Scenario, Users
from .planner import METHODS, SLOW, Outcome, Settings, compare, knee, sweep_gpus
from .uncertainty import Uncertainty, uncertainty

MOST_GPUS = 1_000_000
SLOW_USERS = 200
"""Users up to which a comparison has the methods that take seconds."""
ILP, GENETIC = ("ilp-fixed", "ilp-joint"), ("genetic", "genetic-joint")
READERS = {
    "policy": ("--policy", ("drl",)),
    "fixed_offload": ("--fixed-offload", ("offload-all-fixed",)),
    "time_limit_s": ("--time-limit", ILP),
    "population": ("--population", GENETIC),
    "generations": ("--generations", GENETIC),
    "seed": ("--seed", GENETIC),
}
"""What a method may be told: the option, and the methods that read it."""


@dataclass(frozen=True)
class Request:
    """The options of one `plan`; see its help."""

    users: Path
    scenario: str
    options: dict[str, Any]
    method: str
    policy: str | None
    told: dict[str, Any]
    output: Path | None
    as_json: bool
    compare: bool
    gpu_sweep: str | None
    uncertain: bool


def run(request: Request) -> None:
    """Do what was asked for.

    Raises:
        InputError: one line; nothing is printed or written then.
    """
    _check_together(request)
    resolved = load_scenario(request.scenario, overrides(**request.options))
    table = read_users(request.users, resolved.for_alpha)
    settings = Settings(policy=_policy(request), **request.told)
    if request.gpu_sweep is not None:
        notices = _sweep(request, resolved, table, settings)
    else:
        notices = _plan(request, resolved, table, settings)
    for notice in [*resolved.notices, *notices]:  # last: an error stays the only line
        say(f"plan: {notice}")


def _check_together(request: Request) -> None:
    """Refuse options that would be ignored beside each other."""
    if request.compare and request.gpu_sweep is not None:
        raise InputError("--compare, --gpu-sweep: found both, accepted: one of them")
    if request.uncertain and request.gpu_sweep is not None:
        raise InputError("--uncertainty, --gpu-sweep: found both, accepted: one of them")
    if request.output and request.output.exists() and request.output.resolve() == request.users.resolve():
        raise InputError(f"-o: found {request.output}, which is the users file, accepted: another file")
    if request.gpu_sweep is None and request.output:
        check_table(request.output)
    given = [*request.told, *(["policy"] if request.policy is not None else [])]
    for option, readers in (READERS[name] for name in given):
        if not request.compare and request.method not in readers:
            accepted = " or ".join(f"--method {name}" for name in readers)
            raise InputError(f"{option}: found --method {request.method}, accepted: {accepted} or --compare")


def _policy(request: Request) -> Policy | None:
    """The policy, where the method or a comparison needs one."""
    if not (request.compare or request.method == "drl"):
        return None
    return default_policy() if request.policy is None else load_policy(request.policy)


def _policy_json(policy: Policy | None, scenario: Scenario, users: Users) -> dict[str, Any]:
    """Which policy planned, and why it did not plan everything."""
    if policy is None:
        return {}
    return {"policy": policy.card.name, "fall_backs": list(fall_backs(policy, scenario, users))}


def write_start_files(folder: Path, force: bool) -> None:
    """Copy the shipped scenario and sample users into a folder.

    Raises:
        InputError: where a file is there already (unless forced) or cannot be written.
    """
    sources = {"scenario.json": data.sample("scenarios/default.json"), "users.csv": data.sample("users.csv")}
    for name in sources:
        if (folder / name).exists() and not force:
            raise InputError(f"{folder / name}: is there already; choose another folder or add --force")
    make_folder(folder)
    for name, source in sources.items():
        with whole_file(folder / name) as handle:
            handle.write(read_text(source))
        say(f"wrote {folder / name}")
    say(f"now: plan --users {folder / 'users.csv'} --scenario {folder / 'scenario.json'}")


def _plan(request: Request, resolved: Resolved, table: UserTable, settings: Settings) -> list[str]:
    scenario = resolved.scenario
    names = _compared(request, table.users) if request.compare else [request.method]
    outcomes = compare(scenario, table.users, names, settings)
    chosen = next(outcome for outcome in outcomes if outcome.method == request.method)
    uncertain = _uncertainty(resolved, table, chosen) if request.uncertain else None
    columns = output.plan_columns(scenario, table, chosen)
    if request.output:
        write_table(request.output, columns)
    if request.as_json:
        result = output.plan_json(scenario, table, chosen, None if request.output else columns)
        result |= _policy_json(settings.policy, scenario, table.users)
        if uncertain:
            result["uncertainty"] = asdict(uncertain)
        if request.compare:
            result["methods"] = [_method_json(outcome) for outcome in outcomes]
        output.print_json(result)
    else:
        _print(scenario, resolved.edge_name, table, chosen, outcomes if request.compare else [])
        if uncertain:
            output.print_uncertainty(chosen.method, uncertain)
    if request.output:
        say(f"wrote {request.output}")
    told = [] if request.compare else _notes({chosen.method: chosen.plan.note})
    return [*told, *_left_out(request, names)]


def _notes(note_of: Mapping[str, str]) -> list[str]:
    """What methods say of their plans, such as a solver's status and bound."""
    return [f"{name}: {note}" for name, note in note_of.items() if note]


def _compared(request: Request, users: Users) -> list[str]:
    """The methods of a comparison: all, or for many users those that answer soon."""
    slow = () if len(users) <= SLOW_USERS else SLOW
    return [name for name in METHODS if name not in slow or name == request.method]


def _left_out(request: Request, names: Collection[str]) -> list[str]:
    """A line on the methods that a comparison has left out."""
    missing = [name for name in METHODS if name not in names] if request.compare else []
    words = f"--compare: left out {', '.join(missing)} for more than {SLOW_USERS} users; --method runs one of them"
    return [words] if missing else []


def _print(scenario: Scenario, edge_name: str, table: UserTable, chosen: Outcome, compared: list[Outcome]) -> None:
    if compared:
        output.print_comparison(compared)
    else:
        output.print_plan(scenario, edge_name, table, chosen)
        say(f"planned in {1e3 * chosen.planning_s:.2f} ms")


def _uncertainty(resolved: Resolved, table: UserTable, chosen: Outcome) -> Uncertainty:
    drawn = resolved.drawn_curves
    found = uncertainty(resolved.scenario, table.users, chosen.plan, drawn)
    if found is None:
        what = f"whose {len(drawn)} bootstrap draws all fail to rise" if drawn else "without bootstrap draws"
        raise InputError(
            f"--uncertainty: found a PAI curve {what}, accepted: one that pai-sweep made (--pai FILE) of more prompts "
            "and seeds"
        )
    return found


def _method_json(outcome: Outcome) -> dict[str, Any]:
    seconds = {"planning_s": outcome.planning_s}
    return {"method": outcome.method, **asdict(outcome.total()), **seconds, **output.note(outcome)}


def _sweep(request: Request, resolved: Resolved, table: UserTable, settings: Settings) -> list[str]:
    from .figures import draw_sweep  # seaborn costs 1 s

    gpus = parse_ranges("--gpu-sweep", request.gpu_sweep or "", 1, MOST_GPUS)
    picture = request.output or request.users.with_suffix(".gpu-sweep.png")
    check_picture(picture)
    points = sweep_gpus(resolved.for_alpha, table.users, gpus, request.method, settings, resolved.edge.max_batch)
    bend = knee(points)
    save_figure(picture, draw_sweep(points, bend))
    if request.as_json:
        knee_at = bend.gpus if bend else None
        scenario = asdict(resolved.scenario)
        rows = [asdict(point) for point in points]
        result = {"method": request.method, "knee_gpus": knee_at, "points": rows, "scenario": scenario}
        output.print_json(result | ({"policy": settings.policy.card.name} if settings.policy else {}))
    else:
        output.print_sweep(points, bend)
    say(f"wrote {picture}")
    return _notes({f"{request.method}, G = {point.gpus}": point.note for point in points})

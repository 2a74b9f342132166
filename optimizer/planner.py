"""Planning with any method, and what comes out: decisions, what they are worth, and the proven gap to the optimum."""

import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..common.errors import InputError, reason_of
from .inputs.users import NamedUsers, named
from .methods.registry import (
    BUILT_IN,
    DEFAULT_METHOD,
    DEFAULT_OF_SEVERAL,
    Method,
    entry_of,
    find_method,
    known_methods,
    load_function,
    methods_for,
)
from .methods.scoring import Score, Totals, check_plan, score, yardstick
from .model.qoe import Evaluation, Plan, Scenario, Users
from .model.servers import Fleet, FleetPlan, loads, place_names, places_of

if TYPE_CHECKING:
    import pandas as pd

Methods = Iterable[str | Method] | Mapping[str, Method]
"""Methods by name, as functions, or functions under names of their own."""


@dataclass(frozen=True, repr=False)
class Outcome:
    """A plan and all that is known of it.

    Attributes:
        method: name of the method.
        plan: the decisions.
        planning_s: seconds from checked arrays in memory to decisions and splits in memory.
        score: what the plan is worth.
        scenario: the system that was planned for.
        planned_users: the users, with their names.
    """

    method: str
    plan: Plan
    planning_s: float
    score: Score
    scenario: Scenario
    planned_users: NamedUsers

    def __repr__(self) -> str:
        t = self.totals
        return (
            f"<{self.method}: {t.granted} of {len(self.planned_users)} users granted, objective {t.objective:.6g} s, "
            f"captured share {t.captured_share:.2%}, proven gap {t.gap:.3g} s>"
        )

    @property
    def evaluation(self) -> Evaluation:
        """What every user gets."""
        return self.score.evaluation

    @cached_property
    def totals(self) -> Totals:
        """The totals over all cells."""
        return self.score.totals

    @cached_property
    def users(self) -> "pd.DataFrame":
        """One row per user, with the columns of the plan file."""
        import pandas as pd  # costs half a second

        return pd.DataFrame(self.columns())

    def columns(self) -> dict[str, Sequence[Any]]:
        """The columns of the plan file, one entry per user in file order; `cell` only where the input has it."""
        plan, e, users = self.plan, self.evaluation, self.planned_users
        names: dict[str, Sequence[Any]] = {"user_id": users.user_id}
        if users.cell_of is not None:
            names["cell"] = users.cell_of
        names["decision"] = np.where(plan.granted, "grant", "deny").tolist()
        return (
            names
            | self._places()
            | {
                "local_steps": plan.local_steps.tolist(),
                "offloaded_steps": (self.scenario.total_steps - plan.local_steps).tolist(),
                "pai": e.pai.tolist(),
                "latency_s": e.latency_s.tolist(),
                "wait_s": e.wait_s.tolist(),
                "transmit_s": e.transmit_s.tolist(),
                "edge_s": e.edge_s.tolist(),
                "local_s": e.local_s.tolist(),
                "alpha": users.alpha.tolist(),
                "qoe": e.qoe.tolist(),
            }
        )

    @property
    def servers(self) -> list[dict[str, Any]]:
        """With several servers a row for each: its name, granted users, their models' names, seconds of an edge step.

        An edge step has no one duration where nobody is granted, or in several cells.
        """
        if not isinstance(self.scenario, Fleet):
            return []
        fleet, users = self.scenario, self.planned_users
        server, model = places_of(self.plan, len(users))
        b, a = (
            loads(fleet, users, self.plan) if isinstance(self.plan, FleetPlan) else np.zeros((2, 1, len(fleet.servers)))
        )
        return [
            {
                "server": place.name,
                "granted": int(b[:, m].sum()),
                "models": [fleet.models[c].name for c in np.unique(model[server == m])],
                "edge_step_latency_s": float(place.step_latency(a[0, m], b[0, m])) if len(b) == 1 and b[0, m] else None,
            }
            for m, place in enumerate(fleet.servers)
        ]

    def _places(self) -> dict[str, Sequence[str]]:
        """With several servers the names of every user's server and model, blank for local."""
        if not isinstance(self.scenario, Fleet):
            return {}
        return place_names(self.scenario, *places_of(self.plan, len(self.planned_users)))


def plan(scenario: Scenario, users: Users, method: str | Method | None = None, **options: Any) -> Outcome:
    """Plan with one method and prove its gap.

    Args:
        scenario: the system.
        users: users of one or more cells.
        method: name of a known method, "package.module:function", or a function of scenario and users; None for the
            default, which is `drl` for one server and `assign` for several.
        options: further arguments of the method, such as `time_limit_s` or `policy`.

    Raises:
        InputError: for an unknown method or option, and for an infeasible plan.
    """
    return compare(scenario, users, [method or default_method(scenario)], **options)[0]


def default_method(scenario: Scenario) -> str:
    """The method that plans where none is named."""
    return DEFAULT_OF_SEVERAL if isinstance(scenario, Fleet) else DEFAULT_METHOD


def compare(scenario: Scenario, users: Users, methods: Methods | None = None, **options: Any) -> list[Outcome]:
    """Plan with several methods, all measured against one optimum.

    Args:
        scenario: the system.
        users: users of one or more cells.
        methods: names, functions, or functions under names of their own; None for all known methods.
        options: further arguments of methods; each method gets those that it has.

    Raises:
        InputError: for an unknown method or option, and for an infeasible plan.
    """
    users = named(users)
    _check_links(scenario, users)
    chosen = _named(list(methods_for(isinstance(scenario, Fleet))) if methods is None else methods)
    names = [method for method in chosen.values() if isinstance(method, str)]
    _check_servers(names, scenario)
    _check_options(names, options)
    settings = _read_policy(options, names)
    ready = {name: find_method(m, settings) if isinstance(m, str) else m for name, m in chosen.items()}
    plans = {name: _planned(name, method, scenario, users) for name, method in ready.items()}
    against = yardstick(scenario, users, _proven({name: plans[name][0] for name in plans if name == chosen[name]}))
    return [
        Outcome(name, made, seconds, score(scenario, users, made, against), scenario, users)
        for name, (made, seconds) in plans.items()
    ]


def _proven(plans: Mapping[str, Plan]) -> Plan | None:
    """Of our own methods' plans, by the methods' names, an optimal one or the one whose bound is lowest, if any is."""
    bounds = {
        name: float(made.bound_s.sum())
        for name, made in plans.items()
        if name in BUILT_IN and isinstance(made, FleetPlan) and made.bound_s is not None
    }
    return plans[min(bounds, key=bounds.__getitem__)] if bounds else plans.get("exact")


def _named(methods: Methods) -> dict[str, str | Method]:
    """Methods by the name that tables show; a function's own is its place, module:function."""
    if isinstance(methods, Mapping):
        return dict(methods)
    named: dict[str, str | Method] = {}
    for method in methods:
        name = method if isinstance(method, str) else _place(method)
        if name in named:
            raise InputError(
                f"methods: found {name!r} twice, accepted: each once, or names and functions in a dictionary"
            )
        named[name] = method
    return named


def _place(method: Method) -> str:
    """Where a function or an object that can be called is defined, as module:name."""
    function = method.func if isinstance(method, partial) else method
    return f"{function.__module__}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def _check_links(scenario: Scenario, users: Users) -> None:
    """Refuse links and clusters of other shapes than several servers need."""
    if not isinstance(scenario, Fleet):
        return
    expected = {"rate": (len(users), len(scenario.servers)), "cluster": (len(users),)}
    for name, shape in expected.items():
        found = getattr(users, name)
        if found is not None and np.shape(found) != shape:
            raise InputError(f"{name}: found an array of shape {np.shape(found)}, accepted: {shape}, or None")


def _check_servers(names: Sequence[str], scenario: Scenario) -> None:
    """Refuse a method for one server where there are several."""
    if not isinstance(scenario, Fleet):
        return
    fitting = methods_for(several=True)
    for name in names:
        if name in known_methods() and name not in fitting:
            raise InputError(f"method {name}: found several servers, accepted: {', '.join(fitting)}")


def _check_options(names: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse an option that none of the methods has."""
    for option in options:
        if not any(option in entry_of(name).options for name in names):
            readers = [name for name, entry in known_methods().items() if option in entry.options]
            accepted = f"method {' or '.join(readers)}" if readers else "an option that a method has"
            raise InputError(f"option {option}: found method {', '.join(names) or 'of your own'}, accepted: {accepted}")


def _read_policy(options: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """The options with the policy that is named read from its file: reading is not planning."""
    if not isinstance(options.get("policy"), str):
        return options
    readers = {entry_of(name).reads_policy: name for name in names if entry_of(name).reads_policy}
    if len(readers) > 1:
        found = " and ".join(readers.values())
        raise InputError(f"option policy: found methods {found}, whose policies differ in kind, accepted: one of them")
    if not readers:
        return options
    return {**options, "policy": load_function(next(iter(readers)))(options["policy"])}


def _planned(name: str, method: Method, scenario: Scenario, users: NamedUsers) -> tuple[Plan, float]:
    """A method's plan, checked, and the seconds that it took."""
    start = time.perf_counter()
    made = method(scenario, users) if name in BUILT_IN else _own_plan(name, method, scenario, users)
    seconds = time.perf_counter() - start
    try:
        check_plan(scenario, users, made, users.user_id)
    except InputError as error:
        raise InputError(f"method {name}: {error}") from error
    return made, seconds


def _own_plan(name: str, method: Method, scenario: Scenario, users: Users) -> Plan:
    """The plan of a method that is not ours; an error in it is reported with its place."""
    try:
        return method(scenario, users)
    except InputError as error:
        raise InputError(f"method {name}: {error}") from error
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where, what = f"{frame.filename}, line {frame.lineno}", f"{type(error).__name__}: {reason_of(error)}"
        raise InputError(f"method {name}: failed in {where} ({what}); mend the method") from error


@dataclass(frozen=True)
class SweepPoint:
    """The plan for one number of GPUs; the keys of `--gpu-sweep --json`.

    Attributes:
        gpus: number of edge GPUs, G.
        objective: value of (P1), summed over cells, seconds.
        captured_share: share of the possible gain over all local that the plan captures.
        granted: number of users who offload.
        mean_latency_s: mean over all users, seconds.
        mean_pai: mean over all users.
        note: what the method says about its plan.
    """

    gpus: int
    objective: float
    captured_share: float
    granted: int
    mean_latency_s: float
    mean_pai: float
    note: str = ""


def sweep_gpus(
    scenario: Scenario,
    users: Users,
    gpus: Iterable[int],
    method: str | Method = DEFAULT_METHOD,
    images_each: int | None = None,
    **options: Any,
) -> list[SweepPoint]:
    """Plan the same users with each number of GPUs; alpha stays as it is, so that objectives compare.

    Args:
        scenario: the system; its own number of GPUs does not matter.
        users: users of one or more cells.
        gpus: every number of edge GPUs to plan for.
        method: name of a known method, "package.module:function", or a function.
        images_each: images that the memory of one GPU holds; None if that is not known.
        options: further arguments of the method.
    """
    settings = _read_policy(options, [method] if isinstance(method, str) else [])
    points = []
    for g in gpus:
        outcome = plan(scenario.with_gpus(g, images_each), users, method, **settings)
        t = outcome.totals
        means = t.mean_latency_s, t.mean_pai
        points.append(SweepPoint(g, t.objective, t.captured_share, t.granted, *means, outcome.plan.note))
    return points


@dataclass(frozen=True)
class PlacementPoint:
    """The plan for one memory of every server; the keys of `--placement-sweep --json`.

    Attributes:
        memory_gb: memory of every server for models, 1e9 bytes.
        objective: value of (P1), summed over cells, seconds.
        captured_share: share of what offloading can gain at this memory that the plan captures, at least.
        hosted: number of models that servers hold for their users, summed over servers.
        granted: number of users who offload.
        mean_latency_s: mean over all users, seconds.
        mean_pai: mean over all users.
        note: what the method says about its plan.
    """

    memory_gb: int
    objective: float
    captured_share: float
    hosted: int
    granted: int
    mean_latency_s: float
    mean_pai: float
    note: str = ""


def sweep_memory(
    fleet: Fleet, users: Users, memory_gb: Iterable[int], method: str | Method = DEFAULT_OF_SEVERAL, **options: Any
) -> list[PlacementPoint]:
    """Plan the same users with each memory; every server then chooses among all models.

    Args:
        fleet: the servers and models; what servers host and what memory they have does not matter.
        users: users of one or more cells.
        memory_gb: every memory of a server to plan for, 1e9 bytes.
        method: name of a known method, "package.module:function", or a function.
        options: further arguments of the method.
    """
    points = []
    for memory in memory_gb:
        outcome = plan(fleet.choosing(1e9 * memory), users, method, **options)
        t, hosted = outcome.totals, sum(len(server["models"]) for server in outcome.servers)
        figures = t.objective, t.captured_share, hosted, t.granted, t.mean_latency_s, t.mean_pai
        points.append(PlacementPoint(memory, *figures, outcome.plan.note))
    return points


@dataclass(frozen=True)
class SweepAxis:
    """What a sweep varies.

    Attributes:
        column: attribute of its points.
        label: words for an axis of a picture.
        unit: word behind a number.
        units: the same for several.
        further: attributes of the points beside the totals, and their headings in a table.
    """

    column: str
    label: str
    unit: str
    units: str
    further: Mapping[str, str]


GPUS = SweepAxis("gpus", "GPUs at the edge server", "GPU", "GPUs", {})
MEMORY = SweepAxis("memory_gb", "memory of every server for models, GB", "GB", "GB", {"hosted": "models"})

AnyPoint = TypeVar("AnyPoint", bound=SweepPoint | PlacementPoint)


def knee(points: Sequence[AnyPoint], axis: SweepAxis = GPUS) -> AnyPoint | None:
    """The point from which on more of what is swept pays less; None where the objective bends nowhere.

    It is the point farthest above the straight line from the first objective to the last.
    """
    x = np.array([getattr(point, axis.column) for point in points], float)
    y = np.array([point.objective for point in points])
    if x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    above = (y - y[0]) / np.ptp(y) - (x - x[0]) / np.ptp(x)
    return points[int(np.argmax(above))] if above.max() > 1e-9 else None

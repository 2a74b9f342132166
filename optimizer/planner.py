"""Every method behind one signature, scored by the one evaluator, with its proven gap to the optimum."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from ..common.arrays import Floats, Ints
from .agent.decide import default_policy, drl_convex
from .agent.policies import Policy
from .methods.baselines import offload_all, offload_all_fixed
from .methods.exact import captured_share, optimum
from .methods.genetic import GENERATIONS, POPULATION, genetic, genetic_joint
from .methods.ilp import TIME_LIMIT_S, ilp_fixed, ilp_joint
from .model.qoe import Evaluation, Plan, Scenario, Users, all_local, batch_of, edge_step_latency, evaluate, objective


class Method(Protocol):
    """What every method is: numbers in, a plan out."""

    def __call__(self, scenario: Scenario, users: Users, /) -> Plan:
        """Plan every cell."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What methods can be told.

    Attributes:
        fixed_offload: steps that "offload-all-fixed" offloads; None for N - N-hat.
        policy: that "drl" decides with; None for the default.
        time_limit_s: of integer programs, for a whole plan.
        population: P of the genetic algorithms.
        generations: M of them.
        seed: of them.
    """

    fixed_offload: int | None = None
    policy: Policy | None = None
    time_limit_s: float = TIME_LIMIT_S
    population: int = POPULATION
    generations: int = GENERATIONS
    seed: int = 0


DEFAULTS = Settings()


def methods(settings: Settings = DEFAULTS) -> dict[str, Method]:
    """Every method by name."""
    s = settings
    evolved: dict[str, Any] = {"population": s.population, "generations": s.generations, "seed": s.seed}
    return {
        "drl": partial(drl_convex, policy=s.policy),
        "exact": optimum,
        "genetic": partial(genetic, **evolved),
        "genetic-joint": partial(genetic_joint, **evolved),
        "ilp-fixed": partial(ilp_fixed, time_limit_s=s.time_limit_s),
        "ilp-joint": partial(ilp_joint, time_limit_s=s.time_limit_s),
        "all-local": all_local,
        "offload-all": offload_all,
        "offload-all-fixed": partial(offload_all_fixed, offloaded_steps=s.fixed_offload),
    }


METHODS = tuple(methods())
SLOW = ("genetic", "genetic-joint", "ilp-fixed", "ilp-joint")
"""Seconds for twenty users."""
_GENETIC, _ILP = ("pymoo.algorithms.soo.nonconvex.ga", "pymoo.optimize"), ("highspy", "scipy.sparse")
LIBRARIES = {"genetic": _GENETIC, "genetic-joint": _GENETIC, "ilp-fixed": _ILP, "ilp-joint": _ILP}
"""What methods import when they are first called, which is not planning."""
DEFAULT_METHOD = "drl"


@dataclass(frozen=True)
class Yardstick:
    """What every plan of a scenario is measured against; shape (cells,), seconds."""

    all_local: Floats
    optimum: Floats


@dataclass(frozen=True)
class Totals:
    """The totals of one plan over one cell or several; the keys of `--json`.

    Attributes:
        objective: the value of (P1), seconds, waiting included.
        all_local_objective: its value with every request denied.
        optimum_objective: its largest possible value.
        gap: optimum_objective - objective, proven; seconds.
        captured_share: share of the possible gain over all-local.
        granted: users who offload.
        edge_step_latency_s: seconds of one edge step at that batch; None where none is granted, or for a
            sum over several cells.
    """

    objective: float
    all_local_objective: float
    optimum_objective: float
    gap: float
    captured_share: float
    granted: int
    edge_step_latency_s: float | None


@dataclass(frozen=True)
class Outcome:
    """A plan and all that is known of it.

    Attributes:
        method: its name.
        plan: the decisions.
        evaluation: what each user gets.
        planning_s: from checked arrays in memory to decisions and splits in memory.
        objective: of every cell, shape (cells,).
        batch: granted users of every cell, shape (cells,).
        step_latency_s: of one edge step in every cell, shape (cells,).
        yardstick: all-local and optimum of every cell.
    """

    method: str
    plan: Plan
    evaluation: Evaluation
    planning_s: float
    objective: Floats
    batch: Ints
    step_latency_s: Floats
    yardstick: Yardstick

    def cell(self, number: int) -> Totals:
        """The totals of one cell."""
        granted = int(self.batch[number])
        step = float(self.step_latency_s[number]) if granted else None
        return _totals(self, slice(number, number + 1), granted, step)

    def total(self) -> Totals:
        """The totals over all cells."""
        granted = int(self.batch.sum())
        one_batch = granted and self.batch.size == 1
        return _totals(self, slice(None), granted, float(self.step_latency_s[0]) if one_batch else None)


class OptimumBeatenError(AssertionError):
    """A plan scored above the exact optimum: a defect in this package, never to be hidden."""


def plan_users(scenario: Scenario, users: Users, name: str = DEFAULT_METHOD, settings: Settings = DEFAULTS) -> Outcome:
    """Plan with one method and prove its gap."""
    return compare(scenario, users, [name], settings)[0]


def compare(
    scenario: Scenario, users: Users, names: Iterable[str] = METHODS, settings: Settings = DEFAULTS
) -> list[Outcome]:
    """Plan with several methods; the optimum that all are measured against is computed once.

    Args:
        scenario: the system.
        users: of one or more cells.
        names: some of `METHODS`.
        settings: what methods are told.
    """
    known, names = methods(settings), list(names)
    if "drl" in names and settings.policy is None:
        default_policy()  # reading it is not planning
    for library in (library for name in names for library in LIBRARIES.get(name, ())):
        import_module(library)
    plans = {name: _timed(known[name], scenario, users) for name in names}
    best = plans["exact"][0] if "exact" in plans else optimum(scenario, users)
    yardstick = Yardstick(
        all_local=objective(users, evaluate(scenario, users, all_local(scenario, users))),
        optimum=objective(users, evaluate(scenario, users, best)),
    )
    return [_outcome(scenario, users, name, *plans[name], yardstick) for name in plans]


@dataclass(frozen=True)
class SweepPoint:
    """One number of GPUs; the keys of `--gpu-sweep --json`.

    Attributes:
        gpus: G.
        objective: of (P1), summed over cells.
        captured_share: of the possible gain over all-local.
        granted: users who offload.
        mean_latency_s: over all users.
        mean_pai: over all users.
        note: what the method says of its plan.
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
    name: str = DEFAULT_METHOD,
    settings: Settings = DEFAULTS,
    images_each: int | None = None,
) -> list[SweepPoint]:
    """Plan the same users with each number of GPUs; alpha stays as it is, so that objectives compare.

    Args:
        scenario: the system; its number of GPUs does not matter.
        users: of one or more cells.
        gpus: every G.
        name: of the method.
        settings: of the method.
        images_each: what a GPU's memory holds; None where that is not known.
    """
    points = []
    for g in gpus:
        outcome = plan_users(scenario.with_gpus(g, images_each), users, name, settings)
        total, gained = outcome.total(), outcome.evaluation
        latency, pai = float(gained.latency_s.mean()), float(gained.pai.mean())
        note = outcome.plan.note
        points.append(SweepPoint(g, total.objective, total.captured_share, total.granted, latency, pai, note))
    return points


def knee(points: list[SweepPoint]) -> SweepPoint | None:
    """The point from which on more GPUs pay less; None where the objective nowhere bends.

    It is the point farthest above the straight line from the first objective to the last.
    """
    x = np.array([point.gpus for point in points], float)
    y = np.array([point.objective for point in points])
    if x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    above = (y - y[0]) / np.ptp(y) - (x - x[0]) / np.ptp(x)
    return points[int(np.argmax(above))] if above.max() > 1e-9 else None


def _timed(method: Method, scenario: Scenario, users: Users) -> tuple[Plan, float]:
    start = time.perf_counter()
    plan = method(scenario, users)
    return plan, time.perf_counter() - start


def _outcome(
    scenario: Scenario, users: Users, name: str, plan: Plan, planning_s: float, yardstick: Yardstick
) -> Outcome:
    evaluation = evaluate(scenario, users, plan)
    value, batch = objective(users, evaluation), batch_of(plan, users)
    _check_optimum(name, value, yardstick.optimum)
    step = edge_step_latency(scenario, batch)
    return Outcome(name, plan, evaluation, planning_s, value, batch, step, yardstick)


def _check_optimum(name: str, value: Floats, best: Floats) -> None:
    excess = np.max(value - best - _rounding(best))
    if excess > 0:
        raise OptimumBeatenError(f"{name} beats the exact optimum by {excess:g} s")


def _rounding(value: Floats | float) -> Floats:
    """What rounding may make of a sum of this size."""
    return 1e-9 * np.maximum(1, np.abs(value))


def _totals(outcome: Outcome, cells: slice, granted: int, step_latency_s: float | None) -> Totals:
    value = float(outcome.objective[cells].sum())
    local = float(outcome.yardstick.all_local[cells].sum())
    best = float(outcome.yardstick.optimum[cells].sum())
    gap = best - value
    if -_rounding(best) <= gap < 0:  # another plan of the same value, summed in another order
        gap = 0.0
    share = float(captured_share(np.array(best - gap), np.array(local), np.array(best)))
    return Totals(value, local, best, gap, share, granted, step_latency_s)

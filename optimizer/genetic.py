"""The paper's heuristic peer, section 6.2: a genetic algorithm over who is granted, the split optimised inside."""

from typing import Any

import numpy as np

from ..common.arrays import Bools, Floats
from .counts import cells_by_size
from .drl import split_granted
from .qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from .split import best_split

POPULATION, GENERATIONS = 100, 200
"""P and M of the paper."""


def genetic(
    scenario: Scenario,
    users: Users,
    population: int = POPULATION,
    generations: int = GENERATIONS,
    seed: int = 0,
) -> Plan:
    """The best plan that pymoo's genetic algorithm finds, cell by cell.

    Args:
        scenario: the system.
        users: of one or more cells.
        population: P.
        generations: M.
        seed: of everything random.
    """
    granted = np.zeros(len(users), bool)
    for places in cells_by_size(users.cell):
        for own in places:
            granted[own] = _cell(scenario, users.take(own), population, generations, seed)
    return split_granted(scenario, users, granted)


def values(scenario: Scenario, users: Users, granted: Bools) -> Floats:
    """The value over all denied of many decisions for one cell, each user's split the best for its batch.

    Args:
        scenario: the system.
        users: of one cell.
        granted: shape (decisions, users).

    Returns:
        seconds, shape (decisions,).
    """
    b = np.arange(len(users) + 1)
    saving = users.step_latency_s[:, None] - edge_step_latency(scenario, np.maximum(b, 1))
    _, gain = best_split(scenario, users.alpha[:, None], saving)  # (users, b)
    return _values(scenario, gain, granted)


def _values(scenario: Scenario, gain: Floats, granted: Bools) -> Floats:
    b = granted.sum(axis=1)
    found: Floats = (gain.T[b] * granted).sum(axis=1) - b * transmit_time(scenario, b)
    return found


def _cell(scenario: Scenario, users: Users, population: int, generations: int, seed: int) -> Bools:
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.bitflip import BitflipMutation
    from pymoo.operators.sampling.rnd import BinaryRandomSampling
    from pymoo.optimize import minimize

    algorithm = GA(
        pop_size=population,
        sampling=BinaryRandomSampling(),
        crossover=TwoPointCrossover(),
        mutation=BitflipMutation(),
        eliminate_duplicates=True,
    )
    found = minimize(_problem(scenario, users), algorithm, ("n_gen", generations), seed=seed)
    nobody = np.zeros(len(users), bool)
    return nobody if found.X is None or found.F[0] >= 0 else np.asarray(found.X, bool)


def _problem(scenario: Scenario, users: Users) -> Any:
    """Minimise the negative value of a population of decisions; more than B_max granted is infeasible."""
    from pymoo.core.problem import Problem

    b = np.arange(len(users) + 1)
    saving = users.step_latency_s[:, None] - edge_step_latency(scenario, np.maximum(b, 1))
    _, gain = best_split(scenario, users.alpha[:, None], saving)

    class Grants(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(users), n_obj=1, n_ieq_constr=1, xl=0, xu=1, vtype=bool)

        def _evaluate(self, x: Any, out: dict[str, Any], *_: Any, **__: Any) -> None:
            granted = np.asarray(x, bool)
            out["F"] = -_values(scenario, gain, granted)
            out["G"] = granted.sum(axis=1) - scenario.max_batch

    return Grants()

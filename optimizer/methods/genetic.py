"""The paper's heuristic peer, section 6.2: a genetic algorithm over who is granted, the split optimised inside.

The paper does not say how its algorithm finds the split. `genetic_joint` is the other reading: two genes for each
user, whether it is granted and its split, which the 2 I in the complexity O(2 P M I) of the paper's Table 1 suggests.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..model.qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from ..model.split import best_split, split_gain, split_granted
from .counts import cells_by_size

POPULATION, GENERATIONS = 100, 200
"""The paper's P and M."""
MATINGS = 10
"""Attempts in each generation to breed plans that the population does not have yet: a small cell has few plans."""


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
        users: users of one or more cells.
        population: number of plans in a generation, P.
        generations: number of generations, M.
        seed: seed of the random numbers; every cell starts from it.
    """
    return granted_by_cell(scenario, users, lambda own: evolve_grants(scenario, own, population, generations, seed))


def genetic_joint(
    scenario: Scenario,
    users: Users,
    population: int = POPULATION,
    generations: int = GENERATIONS,
    seed: int = 0,
) -> Plan:
    """The same with two genes for each user, whether it is granted and its local steps; arguments as in `genetic`."""
    local_steps = np.full(len(users), scenario.total_steps)
    for places in cells_by_size(users.cell):
        for own in places:
            local_steps[own] = _joint_cell(scenario, users.take(own), population, generations, seed)
    return Plan(local_steps < scenario.total_steps, local_steps)


def granted_by_cell(scenario: Scenario, users: Users, grant: Callable[[Users], Bools]) -> Plan:
    """The plan of a function that says who is granted in one cell; every split is the best."""
    granted = np.zeros(len(users), bool)
    for places in cells_by_size(users.cell):
        for own in places:
            granted[own] = grant(users.take(own))
    return split_granted(scenario, users, granted)


def gains_by_count(scenario: Scenario, users: Users) -> Floats:
    """u_i(b): every user's gain with its best split where 0, 1, ... users are granted; shape (users + 1, users)."""
    batch = np.maximum(np.arange(len(users) + 1), 1)[:, None]
    return best_split(scenario, users.alpha, users.step_latency_s - edge_step_latency(scenario, batch))[1]


def decision_values(scenario: Scenario, gain: Floats, granted: Bools) -> Floats:
    """Gains over all local of decisions, shape (plans,).

    Args:
        scenario: the system.
        gain: result of `gains_by_count`.
        granted: who is granted, shape (plans, users).
    """
    b = granted.sum(axis=1)
    value: Floats = (gain[b] * granted).sum(axis=1) - b * transmit_time(scenario, b)
    return value


def evolve_grants(
    scenario: Scenario, users: Users, population: int, generations: int, seed: int, **further: Any
) -> Bools:
    """Who is granted in the best decision for one cell; nobody where none is better than all local.

    Args:
        scenario: the system.
        users: users of the cell.
        population: number of plans in a generation, P.
        generations: number of generations, M.
        seed: seed of the random numbers.
        further: arguments of pymoo's algorithm, such as a repair.
    """
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.bitflip import BitflipMutation
    from pymoo.operators.sampling.rnd import BinaryRandomSampling

    operators = BinaryRandomSampling(), TwoPointCrossover(), BitflipMutation()
    best = evolve(_problem(scenario, users), operators, population, generations, seed, **further)
    return np.zeros(len(users), bool) if best is None else np.asarray(best, bool)


def evolve(
    problem: Any, operators: tuple[Any, ...], population: int, generations: int, seed: int, **further: Any
) -> Any:
    """The best decision of all generations; None where none is better than all local.

    Args:
        problem: result of `maximise`.
        operators: sampling, crossover and mutation.
        population: number of plans in a generation.
        generations: number of generations.
        seed: seed of the random numbers.
        further: arguments of pymoo's algorithm.
    """
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.optimize import minimize

    sampling, crossover, mutation = operators
    algorithm = GA(pop_size=population, sampling=sampling, crossover=crossover, mutation=mutation, **further)
    algorithm.mating.n_max_iterations = MATINGS
    result = minimize(problem, algorithm, ("n_gen", generations), seed=seed)
    return None if result.X is None or result.F[0] >= 0 else result.X


def _problem(scenario: Scenario, users: Users) -> Any:
    """The problem in pymoo's terms: a gene for each user's grant, to minimise the negative gain."""
    gain = gains_by_count(scenario, users)

    def value(x: Any) -> tuple[Floats, Ints]:
        granted = np.asarray(x, bool)
        return decision_values(scenario, gain, granted), granted.sum(axis=1)

    one = np.ones(len(users), np.int64)
    return maximise(value, scenario.max_batch, 0 * one, one, bool)


def _joint_cell(scenario: Scenario, users: Users, population: int, generations: int, seed: int) -> Ints:
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    whole = RoundingRepair()
    operators = IntegerRandomSampling(), SBX(repair=whole), PM(repair=whole)
    best = evolve(_joint_problem(scenario, users), operators, population, generations, seed)
    return np.full(len(users), scenario.total_steps) if best is None else _local_steps(scenario, best)


def _local_steps(scenario: Scenario, genes: Any) -> Ints:
    """Local steps of every user, N where denied, from genes of shape (..., 2 users): grants first, then splits."""
    granted, n = np.split(np.asarray(genes, np.int64), 2, axis=-1)
    return np.where(granted > 0, n, scenario.total_steps)


def _joint_problem(scenario: Scenario, users: Users) -> Any:
    """The same with a gene for each user's split as well."""

    def value(x: Any) -> tuple[Floats, Ints]:
        n = _local_steps(scenario, x)
        b = (n < scenario.total_steps).sum(axis=1)
        saving = users.step_latency_s - edge_step_latency(scenario, np.maximum(b, 1))[:, None]
        gain = split_gain(scenario, users.alpha, saving, n).sum(axis=1)
        return gain - b * transmit_time(scenario, b), b

    ends = (0, scenario.min_local_steps), (1, scenario.total_steps)
    low, high = (np.repeat(end, len(users)) for end in ends)
    return maximise(value, scenario.max_batch, low, high, int)


def maximise(value: Callable[[Any], tuple[Floats, Ints]], most: int, low: Ints, high: Ints, kind: type) -> Any:
    """A problem in pymoo's terms.

    Args:
        value: function of a population's genes that gives gains and counts, both of shape (plans,).
        most: largest count that is feasible.
        low: least value of every gene.
        high: largest value of every gene.
        kind: type of the genes.
    """
    from pymoo.core.problem import Problem

    class Grants(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=low.size, n_obj=1, n_ieq_constr=1, xl=low, xu=high, vtype=kind)

        def _evaluate(self, x: Any, out: dict[str, Any], *_: Any, **__: Any) -> None:
            worth, counted = value(x)
            out["F"], out["G"] = -worth, counted - most

    return Grants()

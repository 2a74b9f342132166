"""A general-purpose peer: pymoo's genetic algorithm with one gene for each user, its server or none."""

import numpy as np

from ....common.arrays import Bools, Floats, Ints
from ...model.qoe import Scenario, Users
from ...model.servers import NOWHERE, Fleet, FleetPlan
from ..genetic import GENERATIONS, POPULATION, evolve, maximise
from .table import States, Table, all_at_home, by_cell, gain_table, split_assigned

AT_HOME = 0.5
"""Share of the users who are local in the first generation: where nearly all are granted, no plan is feasible."""


def genetic_assign(
    scenario: Scenario, users: Users, population: int = POPULATION, generations: int = GENERATIONS, seed: int = 0
) -> FleetPlan:
    """The best assignment that the genetic algorithm finds; models and splits are optimised inside.

    Args:
        scenario: one server or several.
        users: users of one or more cells.
        population: number of plans in a generation.
        generations: number of generations.
        seed: seed of the random numbers; every cell starts from it.
    """
    return by_cell(scenario, users, lambda fleet, own: _evolved(fleet, own, population, generations, seed))


def _evolved(fleet: Fleet, users: Users, population: int, generations: int, seed: int) -> FleetPlan:
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair

    table, servers = gain_table(fleet, users), len(fleet.servers)
    rng = np.random.default_rng(seed)
    first = rng.integers(servers, size=(population, len(users)))
    first[rng.random(first.shape) < AT_HOME] = servers
    zero = np.zeros(len(users), np.int64)
    problem = maximise(lambda genes: values(table, np.asarray(genes, np.int64)), 0, zero, zero + servers, int)
    operators = first, TwoPointCrossover(), PM(repair=RoundingRepair())
    best = evolve(problem, operators, population, generations, seed)
    if best is None:
        return all_at_home(fleet, users)
    server = _at_places(table, np.asarray(best, np.int64)[None])[0]
    placement = [_best_sets(states, (server == m)[None])[1][0] for m, states in enumerate(table)]
    return split_assigned(fleet, users, table, np.where(server == servers, NOWHERE, server), np.array(placement))


def values(table: Table, genes: Ints) -> tuple[Floats, Ints]:
    """What assignments gain over all local, and by how many users they exceed what servers grant; both (plans,)."""
    genes = _at_places(table, genes)
    gains = [_best_sets(states, genes == m)[0] for m, states in enumerate(table)]
    most = [int(states.count.max(initial=0)) for states in table]
    excess = sum(np.maximum((genes == m).sum(axis=1) - count, 0) for m, count in enumerate(most))
    return np.sum(gains, axis=0), np.asarray(excess)


def _at_places(table: Table, genes: Ints) -> Ints:
    """The genes with everybody local who cannot reach its server."""
    local = len(table)
    reached = np.array([np.isfinite(states.gain[-1]) for states in table] + [np.ones(genes.shape[1], bool)])
    return np.where(reached[genes, np.arange(genes.shape[1])], genes, local)


def _best_sets(states: States, here: Bools) -> tuple[Floats, Ints]:
    """The gain of a server's users with the best set of models, and the number of that set; both (plans,)."""
    count = here.sum(axis=1)
    gains = [np.where(count == 0, 0.0, -np.inf)]
    for placement in range(len(states.placements)):
        state = np.array([max(states.at(placement, b), 0) for b in count])
        rows = np.where(here, states.gain[state], 0.0).sum(axis=1)
        gains.append(np.where((state > 0) | (count == 0), rows, -np.inf))
    best = np.argmax(gains, axis=0)
    return np.maximum(np.max(gains, axis=0), -1e12), np.maximum(best - 1, 0)

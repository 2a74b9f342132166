"""A general-purpose peer for the GQAP: a memetic algorithm, which is a genetic one whose every plan climbs first.

The paper's [21] finds memetic searches to be the strongest heuristics for such problems. Ours is pymoo's genetic
algorithm with the genes of `genetic`, who is granted, and a steepest ascent over the two moves that these searches
have: a shift grants or denies one user, a swap changes a granted user for a denied one.
"""

from typing import Any

import numpy as np

from ...common.arrays import Bools, Floats
from ..model.qoe import Plan, Scenario, Users
from .genetic import decision_values, evolve_grants, gains_by_count, granted_by_cell

POPULATION, GENERATIONS = 20, 20
"""Far fewer plans than the genetic algorithm's: the ascent does most of the work."""


def memetic(scenario: Scenario, users: Users, seed: int = 0) -> Plan:
    """The best plan that the memetic algorithm finds, cell by cell.

    Args:
        scenario: the system.
        users: users of one or more cells.
        seed: seed of the random numbers; every cell starts from it.
    """

    def grant(own: Users) -> Bools:
        return evolve_grants(scenario, own, POPULATION, GENERATIONS, seed, repair=_climbing(scenario, own))

    return granted_by_cell(scenario, users, grant)


def _climbing(scenario: Scenario, users: Users) -> Any:
    """The ascent as a repair of pymoo's, which every new decision goes through."""
    from pymoo.core.repair import Repair

    gain = gains_by_count(scenario, users)

    class Climbing(Repair):  # type: ignore[misc]
        def _do(self, _: Any, decisions: Any, **__: Any) -> Any:
            return climb(scenario, gain, np.asarray(decisions, bool))

    return Climbing()


def climb(scenario: Scenario, gain: Floats, granted: Bools) -> Bools:
    """Decisions that no shift and no swap improves, from these; of too many granted users the most gaining ones stay.

    Args:
        scenario: the system.
        gain: gain of every user where 0, 1, ... users are granted, shape (users + 1, users).
        granted: who is granted, shape (decisions, users).
    """
    granted = _within_limit(scenario, gain, granted)
    each, value = np.arange(len(granted)), decision_values(scenario, gain, granted)
    while True:
        moves = np.array(list(_moves(gain, granted)))
        values = np.array([decision_values(scenario, gain, move) for move in moves])
        values[moves.sum(axis=2) > scenario.max_batch] = -np.inf
        chosen = values.argmax(axis=0)
        better = values[chosen, each] > value + 1e-12 * (1 + np.abs(value))
        if not better.any():
            return granted
        granted = np.where(better[:, None], moves[chosen, each], granted)
        value = np.where(better, values[chosen, each], value)


def _within_limit(scenario: Scenario, gain: Floats, granted: Bools) -> Bools:
    """The same decisions with B_max users at most, those who gain the most at this batch."""
    most = min(scenario.max_batch, granted.shape[1])
    ranking = np.argsort(-np.where(granted, gain[most], -np.inf), axis=1, kind="stable")
    kept = np.zeros_like(granted)
    np.put_along_axis(kept, ranking[:, :most], True, axis=1)
    return granted & kept


def _moves(gain: Floats, granted: Bools) -> Any:
    """The best shift to granted, the best shift to denied and the best swap of every decision, where there is one."""
    each, b = np.arange(len(granted)), granted.sum(axis=1)
    for number, grants, denies in ((b + 1, True, False), (b - 1, False, True), (b, True, True)):
        move, own = granted.copy(), gain[np.clip(number, 0, granted.shape[1])]
        if grants:
            move[each, np.where(granted, -np.inf, own).argmax(axis=1)] = True
        if denies:
            move[each, np.where(granted, own, np.inf).argmin(axis=1)] = False
        yield move

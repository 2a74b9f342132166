"""The exact optimum of (P1) by count decomposition, and the share of it that a plan captures.

`counts` says what granting exactly b users is worth; the optimum is the best b in 0..B_max, at a cost of
O(I B_max). Large cells go through `screening`, which rates few of their users.
Ties: the smaller b (local before offloaded), then file order, then the larger n.
"""

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..model.qoe import Plan, Scenario, Users
from ..model.terms import FREE, Prices, Terms
from .counts import Group, best_count, cells_by_size, decide, largest_count
from .screening import screened

SCREEN_FROM = 512
"""Number of users in a cell from which screening pays."""

CHUNK = 1 << 14
"""Largest number of ratings of small cells at a time, so that temporary arrays stay in the processor's cache."""


def optimum(scenario: Scenario, users: Users, screen: bool = True, prices: Prices = FREE) -> Plan:
    """The plan that maximises (P1) in every cell, less the prices.

    Args:
        scenario: the system, with the load of its edge.
        users: users of one or more cells, each of which is planned on its own.
        screen: whether large cells are screened; False rates every user at every batch.
        prices: charges for what a decision costs others.
    """
    terms = Terms(scenario, prices)
    granted = np.zeros(len(users), bool)
    local_steps = np.full(len(users), scenario.total_steps)
    for places in cells_by_size(users.cell):
        group = Group(_gather(users.step_latency_s, places), _gather(users.alpha, places))
        if screen and group.latency.shape[1] >= SCREEN_FROM:
            for row, latency, alpha in zip(places, group.latency, group.alpha, strict=True):
                chosen, n = screened(terms, Group(latency[None], alpha[None]), row)
                granted[chosen], local_steps[chosen] = True, n
        else:
            granted[places], local_steps[places] = _rated(terms, group)
    return Plan(granted, local_steps)


def best_decision(terms: Terms, group: Group) -> tuple[Bools, Ints]:
    """The optimum under these terms of every cell of a group; (granted, local steps), both (cells, users)."""
    counts = np.arange(1, largest_count(terms, group) + 1)
    return decide(terms, group, best_count(terms, group, counts))


def captured_share(value: Floats, all_local_value: Floats, optimum_value: Floats) -> Floats:
    """(value - all-local) / (optimum - all-local), or 1 where offloading cannot gain more than 1e-9 s; any shape."""
    possible = np.asarray(optimum_value) - all_local_value
    hopeless = possible <= 1e-9
    return np.where(hopeless, 1.0, (value - all_local_value) / np.where(hopeless, 1.0, possible))


def _rated(terms: Terms, group: Group) -> tuple[Bools, Ints]:
    """The optimum of every cell of a group; (granted, local steps), both (cells, users)."""
    counts = np.arange(1, largest_count(terms, group) + 1)
    step = max(1, CHUNK // (group.latency.shape[1] * max(1, counts.size)))
    starts = range(0, group.latency.shape[0], step)
    parts = [Group(group.latency[s : s + step], group.alpha[s : s + step]) for s in starts]
    decisions = [decide(terms, part, best_count(terms, part, counts)) for part in parts]
    granted, local_steps = zip(*decisions, strict=True)
    return np.concatenate(granted), np.concatenate(local_steps)


def _gather(values: Floats, places: Ints) -> Floats:
    """The values at these places, not copied where one cell holds them all."""
    return values[None] if places.shape == (1, values.size) else values[places]

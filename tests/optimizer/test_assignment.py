"""Laws of the methods for several servers; oracles: brute force, the plain formula, the optimum of one server."""

from functools import cache

import numpy as np
import pytest
from fleets import brute_force_gain, plan_gain, random_fleet, random_fleet_users

from edgesplit.optimizer.methods.assignment.dual import proof
from edgesplit.optimizer.methods.assignment.search import assign
from edgesplit.optimizer.methods.assignment.table import gain_table
from edgesplit.optimizer.model.qoe import all_local
from edgesplit.optimizer.model.servers import constraints, evaluate

TINY = range(300)


@cache
def tiny(seed):
    """Two or three servers, up to seven users, and the most that any plan gains."""
    rng = np.random.default_rng([22, seed])
    servers = int(rng.integers(2, 4))
    fleet = random_fleet(rng, servers, int(rng.integers(1, 4)))
    users = random_fleet_users(rng, int(rng.integers(1, 8)), servers)
    return fleet, users, brute_force_gain(fleet, users)


def gain(fleet, users, plan):
    """The rise of the evaluator's objective over all local, seconds."""
    return float((evaluate(fleet, users, plan).qoe - evaluate(fleet, users, all_local(fleet, users)).qoe).sum())


def assert_possible(fleet, users, plan):
    for name, kept in constraints(fleet, users, plan).items():
        assert kept.all(), name
    assert gain(fleet, users, plan) == pytest.approx(plan_gain(fleet, users, plan), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", TINY)
def test_assign_is_never_above_brute_force_and_its_bound_never_below(seed):
    fleet, users, best = tiny(seed)
    plan = assign(fleet, users)
    assert_possible(fleet, users, plan)
    tolerance = 1e-9 * (1 + best)
    assert gain(fleet, users, plan) <= best + tolerance
    assert plan.bounds[0] >= best - tolerance


@pytest.mark.parametrize("seed", TINY)
def test_any_prices_prove_a_bound(seed):
    fleet, users, best = tiny(seed)
    table, rng = gain_table(fleet, users), np.random.default_rng(seed)
    for scale in (0.0, 0.1, 1.0, 10.0):
        prices = rng.exponential(scale, len(users)) * (rng.random(len(users)) < 0.7)
        assert proof(table, prices).bound >= best - 1e-9 * (1 + best)

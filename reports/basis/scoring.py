"""What plans of random cases are worth, as rows of tables."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ...optimizer.methods.exact import captured_share
from ...optimizer.methods.registry import BUILT_IN, DEFAULT_METHOD, Method, find_method
from ...optimizer.methods.scoring import Score, score, yardstick
from ...optimizer.model.qoe import Scenario, Users
from ...optimizer.planner import Outcome, compare
from .policies import networks
from .setup import Choices, Setup
from .unserved import own_plan

Row = dict[str, Any]


def plan_row(plan_score: Score) -> Row:
    """The worth of a plan of one cell: in all, per user, and as a share of what offloading can gain."""
    totals, users = plan_score.totals, len(plan_score.cell)
    value, local, best = totals.objective, totals.all_local_objective, totals.optimum_objective
    return {
        "objective": value,
        "qoe_per_user": value / users,
        "captured_share": float(captured_share(np.array(value), np.array(local), np.array(best))),
        "granted": totals.granted,
        "mean_pai": totals.mean_pai,
        "mean_latency_s": totals.mean_latency_s,
    }


def optimum_row(scenario: Scenario, users: Users) -> Row:
    """The worth of the optimum."""
    against = yardstick(scenario, users)
    return plan_row(score(scenario, users, against.best, against))


def proposed_method(choices: Choices) -> str | Method:
    """The proposed method: a built-in one by its name, or an own one whose refusals are planned exactly."""
    if choices.proposed in BUILT_IN:
        return choices.proposed
    return partial(own_plan, name=choices.proposed, method=find_method(choices.proposed))


def other_networks(choices: Choices, gpus: int) -> dict[str, Method]:
    """What stands beside DRL-convex where that is the proposed method: its other networks, by their names in tables."""
    return networks(choices.policy, gpus) if choices.proposed == DEFAULT_METHOD else {}


def outcomes(setup: Setup, scenario: Scenario, users: Users, rivals: Mapping[str, str | Method]) -> list[Outcome]:
    """The plans of the proposed method, which comes first, and of its rivals.

    Args:
        setup: numbers of the reproduction.
        scenario: the system.
        users: users of one cell.
        rivals: names of known methods, or functions, by the name that tables show.

    Raises:
        InputError: for an infeasible plan, naming the method, the user, the value and the bound.
    """
    choices = setup.choices
    methods = {choices.proposed: proposed_method(choices)} | dict(rivals)
    options = choices.options_of(*(method for method in methods.values() if isinstance(method, str)))
    return compare(scenario, users, methods, **options)


def compared(setup: Setup, scenario: Scenario, users: Users, rivals: Mapping[str, str | Method]) -> Iterator[Row]:
    """A row for the proposed method, the optimum, DRL-convex's other networks where that is proposed, and each rival.

    Arguments and errors as in `outcomes`.
    """
    others = {"exact": "exact", **other_networks(setup.choices, scenario.gpus), **rivals}
    for outcome in outcomes(setup, scenario, users, others):
        yield {"method": outcome.method, **plan_row(outcome.score), "note": outcome.plan.note}

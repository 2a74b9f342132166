"""Beyond the paper: what planning with a wrong parameter costs."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...common.errors import counted
from ...optimizer.methods.exact import optimum
from ...optimizer.methods.scoring import score, yardstick
from ...optimizer.model.qoe import Scenario, Users
from ..basis.checks import FINDING, Check
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.intervals import FROM_FILE, NOT_IN_FILE
from ..basis.look import boxes, framed, legend_below, line_looks
from ..basis.scoring import Row, plan_row
from ..basis.setup import ROUND_USERS, Setup

OWN_LATENCY = "step_latency_s"
"""The users' own L_i(1), in the table's column `parameter`."""
PARAMETERS = {"steepness": "a_F", "midpoint": "b_F", "slope_s": "k_e", "intercept_s": "h_e", OWN_LATENCY: "L_i"}
"""The paper's letter of each parameter."""


def rows_of(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """One case: planned with one parameter at an end of its interval, what is lost where the right one holds."""
    drawn = setup.case(users, number)
    scenario, own = drawn.scenario, drawn.users
    against = yardstick(scenario, own)
    best = plan_row(score(scenario, own, against.best, against))
    for name in PARAMETERS:
        for end, word in enumerate(("low", "high")):
            plan = optimum(*at_end(setup, scenario, own, name, end))
            worth = plan_row(score(scenario, own, plan, against))
            yield {
                "parameter": name, "end": word, "interval": interval_kind(setup, name), "users": users,
                "case": number, "lost_s": best["objective"] - worth["objective"],
                "lost_share": best["captured_share"] - worth["captured_share"],
                "more_granted": worth["granted"] - best["granted"],
            }  # fmt: skip


def at_end(setup: Setup, scenario: Scenario, users: Users, name: str, end: int) -> tuple[Scenario, Users]:
    """The same round with one of `PARAMETERS` at the low (0) or high (1) end of its interval; alpha stays."""
    if name == OWN_LATENCY:
        ends = dict(zip(setup.step_latency_s.values(), setup.device_intervals.values(), strict=True))
        own = np.array([ends[latency][end] for latency in users.step_latency_s.tolist()])
        return scenario, replace(users, step_latency_s=own)
    low, high, _ = setup.intervals[name]
    return moved(scenario, name, (low, high)[end]), users


def moved(scenario: Scenario, name: str, value: float) -> Scenario:
    """The scenario with another a_F, b_F, k_e or h_e."""
    if name in ("steepness", "midpoint"):
        return replace(scenario, pai=replace(scenario.pai, **{name: value}))
    return replace(scenario, edge=replace(scenario.edge, **{name: max(value, 0.0)}))


def interval_kind(setup: Setup, name: str) -> str:
    """Whether files gave the ends of a parameter's interval, or they are assumed."""
    if name != OWN_LATENCY:
        return setup.intervals[name].source
    kinds = [interval.source for interval in setup.device_intervals.values()]
    known = kinds.count(FROM_FILE)
    if known in (0, len(kinds)):
        return kinds[0]
    return f"{FROM_FILE} of {counted(known, 'device')}, else {NOT_IN_FILE}"


def draw(table: pd.DataFrame) -> Any:
    """What is lost by planning with a parameter at either end of its interval."""
    names = [f"${letter}$" for letter in PARAMETERS.values()]
    shown = table.assign(lost=100 * table["lost_share"], place=table["parameter"].map(list(PARAMETERS).index))
    looks = dict(zip(("low", "high"), line_looks(), strict=False))
    with framed() as (figure, axis):
        boxes(axis, shown, "place", "lost", "end", looks)
        axis.set(xlabel="planned with this parameter at an end of its interval", ylabel="lost share of the gain, %")
        axis.set_xticks(range(len(names)), names)
        keys = [axis.plot([], [], label=f"{end} end", **look)[0] for end, look in looks.items()]
    return legend_below(figure, handles=keys)


def judge(table: pd.DataFrame) -> list[Check]:
    """Which parameter matters most."""
    share = table.groupby("parameter")["lost_share"]
    mean, tail = share.mean(), share.quantile(0.95)
    kinds = table.groupby("parameter")["interval"].first()
    parts = [
        f"{PARAMETERS[str(p)]} {mean[p]:.2%} (95th percentile {tail[p]:.2%}; {kinds[p]})"
        for p in mean.sort_values().index[::-1]
    ]
    return [Check("A parameter at an end of its interval.", FINDING, "lost share of the gain: " + ", ".join(parts))]


SENSITIVITY = Experiment(
    name="sensitivity", points=lambda _: (ROUND_USERS,), cases=lambda size: size.cases, rows=rows_of
)
BEYOND_SENSITIVITY = Exhibit(
    name="beyond_sensitivity",
    title="Beyond: what a wrong parameter costs",
    experiment=SENSITIVITY,
    table=rows_as_they_are,
    draw=draw,
    judge=judge,
)

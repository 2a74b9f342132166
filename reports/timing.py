"""Table 1: planning time against users, measured, beside the complexities that the paper states."""

import time
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from ..optimizer.agent.decide import out_of_range
from ..optimizer.methods.ilp import PROVEN
from ..optimizer.methods.registry import BUILT_IN, Method, find_method
from ..optimizer.model.qoe import Plan, Scenario, Users
from .experiments import Row, Unit, score
from .setup import Setup, policy

STATED = {
    "drl": ("DRL-convex hybrid", "O(I)"),
    "genetic": ("heuristic (genetic), split inside", "-"),
    "genetic-joint": ("heuristic (genetic), split a gene", "O(2 P M I)"),
    "ilp-fixed": ("branch & bound, split fixed", "O(2^(2 I))"),
    "ilp-joint": ("branch & bound, split joint", "-"),
    "exact": ("exact optimum (ours)", "O(I B_max)"),
}
"""What the paper's Table 1 calls and says of each; those with "-" and the last are not in it."""
MOST_USERS = {"ilp-joint": 200}
"""Where a method is not allowed to go on: its program grows with users x splits x batches."""
REPEATS_S = 0.2
"""A method is repeated for at least so long, and once."""


def units(setup: Setup) -> list[Unit]:
    """One per number of users; measured one after another, with nothing else at work."""
    return [Unit("timing", count, 0) for count in setup.size.timed_users]


def measure(setup: Setup, unit: Unit, names: Iterable[str] = STATED) -> Iterator[Row]:
    """Every method that may, on one case; seconds NaN where the policy cannot decide it."""
    case = setup.case(unit.point, 0)
    _warm_up(setup)
    reason = out_of_range(policy(setup.policy), case.scenario, case.users)
    for name in names:
        if unit.point > MOST_USERS.get(name, unit.point):
            continue
        if name == "drl" and reason is not None:
            yield {"method": name, "users": unit.point, "seconds": float("nan"), "note": f"not measured: {reason}"}
            continue
        plan, seconds = _timed(find_method(name, setup.options), case.scenario, case.users)
        share = score(case.scenario, case.users, plan)["captured_share"]
        yield {"method": name, "users": unit.point, "seconds": seconds, "captured_share": share, "note": plan.note}


def _warm_up(setup: Setup) -> None:
    """Let every method import what it needs, which is not planning."""
    case = setup.case(2, 0)
    for name in BUILT_IN:
        find_method(name, setup.options | {"population": 4, "generations": 1})(case.scenario, case.users)


def table1(measured: pd.DataFrame) -> pd.DataFrame:
    """The measured times with names, stated complexities, the ratio to the exact optimum, and the slope on log axes.

    Times that a limit has cut are in the table, but in no slope.
    """
    exact = measured[measured["method"] == "exact"].set_index("users")["seconds"]
    rows = measured.copy()
    rows["ratio_to_exact"] = rows["seconds"] / rows["users"].map(exact)
    whole = rows[~cut(rows) & rows["seconds"].notna()]
    slopes = {str(name): log_slope(part["users"], part["seconds"]) for name, part in whole.groupby("method")}
    rows["slope"], rows["cut"] = rows["method"].map(slopes), cut(rows)
    for number, column in enumerate(("name", "stated")):
        rows[column] = [STATED.get(name, (name, "-"))[number] for name in rows["method"]]
    columns = [
        "method",
        "name",
        "stated",
        "users",
        "seconds",
        "ratio_to_exact",
        "captured_share",
        "slope",
        "cut",
        "note",
    ]
    return rows.sort_values("users", kind="stable")[columns].reset_index(drop=True)


def cut(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a solver's time is that of a limit, its plan not being proven."""
    return rows["method"].str.startswith("ilp") & ~rows["note"].fillna("").str.startswith(PROVEN)


def log_slope(users: "pd.Series[int]", seconds: "pd.Series[float]") -> float:
    """p of seconds ~ users^p, by least squares on log axes, from 20 users on where that leaves two points."""
    large = users >= 20
    x, y = (users[large], seconds[large]) if large.sum() > 1 else (users, seconds)
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else float("nan")


def _timed(method: Method, scenario: Scenario, users: Users) -> tuple[Plan, float]:
    """The plan, and the least wall time: what else runs on the machine is not planning."""
    times: list[float] = []
    while not times or sum(times) < REPEATS_S:
        start = time.perf_counter()
        plan = method(scenario, users)
        times.append(time.perf_counter() - start)
    return plan, min(times)

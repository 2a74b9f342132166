"""Table 1: planning time against users, measured, beside the complexities that the paper states."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...optimizer.methods.ilp import PROVEN
from ...optimizer.methods.registry import DEFAULT_METHOD, Method, find_method
from ...optimizer.model.qoe import Plan, Scenario, Users
from ...optimizer.planner import compare
from ..basis.checks import FINDING, Check, count_proven, judged
from ..basis.definitions import Exhibit, Experiment, PeopleTable
from ..basis.look import framed, legend_below, method_look, methods_in, plain_ticks
from ..basis.scoring import Row, plan_row, proposed_method
from ..basis.setup import Choices, Setup
from ..basis.unserved import planned_exactly, reason_in

STATED = {
    "drl": ("DRL-convex hybrid", "O(I)"),
    "genetic": ("heuristic (genetic), split inside", "-"),
    "genetic-joint": ("heuristic (genetic), split a gene", "O(2 P M I)"),
    "ilp-fixed": ("branch & bound, split fixed", "O(2^(2 I))"),
    "ilp-joint": ("branch & bound, split joint", "-"),
    "exact": ("exact optimum (ours)", "O(I B_max)"),
}
"""Name and complexity of each method in the paper's Table 1; those with "-" and the last are not in it."""
PROGRAMS = ("ilp-fixed", "ilp-joint")
"""Methods whose time a limit may cut."""
MOST_USERS = {"ilp-joint": 200}
"""Users up to which a method is measured: this program grows with users x splits x batches."""
REPEATS_S = 0.2
"""Seconds for which a method is repeated; it runs at least once."""
NO_TIME = "not measured"
"""How the note begins where the proposed method could not plan."""
LARGE = 20
"""Users from which on a slope is taken, where that leaves two points."""


def rows_of(setup: Setup, users: int, _: int) -> Iterator[Row]:
    """The proposed method and the methods of the paper's table, on one case with this number of users."""
    proposed = setup.choices.proposed
    peers = (name for name in STATED if name not in (proposed, DEFAULT_METHOD))
    return measured(setup, users, [proposed, *peers])


def measured(setup: Setup, users: int, names: list[str]) -> Iterator[Row]:
    """The planning time of methods on one case; seconds NaN where the proposed method cannot plan it.

    Args:
        setup: numbers of the reproduction.
        users: number of users in the case.
        names: names of methods, or package.module:function.
    """
    case = setup.case(users, 0)
    _warm_up(setup, names)
    for name in names:
        if users > MOST_USERS.get(name, users):
            continue
        watch = Stopwatch(_ready(setup.choices, name))
        (outcome,) = compare(case.scenario, case.users, {name: watch})
        note = outcome.plan.note
        if planned_exactly(note):  # the time is that of the exact optimum
            yield {"method": name, "users": users, "seconds": float("nan"), "note": f"{NO_TIME}: {reason_in(note)}"}
            continue
        share = plan_row(outcome.score)["captured_share"]
        facts = {"seconds": watch.seconds, "captured_share": share, "note": note}
        yield {"method": name, "users": users, **facts}


def _warm_up(setup: Setup, names: list[str]) -> None:
    """Let every method import and cache what it needs, which is not planning."""
    case = setup.case(2, 0)
    few = replace(setup.choices, population=4, generations=1)
    for name in names:
        compare(case.scenario, case.users, {name: _ready(few, name)})


def _ready(choices: Choices, name: str) -> Method:
    """A method as it is timed, with its settings."""
    method = proposed_method(choices) if name == choices.proposed else name
    return find_method(method, choices.options_of(method)) if isinstance(method, str) else method


class Stopwatch:
    """A method that plans repeatedly and notes its shortest time, which other programs have disturbed least.

    Attributes:
        method: method that plans.
        seconds: shortest wall time of a plan; infinite before the first one.
    """

    def __init__(self, method: Method) -> None:
        self.method, self.seconds = method, float("inf")

    def __call__(self, scenario: Scenario, users: Users, /) -> Plan:
        """Plan at least once and for `REPEATS_S`."""
        total = 0.0
        while True:
            start = time.perf_counter()
            plan = self.method(scenario, users)
            seconds = time.perf_counter() - start
            total, self.seconds = total + seconds, min(self.seconds, seconds)
            if total >= REPEATS_S:
                return plan


def time_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The measured times with names, stated complexities, the ratio to the exact optimum, and the slope on log axes.

    Times that a limit has cut are in the table, but in no slope.
    """
    exact = rows[rows["method"] == "exact"].set_index("users")["seconds"]
    table = rows.assign(ratio_to_exact=rows["seconds"] / rows["users"].map(exact), cut=_cut(rows))
    whole = table[~table["cut"] & table["seconds"].notna()]
    slopes = {str(name): log_slope(part["users"], part["seconds"]) for name, part in whole.groupby("method")}
    table["slope"] = table["method"].map(slopes)
    for number, column in enumerate(("name", "stated")):
        table[column] = [STATED.get(name, (name, "-"))[number] for name in table["method"]]
    columns = ["method", "name", "stated", "users", "seconds", "ratio_to_exact", "captured_share", "slope", "cut"]
    return table.sort_values("users", kind="stable")[[*columns, "note"]].reset_index(drop=True)


def _cut(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a solver's time is that of its limit, its plan not being proven."""
    return rows["method"].isin(PROGRAMS) & ~rows["note"].fillna("").str.startswith(PROVEN)


def log_slope(users: "pd.Series[int]", seconds: "pd.Series[float]") -> float:
    """p of seconds ~ users^p, by least squares on log axes, from `LARGE` users on where that leaves two points."""
    large = users >= LARGE
    x, y = (users[large], seconds[large]) if large.sum() > 1 else (users, seconds)
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else float("nan")


def draw(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> Any:
    """Planning time against users on log axes."""
    with framed(height=4.6) as (figure, axis):
        for name in methods_in(table, proposed):
            rows = table[(table["method"] == name) & table["seconds"].notna()]
            look = method_look(name, proposed)
            missing = ", not measured" if rows.empty else ""
            axis.plot(rows["users"], rows["seconds"], **look | {"label": look["label"] + missing})
        axis.set(xscale="log", yscale="log", xlabel="users of a round, I", ylabel="planning time, s")
        plain_ticks(axis.xaxis, sorted(table["users"].unique()))
    return legend_below(figure)


def judge(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> list[Check]:
    """Linear or better: the slope on log axes is at most 1.2. Exponential: a slope beyond 3.

    A time counts only beside the share that is captured in it.
    """
    words = "DRL-convex" if proposed == DEFAULT_METHOD else "The proposed method"
    return [
        _linear(f"{words} is linear in users.", table, proposed),
        _linear("The genetic algorithm is linear in users.", table, "genetic-joint"),
        _slower("The genetic algorithm is slower than the proposed method.", table, "genetic-joint", proposed),
        _exponential(table),
        _slower(
            "An exact solution is out of reach, the problem being NP-hard (Proposition 1).", table, "exact", proposed
        ),
    ]


def _linear(claim: str, table: pd.DataFrame, method: str) -> Check:
    """Whether a method's time grows about linearly; a finding where too few times are known."""
    power, words = _power(table, method)
    return Check(claim, FINDING if power is None else judged([power <= 1.2]), f"{words}, {_largest(table, method)}")


def _exponential(table: pd.DataFrame) -> Check:
    """Whether branch and bound is slower than a cube; a finding where too few times are known."""
    power, words = _power(table, "ilp-fixed")
    notes = table.loc[table["method"] == "ilp-fixed", "note"].fillna("")
    return Check(
        "Branch & bound takes exponential time, impractical for many users.",
        FINDING if power is None else judged([power > 3]),
        f"HiGHS takes {words}, {_largest(table, 'ilp-fixed')}; {count_proven(notes)}",
    )


def _power(table: pd.DataFrame, method: str) -> tuple[float | None, str]:
    """p of a method's time ~ I^p, None where too few times are known, and in words."""
    slope = float(table.loc[table["method"] == method, "slope"].iloc[0])
    return (slope, f"time ~ I^{slope:.2f}") if np.isfinite(slope) else (None, "too few times for a slope")


def _largest(table: pd.DataFrame, method: str) -> str:
    """Time and captured share at the most users that the method was measured for."""
    rows = table[table["method"] == method].sort_values("users")
    known = rows[rows["seconds"].notna()]
    if known.empty:
        return f"never measured ({_reason(rows)})"
    last = known.iloc[-1]
    missing = rows[rows["seconds"].isna()]
    beyond = f", not measured at {_at(missing)} ({_reason(missing)})" if len(missing) else ""
    return f"{duration(last['seconds'])} at {last['users']} users ({last['captured_share']:.2%} captured){beyond}"


def _reason(rows: pd.DataFrame) -> str:
    """Why a time is not known."""
    return str(rows["note"].iloc[0]).removeprefix(f"{NO_TIME}: ")


def _at(rows: pd.DataFrame) -> str:
    return ", ".join(map(str, rows["users"]))


def _slower(claim: str, table: pd.DataFrame, method: str, proposed: str) -> Check:
    """Whether a method is slower than the proposed one at the most users where both were measured."""
    evidence = f"{_largest(table, method)}; proposed {_largest(table, proposed)}"
    own, other = (table[table["method"] == name].set_index("users")["seconds"] for name in (proposed, method))
    behind = (other - own).dropna().sort_index()
    if behind.empty:
        return Check(claim, FINDING, evidence)
    return Check(claim, judged([bool(behind.iloc[-1] > 0)]), evidence)


def duration(seconds: float) -> str:
    """Seconds for people, with two figures."""
    if seconds < 1:
        return f"{1e3 * seconds:.2g} ms" if seconds < 0.0995 else f"{1e3 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def for_people(table: pd.DataFrame) -> PeopleTable:
    """A row for each method: for every number of users the time, and the share captured in it."""
    users = sorted(table["users"].unique())
    cells = {(row.method, row.users): _cell(row) for row in table.itertuples()}
    rows = [
        [
            str(part["name"].iloc[0]),
            str(part["stated"].iloc[0]),
            f"{slope:.2f}" if np.isfinite(slope := part["slope"].iloc[0]) else "-",
            *(cells.get((method, count), "-") for count in users),
        ]
        for method, part in table.groupby("method", sort=False)
    ]
    return PeopleTable(
        caption="Planning time, and the share of the possible gain that the plan captures: a time counts only "
        "beside it.",
        head=["method", "the paper", "time ~ I^p", *(f"{count:,} users" for count in users)],
        rows=rows,
    )


def _cell(row: Any) -> str:
    if np.isnan(row.seconds):
        return NO_TIME
    return f"{duration(row.seconds)}, {100 * row.captured_share:.4g} %" + (", time limit" if row.cut else "")


def remarks_on(table: pd.DataFrame, proposed: str) -> str:
    """For how many numbers of users the proposed method was not measured, and why."""
    own = table[table["method"] == proposed]
    missing = own[own["seconds"].isna()]
    if missing.empty:
        return ""
    return f"the proposed method is not measured at {_at(missing)} users, as it cannot plan these ({_reason(missing)})"


TIMING = Experiment(name="timing", points=lambda size: size.timed_users, cases=lambda _: 1, rows=rows_of, alone=True)


def table1(proposed: str) -> Exhibit:
    """Table 1 with this method as the proposed one."""
    return Exhibit(
        name="table1",
        title="Table 1: planning time against users",
        claims="O(I) for DRL-convex, O(2 P M I) for the genetic algorithm, O(2^(2 I)) for branch & bound.",
        experiment=TIMING,
        table=lambda material: time_table(material.rows),
        draw=partial(draw, proposed=proposed),
        judge=partial(judge, proposed=proposed),
        for_people=for_people,
        remarks=partial(remarks_on, proposed=proposed),
    )

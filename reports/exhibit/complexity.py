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
from ..basis.checks import FINDING, Check, judged, r2_of_line
from ..basis.definitions import Exhibit, Experiment, PeopleTable
from ..basis.look import framed, legend_below, method_look, methods_in, plain_ticks
from ..basis.policies import NETWORKS
from ..basis.scoring import Row, other_networks, plan_row, proposed_method
from ..basis.setup import Choices, Setup
from ..basis.unserved import planned_exactly, reason_in

STATED = {
    "drl": ("DRL-convex hybrid", "O(I)"),
    **{name: (f"DRL-convex hybrid, {label}", "-") for name, (label, _) in NETWORKS.items()},
    "genetic": ("heuristic (genetic), split inside", "-"),
    "genetic-joint": ("heuristic (genetic), split a gene", "O(2 P M I)"),
    "memetic": ("heuristic (memetic), split inside", "-"),
    "ilp-products": ("branch & bound, split fixed, standard linearisation", "O(2^(2 I))"),
    "ilp-rlt": ("branch & bound, split fixed, RLT level 1", "O(2^(2 I))"),
    "ilp-fixed": ("branch & bound, split fixed, our program", "-"),
    "ilp-joint": ("branch & bound, split joint, our program", "-"),
    "exact": ("exact optimum (ours)", "O(I B_max)"),
}
"""Name and complexity of each method in the paper's Table 1; those with "-" and the last are not in it."""
PAPERS_PROGRAMS = {"ilp-products": "standard linearisation", "ilp-rlt": "RLT level 1"}
"""Branch & bound as the paper cites it, in words; claims on it go by these two."""
OURS = "ilp-fixed"
"""The same plan from our own program."""
PROGRAMS = (*PAPERS_PROGRAMS, OURS, "ilp-joint")
"""Methods whose time a limit may cut."""
JOINT_USERS = 200
"""Users up to which the joint program is measured: it grows with users x splits x batches."""
MANY = 100
"""Users from which on there are many: the paper plans for 5 to 30."""
REPEATS_S = 0.2
"""Seconds for which a method is repeated; it runs at least once."""
NO_TIME = "not measured"
"""How the note begins where the proposed method could not plan."""
LARGE = 20
"""Users from which on a slope is taken, where that leaves three points."""


def rows_of(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """The proposed method and the methods of the paper's table, on one case with this number of users."""
    proposed = setup.choices.proposed
    networks = other_networks(setup.choices, setup.scenario.gpus)
    most = dict.fromkeys(PAPERS_PROGRAMS, setup.size.program_users) | {"ilp-joint": JOINT_USERS}
    peers = (name for name in STATED if name in networks or name not in (proposed, DEFAULT_METHOD, *NETWORKS))
    return measured(setup, users, number, [proposed, *(name for name in peers if users <= most.get(name, users))])


def measured(setup: Setup, users: int, number: int, names: list[str]) -> Iterator[Row]:
    """The planning time of methods on one case; seconds NaN where a policy or the proposed method cannot plan it.

    Args:
        setup: numbers of the reproduction.
        users: number of users in the case.
        number: number of the case.
        names: names of methods, or package.module:function.
    """
    case = setup.case(users, number)
    _warm_up(setup, names)
    for name in names:
        watch = Stopwatch(_ready(setup.choices, setup.scenario.gpus, name))
        (outcome,) = compare(case.scenario, case.users, {name: watch})
        facts, note = {"method": name, "users": users, "case": number}, outcome.plan.note
        if planned_exactly(note):  # the time is that of the exact optimum
            yield {**facts, "seconds": float("nan"), "note": f"{NO_TIME}: {reason_in(note)}"}
            continue
        share = plan_row(outcome.score)["captured_share"]
        yield {**facts, "seconds": watch.seconds, "captured_share": share, "note": note}


def _warm_up(setup: Setup, names: list[str]) -> None:
    """Let every method import and cache what it needs, which is not planning."""
    case = setup.case(2, 0)
    few = replace(setup.choices, population=4, generations=1)
    for name in names:
        compare(case.scenario, case.users, {name: _ready(few, setup.scenario.gpus, name)})


def _ready(choices: Choices, gpus: int, name: str) -> Method:
    """A method as it is timed, with its settings."""
    known = {**other_networks(choices, gpus), choices.proposed: proposed_method(choices)}
    method = known.get(name, name)
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
    """Medians of the measured times with names, stated complexities, ratios to the exact optimum, slopes on log axes.

    Times that a limit has cut, in half of the cases or more, are in the table, but in no slope.
    """
    medians = _medians(rows)
    exact = medians[medians["method"] == "exact"].set_index("users")["seconds"]
    table = medians.assign(ratio_to_exact=medians["seconds"] / medians["users"].map(exact))
    whole = table[~table["cut"] & table["seconds"].notna()]
    slopes = {str(name): log_slope(part["users"], part["seconds"]) for name, part in whole.groupby("method")}
    table["slope"] = table["method"].map(slopes)
    for number, column in enumerate(("name", "stated")):
        table[column] = [STATED.get(name, (name, "-"))[number] for name in table["method"]]
    columns = ["method", "name", "stated", "users", "seconds", "ratio_to_exact", "captured_share", "slope", "cut"]
    counts = ["cases", "proven", "note"]
    return table.sort_values("users", kind="stable")[[*columns, *counts]].reset_index(drop=True)


def _medians(rows: pd.DataFrame) -> pd.DataFrame:
    """The median time over cases, the mean captured share, and in how many cases a solver has proven its plan."""
    proven = rows["note"].fillna("").str.startswith(PROVEN)
    cases = rows.assign(note=rows["note"].fillna(""), proven=proven).groupby(["method", "users"], sort=False)
    table = cases.agg(
        seconds=("seconds", "median"), captured_share=("captured_share", "mean"), cases=("note", "size"),
        proven=("proven", "sum"), note=("note", "first"),
    ).reset_index()  # fmt: skip
    return table.assign(cut=table["method"].isin(PROGRAMS) & (2 * table["proven"] <= table["cases"]))


def log_slope(users: "pd.Series[int]", seconds: "pd.Series[float]") -> float:
    """p of seconds ~ users^p, by least squares on log axes, from `LARGE` users on where that leaves three points."""
    large = users >= LARGE
    x, y = (users[large], seconds[large]) if large.sum() > 2 else (users, seconds)
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else float("nan")


def draw(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> Any:
    """Planning time against users on log axes."""
    with framed(height=6.0) as (figure, axis):
        for name in methods_in(table, proposed):
            rows = table[(table["method"] == name) & table["seconds"].notna()]
            look = method_look(name, proposed)
            missing = ", not measured" if rows.empty else ""
            axis.plot(rows["users"], rows["seconds"], **look | {"label": look["label"] + missing})
        axis.set(xscale="log", yscale="log", xlabel="users of a round, I", ylabel="planning time, s")
        plain_ticks(axis.xaxis, sorted(table["users"].unique()))
    return legend_below(figure)


def judge(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> list[Check]:
    """Linear or better: the slope on log axes is at most 1.2. Exponential, impractical: see there.

    A time counts only beside the share that is captured in it.
    """
    words = "DRL-convex" if proposed == DEFAULT_METHOD else "The proposed method"
    hard = "An exact solution is out of reach, the problem being NP-hard (Proposition 1)."
    return [
        _with_networks(f"{words} is linear in users.", table, proposed),
        _linear("The genetic algorithm is linear in users.", table, "genetic-joint"),
        _slower("The genetic algorithm is slower than the proposed method.", table, "genetic-joint", proposed),
        _exponential(table),
        _impractical(table),
        _slower(hard, table, "exact", proposed),
    ]


def _with_networks(claim: str, table: pd.DataFrame, proposed: str) -> Check:
    """Whether the proposed method is linear; beside it, the other networks of DRL-convex."""
    own, present = _linear(claim, table, proposed), set(table["method"])
    others = (
        f"{label}: {_linear(claim, table, name).evidence}" for name, (label, _) in NETWORKS.items() if name in present
    )
    return replace(own, evidence="; ".join([own.evidence, *others]))


def _linear(claim: str, table: pd.DataFrame, method: str) -> Check:
    """Whether a method's time grows about linearly; a finding where too few times are known."""
    power, words = _power(table, method)
    return Check(claim, FINDING if power is None else judged([power <= 1.2]), f"{words}, {_largest(table, method)}")


def _exponential(table: pd.DataFrame) -> Check:
    """Whether the times of the programs that the paper cites grow as p^I rather than as I^p.

    Of the two curves, straight lines for the logarithm of the time against I and against log I, the nearer one counts.
    """
    nearer = {name: _nearer_to_exponential(table, name) for name in PAPERS_PROGRAMS}
    known = [exponential for exponential in nearer.values() if exponential is not None]
    told = [f"{words}: {_power(table, name)[1]}, {_largest(table, name)}" for name, words in PAPERS_PROGRAMS.items()]
    return Check(
        "Branch & bound takes exponential time.",
        judged(known) if known else FINDING,
        "; ".join([*told, f"our program: {_power(table, OURS)[1]}, {_largest(table, OURS)}"]),
    )


def _nearer_to_exponential(table: pd.DataFrame, method: str) -> bool | None:
    """Whether an exponential lies nearer to the uncut times than a power of I; None for fewer than four times."""
    rows = table[(table["method"] == method) & ~table["cut"] & (table["users"] >= LARGE)]
    if len(rows) < 4:
        return None
    users, log_s = rows["users"].astype(float), rows["seconds"].map(np.log)
    return r2_of_line(users, log_s) > r2_of_line(users.map(np.log), log_s)


def _impractical(table: pd.DataFrame) -> Check:
    """Whether the programs that the paper cites are not proven for the most users, who must be many."""
    last = {name: _last(table[table["method"] == name]) for name in (*PAPERS_PROGRAMS, OURS)}
    many = [bool(last[name].cut) for name in PAPERS_PROGRAMS if last[name] and last[name].users >= MANY]
    words = [f"{label}: {_proven(last[name])}" for name, label in (*PAPERS_PROGRAMS.items(), (OURS, "our program"))]
    claim = "Branch & bound is impractical for many users."
    return Check(claim, judged(many) if many else FINDING, "; ".join(words))


def _last(rows: pd.DataFrame) -> Any:
    """The row of the most users, None where there is no row."""
    known: list[Any] = list(rows.itertuples())
    return max(known, key=lambda row: int(row.users), default=None)


def _proven(row: Any) -> str:
    """In how many cases a plan was proven, for how many users and in what time."""
    if row is None:
        return "not measured"
    time = f"within the limit of {duration(row.seconds)}" if row.cut else f"in {duration(row.seconds)}"
    return f"proven {time} in {row.proven} of {row.cases} cases of {row.users} users"


def _power(table: pd.DataFrame, method: str) -> tuple[float | None, str]:
    """p of a method's time ~ I^p, None where too few times are known, and in words."""
    slope = float(table.loc[table["method"] == method, "slope"].max())
    return (slope, f"time ~ I^{slope:.2f}") if np.isfinite(slope) else (None, "too few times for a slope")


def _largest(table: pd.DataFrame, method: str) -> str:
    """Time and captured share at the most users that the method was measured for, and why not for more."""
    rows = table[table["method"] == method].sort_values("users")
    missing, cut = rows[rows["seconds"].isna()], rows[rows["cut"]]
    known = _last(rows[rows["seconds"].notna() & ~rows["cut"]])
    if known is None and cut.empty:
        return f"never measured ({_reason(rows)})" if len(rows) else "never measured"
    words = [f"{duration(known.seconds)} at {known.users} users ({known.captured_share:.2%} captured)"] if known else []
    words += [f"not measured at {_at(missing)} ({_reason(missing)})"] if len(missing) else []
    words += [f"cut by the time limit at {_at(cut)}"] if len(cut) else []
    return ", ".join(words)


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
    limit = f", time limit, {row.proven} of {row.cases} proven" if row.cut else ""
    return f"{duration(row.seconds)}, {100 * row.captured_share:.4g} %{limit}"


def remarks_on(table: pd.DataFrame, proposed: str) -> str:
    """For how many numbers of users the proposed method was not measured, and why."""
    own = table[table["method"] == proposed]
    missing = own[own["seconds"].isna()]
    if missing.empty:
        return ""
    return f"the proposed method is not measured at {_at(missing)} users, as it cannot plan these ({_reason(missing)})"


TIMING = Experiment(
    name="timing",
    points=lambda size: size.timed_users,
    cases=lambda size: size.timed_cases,
    rows=rows_of,
    alone=True,
)


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

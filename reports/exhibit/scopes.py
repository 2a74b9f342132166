"""Fig. 9: the policies of the paper's three scopes, over many cases and on the one that the specific ones are for.

The paper shows one case. Here the general and the GPU-constrained policies plan many, for every number of GPUs and of
users; a specific policy plans its own case alone, and on that all scopes are compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...optimizer.agent.decide import drl_convex
from ...optimizer.agent.instances import Instance, Range, paper_instance, shipped_instance
from ...optimizer.methods.exact import optimum
from ...optimizer.methods.registry import Method
from ...optimizer.model.qoe import all_local
from ...optimizer.planner import compare
from ..basis.checks import TINY, Check, judged
from ..basis.definitions import Exhibit, Experiment, PeopleTable
from ..basis.look import GPUS, MARKERS, QOE, USERS, asides, framed, legend_below, palette
from ..basis.policies import CONSTRAINED, GENERAL, GENERAL_OURS, ORDERS, SCOPE_GPUS, SCOPES, SPECIFIC, policy
from ..basis.scoring import Row, plan_row
from ..basis.setup import ROUND_USERS, Setup

OPTIMUM, ALL_LOCAL = "optimum", "all local"
"""What the policies are measured against, in the table's column `scope`."""
SEARCHED = f"{GENERAL}, {ORDERS} orders"
PLANNED = (*SCOPES, SEARCHED)
"""All that plan, in the order of legends and tables."""
MOST_GPUS = max(SCOPE_GPUS)
SLIGHTLY = 0.05
"""Share of the possible gain up to which policies differ slightly."""


def rows_of_case(_: Setup, gpus: int, __: int) -> Iterator[Row]:
    """The case of the specific policy for this number of GPUs: each scope's policy, the optimum and all local."""
    yield from ({"gpus": gpus, **row} for row in _rows(shipped_instance(gpus), _planners(gpus, tuple(SCOPES))))


def rows_of_draws(setup: Setup, gpus: int, number: int) -> Iterator[Row]:
    """The random cases of a number with this G, two for each number of users, without the specific policies.

    One is drawn for this G. The other is that of the largest G: the paper varies G with the users as they are, whose
    alphas a smaller G would draw smaller. It is left to the general policies, as many of these alphas are out of the
    range of policies for a smaller G. All are drawn in the shipped scenario, which the policies are for.
    """
    for users in setup.size.users:
        for drawn_at in sorted({gpus, MOST_GPUS}):
            rng = np.random.default_rng([setup.choices.seed, users, number])
            case = paper_instance(rng, Range(users=(users, users), gpus=(drawn_at,)))
            scopes = (GENERAL, CONSTRAINED, GENERAL_OURS) if drawn_at == gpus else (GENERAL, GENERAL_OURS)
            facts = {"gpus": gpus, "drawn_at": drawn_at, "users": users, "case": number}
            rows = _rows(replace(case, scenario=replace(case.scenario, gpus=gpus)), _planners(gpus, scopes))
            yield from ({**facts, **row} for row in rows)


def _planners(gpus: int, scopes: Sequence[str]) -> dict[str, Method]:
    """How each scope plans, and the paper's general network with a search on top."""
    plain = {scope: partial(drl_convex, policy=policy(SCOPES[scope](gpus))) for scope in scopes}
    return {**plain, SEARCHED: partial(plain[GENERAL], orders=ORDERS)}


def _rows(case: Instance, methods: dict[str, Method]) -> Iterator[Row]:
    """A row for each method, for the optimum and for all local."""
    for outcome in compare(case.scenario, case.users, methods | {OPTIMUM: optimum, ALL_LOCAL: all_local}):
        yield {"scope": outcome.method, **plan_row(outcome.score), "note": outcome.plan.note}


def draw(table: pd.DataFrame, column: str, label: str) -> Any:
    """Averages of a column over the random cases, a line for each scope.

    Above against GPUs, with the same users at every G; below against users, with the most GPUs.
    """
    users = table["users"].unique()
    fixed = users[np.abs(users - ROUND_USERS).argmin()]
    same, most = _same_users(table), _drawn_anew(table)
    with framed(rows=2, height=6.4) as (figure, axes):
        _lines(axes[0], same[same["users"] == fixed], "gpus", column)
        _lines(axes[1], most[most["gpus"] == most["gpus"].max()], "users", column)
        axes[0].set(xlabel=f"{GPUS}; {fixed} users, the same ones", ylabel=label)
        axes[1].set(xlabel=f"{USERS}; {most['gpus'].max()} GPUs", ylabel=label)
        handles = axes[1].get_legend_handles_labels()[0]
    return legend_below(figure, handles=handles)


def _drawn_anew(table: pd.DataFrame) -> pd.DataFrame:
    """The cases that were drawn for their own G, with the policies of all scopes."""
    return table[table["drawn_at"] == table["gpus"]]


def _same_users(table: pd.DataFrame) -> pd.DataFrame:
    """The cases with the same users at every G, without the GPU-constrained policies."""
    kept: pd.DataFrame = table[(table["drawn_at"] == table["drawn_at"].max()) & (table["scope"] != CONSTRAINED)]
    return kept


def draw_case(table: pd.DataFrame) -> Any:
    """The QoE on the specific policies' own case against GPUs, a line for each scope."""
    with framed(height=4.4) as (figure, axis):
        _lines(axis, table, "gpus", "qoe_per_user")
        axis.set(xlabel=GPUS, ylabel=QOE)
    return legend_below(figure)


def _lines(axis: Any, table: pd.DataFrame, x: str, column: str) -> None:
    """The average of a column for each scope, one line beside the other; a scope has one look in all panels."""
    points, known = sorted(table[x].unique()), [*PLANNED, OPTIMUM, ALL_LOCAL]
    looks = zip(known, palette(len(known)), MARKERS, asides(range(len(points)), len(known)), strict=True)
    for scope, colour, marker, aside in looks:
        mean = table[table["scope"] == scope].groupby(x)[column].mean()
        line = {OPTIMUM: "--", ALL_LOCAL: ":"}.get(scope, "-")
        places = [points.index(count) + aside for count in mean.index]
        if len(mean):
            axis.plot(places, mean, color=colour, marker=marker, linestyle=line, label=scope, markersize=5)
    axis.set_xticks(range(len(points)), [str(count) for count in points])


def judge_qoe(table: pd.DataFrame) -> list[Check]:
    """Averages over the cases, by the paper's network; our general policy stands beside it.

    Better: the higher average share at each number of GPUs. Rises: the average gain over all local per user, which
    leaves out what the users and their alphas bring along, rises at each step along one axis, wherever on the other.
    """
    anew, same = _drawn_anew(table), _same_users(table)
    everywhere = ["gpus", "users"]
    gains, of_same = (_over_local(_averages(rows, "qoe_per_user", everywhere)) for rows in (anew, same))
    apart = _averages(anew, "captured_share", everywhere)
    return [
        _better(_averages(anew, "captured_share", ["gpus"])),
        _slight("They differ slightly.", apart, (GENERAL, CONSTRAINED), ", at any number of GPUs and of users"),
        _moves("Performance rises with the number of GPUs.", of_same, "gpus", 1),
        _moves("Performance rises as users become fewer.", gains, "users", -1),
    ]


def _better(shares: pd.DataFrame) -> Check:
    """Whether the GPU-constrained policies capture more than the general one at each number of GPUs."""
    ahead = shares[CONSTRAINED] - shares[GENERAL]
    told = "; ".join(
        f"G = {gpus}: {CONSTRAINED} {row[CONSTRAINED]:.2%}, {GENERAL} {row[GENERAL]:.2%}, our general "
        f"{row[GENERAL_OURS]:.2%}"
        for gpus, row in shares.iterrows()
    )
    return Check("The GPU-constrained model performs better than the general one.", judged(ahead > TINY), told)


def _slight(claim: str, shares: pd.DataFrame, scopes: Sequence[str], where: str = "") -> Check:
    """Whether some scopes lie within `SLIGHTLY` of each other everywhere; beside it, with our general policy."""
    ours = [GENERAL_OURS if scope == GENERAL else scope for scope in scopes]
    apart, with_ours = (float(np.ptp(shares[names].to_numpy(), axis=1).max()) for names in (list(scopes), ours))
    evidence = (
        f"they lie at most {apart:.1%} of the possible gain apart{where}; with our general policy {with_ours:.1%}"
    )
    return Check(claim, judged([apart <= SLIGHTLY]), evidence)


def _moves(claim: str, gains: pd.DataFrame, x: str, sign: int) -> Check:
    """Whether the gain moves in one direction along an axis, at every point of the other, for the paper's network."""
    other = "users" if x == "gpus" else "gpus"
    steps = {scope: sign * gains[scope].unstack(other).diff().iloc[1:].to_numpy().ravel() for scope in gains}
    along = gains.groupby(x).mean()
    words = "; ".join(
        f"{scope} {along[scope].iloc[0]:.2f} to {along[scope].iloc[-1]:.2f} s, {(steps[scope] > TINY).sum()} of "
        f"{steps[scope].size} steps in this direction"
        for scope in gains
    )
    papers = [step > TINY for scope in (GENERAL, CONSTRAINED) if scope in gains for step in steps[scope]]
    ends = f"{x} {along.index[0]} to {along.index[-1]}"
    return Check(claim, judged(papers), f"average gain over all local per user, {ends}: {words}")


def shares_by_gpus(table: pd.DataFrame) -> PeopleTable:
    """What each scope captures, over all numbers of users, of cases that were drawn for their own G."""
    anew = _drawn_anew(table)
    cases = anew[~anew["scope"].isin([OPTIMUM, ALL_LOCAL])].groupby(["scope", "gpus"])["captured_share"]
    cells = {key: f"{own.mean():.2%}, {own.quantile(0.05):.2%}, {own.min():.2%}" for key, own in cases}
    gpus = sorted(anew["gpus"].unique())
    return PeopleTable(
        caption="Captured share of what offloading can gain: mean, 5th percentile, least.",
        head=["scope", *(f"G = {count}" for count in gpus)],
        rows=[[scope, *(cells[scope, count] for count in gpus)] for scope in PLANNED if scope != SPECIFIC],
    )


def judge_case(table: pd.DataFrame) -> list[Check]:
    """Best: above both others at every G. The general policy is the paper's; ours stands beside it."""
    wide, shares = (_averages(table, column, ["gpus"]) for column in ("qoe_per_user", "captured_share"))
    verdict, evidence = _best(wide, GENERAL)
    least = ", ".join(f"{scope} {shares[scope].min():.1%}" for scope in PLANNED)
    words = f"{evidence}; captured at least: {least}; with our general policy: {_best(wide, GENERAL_OURS)[0]}"
    return [
        Check("The model for a specific case performs best.", verdict, words),
        _slight("The three differ slightly.", shares, (GENERAL, CONSTRAINED, SPECIFIC)),
    ]


def _best(wide: pd.DataFrame, general: str) -> tuple[str, str]:
    """Verdict and evidence on whether the specific policies are above the GPU-constrained ones and a general one."""
    ahead = wide[SPECIFIC] - wide[[general, CONSTRAINED]].max(axis=1)
    better, worse = int((ahead > TINY).sum()), int((ahead < -TINY).sum())
    return judged(ahead > TINY), (
        f"of {len(ahead)} numbers of GPUs better than both others at {better}, as good as the best at "
        f"{len(ahead) - better - worse}, worse at {worse}"
    )


def judge_pai(table: pd.DataFrame) -> list[Check]:
    """PAI is given up by each policy of the paper's network at each number of GPUs and of users, on average."""
    lost = -_over_local(_averages(_drawn_anew(table), "mean_pai", ["gpus", "users"]))
    words = "; ".join(f"{scope} {lost[scope].min():.3f} to {lost[scope].max():.3f}" for scope in lost)
    lower = (lost[[GENERAL, CONSTRAINED]] > TINY).to_numpy().ravel()
    evidence = f"lower at {lower.sum()} of {lower.size} points; lost over numbers of GPUs and users: {words}"
    return [Check("Offloading costs some PAI.", judged(lower), evidence)]


def judge_latency(table: pd.DataFrame) -> list[Check]:
    """Latency is saved, and is worth more than the PAI given up, at the same points by the same policies."""
    anew, points = _drawn_anew(table), ["gpus", "users"]
    saved = -_over_local(_averages(anew, "mean_latency_s", points))
    won = _over_local(_averages(anew, "qoe_per_user", points))
    words = "; ".join(
        f"{scope} {saved[scope].min():.1f} to {saved[scope].max():.1f} s saved, {won[scope].min():.1f} to "
        f"{won[scope].max():.1f} s of QoE won"
        for scope in saved
    )
    both = ((saved > TINY) & (won > TINY))[[GENERAL, CONSTRAINED]].to_numpy().ravel()
    evidence = f"per user, over numbers of GPUs and users: {words}"
    return [Check("The saved latency outweighs the lost PAI.", judged(both), evidence)]


def _averages(table: pd.DataFrame, column: str, points: list[str]) -> pd.DataFrame:
    """The average of a column at each point, a row, for each scope, a column."""
    return table.pivot_table(index=points, columns="scope", values=column)


def _over_local(wide: pd.DataFrame) -> pd.DataFrame:
    """How much more than all local each policy has."""
    return wide.drop(columns=[ALL_LOCAL, OPTIMUM]).sub(wide[ALL_LOCAL], axis=0)


BY_SCOPE = Experiment(name="scopes", points=lambda _: SCOPE_GPUS, cases=lambda _: 1, rows=rows_of_case)
BY_DRAWS = Experiment(
    name="scopes-drawn", points=lambda _: SCOPE_GPUS, cases=lambda size: size.cases, rows=rows_of_draws
)
POINT = ["scope", "gpus", "drawn_at", "users", "case"]
FIG9A = Exhibit(
    name="fig9a",
    title="Fig. 9a: the scopes, QoE",
    claims="More special models are better, by little; QoE rises with GPUs and as users become fewer.",
    experiment=BY_DRAWS,
    table=lambda material: material.rows[[*POINT, "qoe_per_user", "captured_share", "granted", "note"]],
    draw=partial(draw, column="qoe_per_user", label=QOE),
    judge=judge_qoe,
    for_people=shares_by_gpus,
)
FIG9B = Exhibit(
    name="fig9b",
    title="Fig. 9b: the scopes, PAI",
    claims="Some PAI is given up.",
    experiment=BY_DRAWS,
    table=lambda material: material.rows[[*POINT, "mean_pai"]],
    draw=partial(draw, column="mean_pai", label="average PAI"),
    judge=judge_pai,
)
FIG9C = Exhibit(
    name="fig9c",
    title="Fig. 9c: the scopes, latency",
    claims="Latency is saved, which outweighs it.",
    experiment=BY_DRAWS,
    table=lambda material: material.rows[[*POINT, "mean_latency_s", "qoe_per_user"]],
    draw=partial(draw, column="mean_latency_s", label="average latency, s"),
    judge=judge_latency,
)
FIG9_CASE = Exhibit(
    name="fig9_case",
    title="Fig. 9 on the specific policies' own case, QoE",
    claims="The specific model is best, the others are close.",
    experiment=BY_SCOPE,
    table=lambda material: material.rows[["scope", "gpus", "qoe_per_user", "captured_share", "granted"]],
    draw=draw_case,
    judge=judge_case,
)

"""Fig. 10: the proposed method and the paper's baselines against the number of users and of edge GPUs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...optimizer.methods.baselines import offload_all_fixed
from ...optimizer.methods.registry import DEFAULT_METHOD, Method
from ...optimizer.model.qoe import Scenario, Users
from ..basis.beside import shares_for_people, with_networks
from ..basis.checks import FINDING, TINY, Check, judged, together
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.look import GPUS, QOE, USERS, framed, legend_below, method_lines
from ..basis.scoring import Row, compared
from ..basis.setup import ROUND_USERS, Setup
from ..basis.unserved import remarks_on

OFFLOAD_ALL, SPLIT_AT_NHAT, NHAT_OFFLOADED, ALL_LOCAL = (
    "offload-all",
    "offload-all-fixed",
    "offload-all-nhat",
    "all-local",
)
READINGS = {SPLIT_AT_NHAT: "split at N-hat", NHAT_OFFLOADED: "N-hat steps offloaded"}
"""Both readings of baseline 2; a claim that only one of them bears out holds partly."""
RIVALS = (OFFLOAD_ALL, *READINGS)
"""Baselines 1 and 2."""
STABLE = 2.0
"""Largest over smallest gap up to which a gap is stable."""
BY_GPUS_DOWN = "as GPUs are taken away"


def rows_by_users(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """Fig. 10a: one case with this number of users."""
    drawn = setup.case(users, number)
    yield from ({"users": users, "case": number, **row} for row in _rows(setup, drawn.scenario, drawn.users))


def rows_by_gpus(setup: Setup, gpus: int, number: int) -> Iterator[Row]:
    """Fig. 10b: one case drawn at this number of GPUs, on which the interval of alpha depends."""
    drawn = setup.case(ROUND_USERS, number, gpus)
    yield from ({"gpus": gpus, "case": number, **row} for row in _rows(setup, drawn.scenario, drawn.users))


def rows_of_same_users(setup: Setup, gpus: int, number: int) -> Iterator[Row]:
    """Fig. 10b read otherwise: users and alphas are those drawn at the scenario's G."""
    drawn = setup.case(ROUND_USERS, number)
    rows = _rows(setup, replace(drawn.scenario, gpus=gpus), drawn.users)
    yield from ({"gpus": gpus, "case": number, **row} for row in rows)


def _rows(setup: Setup, scenario: Scenario, users: Users) -> Iterator[Row]:
    """The proposed method, the optimum and the baselines."""
    return compared(setup, scenario, users, baselines(scenario))


def baselines(scenario: Scenario) -> Mapping[str, str | Method]:
    """The paper's baselines, with both readings of the second."""
    steps = min(scenario.min_local_steps, scenario.total_steps - scenario.min_local_steps)
    return {
        OFFLOAD_ALL: OFFLOAD_ALL,
        SPLIT_AT_NHAT: SPLIT_AT_NHAT,
        ALL_LOCAL: ALL_LOCAL,
        NHAT_OFFLOADED: partial(offload_all_fixed, offloaded_steps=steps),
    }


def draw(table: pd.DataFrame, x: str, label: str, proposed: str = DEFAULT_METHOD) -> Any:
    """Average QoE against a column of the table, a line for each method."""
    with framed(height=4.4) as (figure, axis):
        method_lines(axis, table, x, "qoe_per_user", proposed)
        axis.set(xlabel=label, ylabel=QOE, xticks=sorted(table[x].unique()))
    return legend_below(figure)


def judge_users(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> list[Check]:
    """No trend: the slope over cases lies within 1.96 standard errors of 0.

    Decline: the slope is negative by more than that, and the average falls from each point to the next; where only one
    of these is true, the claim holds partly.
    """
    trendless = _trendless(table, "users", "users")
    declines = _declines(table, "users", "as users are added", -1, proposed)
    return [trendless, *declines, *_comparisons(table, "users", proposed)]


def judge_gpus(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> list[Check]:
    """The same claims of cases that are drawn for each number of GPUs."""
    trendless = _trendless(table, "gpus", "GPUs")
    return [trendless, *_declines(table, "gpus", BY_GPUS_DOWN, 1, proposed), *_comparisons(table, "gpus", proposed)]


def judge_same_users(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> list[Check]:
    """The same claims of the same cases at every number of GPUs, where all local cannot move and bears out nothing."""
    local = table[table["method"] == ALL_LOCAL].groupby("case")["qoe_per_user"].agg(np.ptp)
    alike = Check("All local over GPUs.", FINDING, f"within a case it moves by {local.max():.3g} s at most, as it must")
    return [alike, *_declines(table, "gpus", BY_GPUS_DOWN, 1, proposed), *_comparisons(table, "gpus", proposed)]


def _trendless(table: pd.DataFrame, x: str, words: str) -> Check:
    """Whether all local has no slope over cases."""
    rows = table[table["method"] == ALL_LOCAL]
    slope, error = slope_of_line(rows, x)
    mean = rows.groupby(x)["qoe_per_user"].mean()
    return Check(
        f"All local shows no trend over {words}.",
        judged([abs(slope) <= 1.96 * error + TINY]),
        f"slope {_signed(slope, error)} s for each one added, averages between {mean.min():.2f} and {mean.max():.2f} s",
    )


def _declines(table: pd.DataFrame, x: str, direction: str, sign: int, proposed: str) -> list[Check]:
    """One claim for each of the proposed method and baselines 1 and 2; sign 1 where the average must rise with x."""

    def own(rows: pd.DataFrame, name: str) -> Check:
        return Check(f"The proposed method declines {direction}.", *_decline(rows, x, name, sign))

    first = Check(f"Baseline 1 declines {direction}.", *_decline(table, x, OFFLOAD_ALL, sign))
    both = {words: _decline(table, x, name, sign) for name, words in READINGS.items()}
    verdict = together(verdict for verdict, _ in both.values())
    evidence = "; ".join(f"{words}: {evidence}" for words, (_, evidence) in both.items())
    second = Check(f"Baseline 2 declines {direction}.", verdict, evidence)
    return [with_networks(own, table, proposed, x), first, second]


def _decline(table: pd.DataFrame, x: str, name: str, sign: int) -> tuple[str, str]:
    """Verdict and evidence on whether a method's average moves with x in one direction."""
    rows = table[table["method"] == name]
    slope, error = slope_of_line(rows, x)
    mean = rows.groupby(x)["qoe_per_user"].mean()
    steps = sign * np.diff(mean)
    verdict = judged([sign * slope > 1.96 * error + TINY, bool((steps > TINY).all())])
    return verdict, (
        f"slope {_signed(slope, error)}, averages {mean.iloc[0]:.2f} to {mean.iloc[-1]:.2f} s, "
        f"{int((steps > TINY).sum())} of {len(steps)} steps in this direction"
    )


def _comparisons(table: pd.DataFrame, x: str, proposed: str) -> list[Check]:
    """The claims that compare methods with each other."""
    mean = _averages(table, x)
    gaps = {words: mean[OFFLOAD_ALL] - mean[name] for name, words in READINGS.items()}
    stable = [bool((gap > TINY).all() and gap.max() <= STABLE * gap.min()) for gap in gaps.values()]
    words = "; ".join(f"{words}: from {gap.min():.2f} to {gap.max():.2f} s" for words, gap in gaps.items())
    return [
        Check("Baseline 1 keeps a stable gap above baseline 2.", judged(stable), words),
        with_networks(partial(_varies_less, x=x), table, proposed, x),
        with_networks(partial(_outperforms, x=x), table, proposed, x),
    ]


def _averages(table: pd.DataFrame, x: str) -> pd.DataFrame:
    """The average QoE of every method, a column, at each point, a row."""
    return table.pivot_table(index=x, columns="method", values="qoe_per_user")


def _varies_less(table: pd.DataFrame, proposed: str, x: str) -> Check:
    """Whether the proposed method's averages span less than those of baselines 1 and 2."""
    mean = _averages(table, x)
    span = mean.max() - mean.min()
    spans = ", ".join(f"{span[name]:.2f}" for name in RIVALS)
    return Check(
        "The proposed method varies less than baselines 1 and 2.",
        judged(bool(span[proposed] < span[name] - TINY) for name in RIVALS),
        f"its averages span {span[proposed]:.2f} s, those of baselines 1 and 2 (two readings) {spans} s",
    )


def _outperforms(table: pd.DataFrame, proposed: str, x: str) -> Check:
    """Whether the proposed method's average lies above every baseline's at each point."""
    mean = _averages(table, x)
    rivals = [*RIVALS, ALL_LOCAL]
    points = (mean[proposed] - mean[rivals].max(axis=1)) > TINY
    wide = table.pivot_table(index=[x, "case"], columns="method", values="qoe_per_user")
    ahead = wide[proposed] - wide[rivals].max(axis=1)
    captured = table.loc[table["method"] == proposed, "captured_share"].mean()
    return Check(
        "It outperforms all baselines.",
        judged(points),
        f"the best average at {int(points.sum())} of {len(points)} points; in single cases better "
        f"{(ahead > TINY).mean():.1%}, as good {(ahead.abs() <= TINY).mean():.1%}, worse {(ahead < -TINY).mean():.1%}; "
        f"{captured:.3%} of the possible gain captured",
    )


def slope_of_line(rows: pd.DataFrame, x: str) -> tuple[float, float]:
    """The slope over cases of the least-squares line of the average QoE per user, and its standard error."""
    at, y = rows[x].to_numpy(float), rows["qoe_per_user"].to_numpy(float)
    centred = at - at.mean()
    if len(at) < 3 or not centred.any():
        return 0.0, 0.0
    square = float(centred @ centred)
    slope = float(centred @ y) / square
    left = y - y.mean() - slope * centred
    return slope, float(np.sqrt(left @ left / (len(at) - 2) / square))


def _signed(slope: float, error: float) -> str:
    return f"{slope:+.3f} ± {1.96 * error:.3f}"


BY_USERS = Experiment(name="users", points=lambda size: size.users, cases=lambda size: size.cases, rows=rows_by_users)
BY_GPUS = Experiment(name="gpus", points=lambda size: size.gpus, cases=lambda size: size.cases, rows=rows_by_gpus)
OF_SAME_USERS = Experiment(
    name="same-users", points=lambda size: size.gpus, cases=lambda size: size.cases, rows=rows_of_same_users
)


def fig10(proposed: str) -> tuple[Exhibit, ...]:
    """Figs. 10a and 10b with this method as the proposed one; Fig. 10b in two readings."""
    against_gpus = {"x": "gpus", "label": GPUS, "proposed": proposed}
    return (
        _exhibit(
            "fig10a",
            "Fig. 10a: average QoE against users",
            "The proposed method beats all baselines and varies less; baseline 3 shows no trend, the rest decline.",
            BY_USERS,
            judge_users,
            {"x": "users", "label": USERS, "proposed": proposed},
        ),
        _exhibit(
            "fig10b",
            "Fig. 10b: average QoE against GPUs",
            "The same as GPUs are taken away; cases are drawn for each number of GPUs.",
            BY_GPUS,
            judge_gpus,
            against_gpus,
        ),
        _exhibit(
            "fig10b_same_users",
            "Fig. 10b read otherwise: the same users at every G",
            "The same as GPUs are taken away.",
            OF_SAME_USERS,
            judge_same_users,
            against_gpus,
        ),
    )


def _exhibit(
    name: str, title: str, claims: str, experiment: Experiment, judge: Callable[..., list[Check]], look: dict[str, Any]
) -> Exhibit:
    """One of the figures, drawn with these arguments of `draw`."""
    proposed = look["proposed"]
    return Exhibit(
        name=name,
        title=title,
        claims=claims,
        experiment=experiment,
        table=rows_as_they_are,
        draw=partial(draw, **look),
        judge=partial(judge, proposed=proposed),
        for_people=partial(shares_for_people, proposed=proposed),
        remarks=partial(remarks_on, proposed=proposed),
    )

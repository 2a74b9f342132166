"""Fig. 10: the proposed method and the paper's baselines against the number of users and of edge GPUs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...optimizer.methods.baselines import offload_all_fixed
from ...optimizer.methods.registry import DEFAULT_METHOD, Method
from ...optimizer.model.qoe import Scenario, Users
from ..basis.checks import TINY, Check, judged, together
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.look import GPUS, QOE, USERS, framed, legend_below, method_lines
from ..basis.scoring import Row, compared
from ..basis.setup import ROUND_USERS, Setup
from ..basis.unserved import notes_of, remarks_on, with_remarks

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


def rows_by_users(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """Fig. 10a: one case with this number of users."""
    drawn = setup.case(users, number)
    yield from ({"users": users, "case": number, **row} for row in _rows(setup, drawn.scenario, drawn.users))


def rows_by_gpus(setup: Setup, gpus: int, number: int) -> Iterator[Row]:
    """Fig. 10b: one case with this number of GPUs; users and alphas are those drawn at the scenario's G."""
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
    slope, error = slope_of_line(table[table["method"] == ALL_LOCAL], "users")
    trendless = Check(
        "All local shows no trend over users.",
        judged([abs(slope) <= 1.96 * error + TINY]),
        f"slope {_signed(slope, error)} s per user added",
    )
    declines = _declines(table, "users", "as users are added", -1, proposed)
    return [trendless, *declines, *_comparisons(table, "users", proposed)]


def judge_gpus(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> list[Check]:
    """The same claims; the users being the same for every G, all local must be equal to the last bit."""
    local = table[table["method"] == ALL_LOCAL].groupby("case")["qoe_per_user"].agg(np.ptp)
    trendless = Check(
        "All local shows no trend over GPUs.",
        judged([bool((local == 0).all())]),
        f"within a case it moves by {local.max():.3g} s at most",
    )
    declines = _declines(table, "gpus", "as GPUs are taken away", 1, proposed)
    return [trendless, *declines, *_comparisons(table, "gpus", proposed)]


def _declines(table: pd.DataFrame, x: str, direction: str, sign: int, proposed: str) -> list[Check]:
    """One claim for each of the proposed method and baselines 1 and 2; sign 1 where the average must rise with x."""
    named = ((proposed, "The proposed method"), (OFFLOAD_ALL, "Baseline 1"))
    notes = notes_of(table, proposed)
    checks = [Check(f"{words} declines {direction}.", *_decline(table, x, name, sign)) for name, words in named]
    checks[0] = with_remarks(checks[0], notes, proposed)
    both = {words: _decline(table, x, name, sign) for name, words in READINGS.items()}
    verdict = together(verdict for verdict, _ in both.values())
    evidence = "; ".join(f"{words}: {evidence}" for words, (_, evidence) in both.items())
    return [*checks, Check(f"Baseline 2 declines {direction}.", verdict, evidence)]


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
    mean = table.pivot_table(index=x, columns="method", values="qoe_per_user")
    span = mean.max() - mean.min()
    gaps = {words: mean[OFFLOAD_ALL] - mean[name] for name, words in READINGS.items()}
    stable = [bool((gap > TINY).all() and gap.max() <= STABLE * gap.min()) for gap in gaps.values()]
    spans = ", ".join(f"{span[name]:.2f}" for name in RIVALS)
    varies = Check(
        "The proposed method varies less than baselines 1 and 2.",
        judged(bool(span[proposed] < span[name] - TINY) for name in RIVALS),
        f"its averages span {span[proposed]:.2f} s, those of baselines 1 and 2 (two readings) {spans} s",
    )
    notes = notes_of(table, proposed)
    return [
        Check(
            "Baseline 1 keeps a stable gap above baseline 2.",
            judged(stable),
            "; ".join(f"{words}: from {gap.min():.2f} to {gap.max():.2f} s" for words, gap in gaps.items()),
        ),
        with_remarks(varies, notes, proposed),
        with_remarks(_outperforms(table, x, mean, proposed), notes, proposed),
    ]


def _outperforms(table: pd.DataFrame, x: str, mean: pd.DataFrame, proposed: str) -> Check:
    """Whether the proposed method's average lies above every baseline's at each point."""
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


def fig10(proposed: str) -> tuple[Exhibit, Exhibit]:
    """Figs. 10a and 10b with this method as the proposed one."""
    of_plans = partial(remarks_on, proposed=proposed)
    return (
        Exhibit(
            name="fig10a",
            title="Fig. 10a: average QoE against users",
            claims="The proposed method beats all baselines and varies less; baseline 3 shows no trend, the rest "
            "decline. Said of Fig. 9 too: average performance rises as users become fewer.",
            experiment=BY_USERS,
            table=rows_as_they_are,
            draw=partial(draw, x="users", label=USERS, proposed=proposed),
            judge=partial(judge_users, proposed=proposed),
            remarks=of_plans,
        ),
        Exhibit(
            name="fig10b",
            title="Fig. 10b: average QoE against GPUs",
            claims="The same as GPUs are taken away.",
            experiment=BY_GPUS,
            table=rows_as_they_are,
            draw=partial(draw, x="gpus", label=GPUS, proposed=proposed),
            judge=partial(judge_gpus, proposed=proposed),
            remarks=of_plans,
        ),
    )

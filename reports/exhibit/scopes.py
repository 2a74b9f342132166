"""Fig. 9: the policies of the paper's three scopes on the case that the specific ones were trained on."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...optimizer.agent.decide import drl_convex
from ...optimizer.agent.instances import shipped_instance
from ...optimizer.methods.exact import optimum
from ...optimizer.methods.registry import Method
from ...optimizer.model.qoe import all_local
from ...optimizer.planner import compare
from ..basis.checks import TINY, Check, judged
from ..basis.definitions import Exhibit, Experiment
from ..basis.look import GPUS, MARKERS, QOE, asides, framed, legend_below, palette
from ..basis.policies import SCOPE_GPUS, SCOPES, policy
from ..basis.scoring import Row, plan_row
from ..basis.setup import Setup

OPTIMUM, ALL_LOCAL = "optimum", "all local"
"""What the policies are measured against, in the table's column `scope`."""
SLIGHTLY = 0.05
"""Share of the possible gain up to which policies differ slightly."""


def rows_of(_: Setup, gpus: int, __: int) -> Iterator[Row]:
    """One case with this number of GPUs: each scope's policy, the optimum and all local."""
    case = shipped_instance(gpus)
    methods: dict[str, Method] = {
        scope: partial(drl_convex, policy=policy(name_of(gpus))) for scope, name_of in SCOPES.items()
    }
    for outcome in compare(case.scenario, case.users, methods | {OPTIMUM: optimum, ALL_LOCAL: all_local}):
        yield {"scope": outcome.method, "gpus": gpus, **plan_row(outcome.score), "note": outcome.plan.note}


def draw(table: pd.DataFrame, column: str, label: str) -> Any:
    """A column of the table against the number of GPUs, a line for each scope, one beside the other."""
    scopes, gpus = list(table["scope"].unique()), list(table["gpus"].unique())
    with framed(height=4.4) as (figure, axis):
        looks = zip(scopes, palette(len(scopes)), MARKERS, asides(range(len(gpus)), len(scopes)), strict=False)
        for scope, colour, marker, aside in looks:
            rows = table[table["scope"] == scope]
            line = {OPTIMUM: "--", ALL_LOCAL: ":"}.get(scope, "-")
            places = [gpus.index(count) + aside for count in rows["gpus"]]
            axis.plot(places, rows[column], color=colour, marker=marker, linestyle=line, label=scope, markersize=5)
        axis.set(xlabel=GPUS, ylabel=label)
        axis.set_xticks(range(len(gpus)), [str(count) for count in gpus])
    return legend_below(figure)


def judge_qoe(table: pd.DataFrame) -> list[Check]:
    """Each general policy is judged beside the other two scopes. Best: above both others at every G."""
    wide, shares = _by_scope(table, "qoe_per_user"), _by_scope(table, "captured_share")
    generals = [scope for scope in wide if str(scope).startswith("general")]
    checks = [check for general in generals for check in _three_scopes(wide, shares, str(general))]
    gains = _over_local(wide)
    rises = [bool((np.diff(gains[scope]) > TINY).all()) for scope in gains]
    words = "; ".join(f"{scope} {gains[scope].iloc[0]:.2f} to {gains[scope].iloc[-1]:.2f}" for scope in gains)
    evidence = f"gain over all local, s per user, G = {gains.index[0]} to {gains.index[-1]}: {words}"
    return [*checks, Check("Performance rises with the number of GPUs.", judged(rises), evidence)]


def _three_scopes(wide: pd.DataFrame, shares: pd.DataFrame, general: str) -> list[Check]:
    """The claims about the three scopes, with one of the general policies."""
    three = [general, "GPU-constrained", "specific"]
    ahead = wide["specific"] - wide[three[:2]].max(axis=1)
    better, worse = int((ahead > TINY).sum()), int((ahead < -TINY).sum())
    apart = float((shares[three].max(axis=1) - shares[three].min(axis=1)).max())
    least = ", ".join(f"{scope} {shares[scope].min():.1%}" for scope in three)
    return [
        Check(
            f"The model for a specific case performs best; {general}.",
            judged(ahead > TINY),
            f"of {len(ahead)} numbers of GPUs better than both others at {better}, as good as the best at "
            f"{len(ahead) - better - worse}, worse at {worse}; captured at least: {least}",
        ),
        Check(
            f"The three differ slightly; {general}.",
            judged([apart <= SLIGHTLY]),
            f"they lie at most {apart:.1%} of the possible gain apart",
        ),
    ]


def judge_pai(table: pd.DataFrame) -> list[Check]:
    """PAI is given up by each policy at each G."""
    wide = _by_scope(table, "mean_pai")
    own, local = wide.drop(columns=[ALL_LOCAL, OPTIMUM]), wide[ALL_LOCAL]
    words = "; ".join(f"{scope} {own[scope].iloc[0]:.3f} to {own[scope].iloc[-1]:.3f}" for scope in own)
    lower = own.lt(local - TINY, axis=0).to_numpy().ravel()
    evidence = f"lower at {lower.sum()} of {lower.size} points; all local {local.iloc[0]:.3f}, over G: {words}"
    return [Check("Offloading costs some PAI.", judged(lower), evidence)]


def judge_latency(table: pd.DataFrame) -> list[Check]:
    """Latency is saved, and is worth more than the PAI given up, by each policy at each G."""
    saved = -_over_local(_by_scope(table, "mean_latency_s"))
    won = _over_local(_by_scope(table, "qoe_per_user"))
    words = "; ".join(
        f"{scope} {saved[scope].min():.1f} to {saved[scope].max():.1f} s saved, {won[scope].min():.1f} to "
        f"{won[scope].max():.1f} s of QoE won"
        for scope in saved
    )
    both = ((saved > TINY) & (won > TINY)).to_numpy().ravel()
    return [Check("The saved latency outweighs the lost PAI.", judged(both), f"per user, over G: {words}")]


def _by_scope(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of the table, with a row for each number of GPUs and a column for each scope."""
    return table.pivot_table(index="gpus", columns="scope", values=column)


def _over_local(wide: pd.DataFrame) -> pd.DataFrame:
    """How much more than all local each policy has."""
    return wide.drop(columns=[ALL_LOCAL, OPTIMUM]).sub(wide[ALL_LOCAL], axis=0)


BY_SCOPE = Experiment(name="scopes", points=lambda _: SCOPE_GPUS, cases=lambda _: 1, rows=rows_of)
FIG9A = Exhibit(
    name="fig9a",
    title="Fig. 9a: the scopes on one case, QoE",
    claims="The specific model is best, the others are close.",
    experiment=BY_SCOPE,
    table=lambda material: material.rows[["scope", "gpus", "qoe_per_user", "captured_share", "granted"]],
    draw=partial(draw, column="qoe_per_user", label=QOE),
    judge=judge_qoe,
)
FIG9B = Exhibit(
    name="fig9b",
    title="Fig. 9b: the scopes on one case, PAI",
    claims="Some PAI is given up.",
    experiment=BY_SCOPE,
    table=lambda material: material.rows[["scope", "gpus", "mean_pai"]],
    draw=partial(draw, column="mean_pai", label="average PAI"),
    judge=judge_pai,
)
FIG9C = Exhibit(
    name="fig9c",
    title="Fig. 9c: the scopes on one case, latency",
    claims="Latency is saved, which outweighs it.",
    experiment=BY_SCOPE,
    table=lambda material: material.rows[["scope", "gpus", "mean_latency_s", "qoe_per_user"]],
    draw=partial(draw, column="mean_latency_s", label="average latency, s"),
    judge=judge_latency,
)

"""Beyond the paper: the price of its fixed batch, which charges every step at the batch of the first one."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd

from ...optimizer.methods.registry import DEFAULT_METHOD
from ...optimizer.methods.scoring import score
from ..basis.checks import FINDING, TINY, Check
from ..basis.definitions import Exhibit, Experiment
from ..basis.look import USERS, asides, framed, from_zero, legend_below, line_looks, mean_line
from ..basis.scoring import Row, outcomes
from ..basis.setup import Setup
from ..basis.shrinking import improve, shrinking_value
from ..basis.unserved import notes_of, remarks, share_exact, with_remarks

PROPOSED, OPTIMUM, SEARCH = "proposed", "optimum", "search"
"""The plans of the table: the last is the optimum, improved by a search for the shrinking batch."""
LABELS = {
    PROPOSED: "proposed plan re-scored with the shrinking batch",
    OPTIMUM: "optimum re-scored with it",
    SEARCH: "gained on top of the optimum by planning for it",
}


def rows_of(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """One case: the value of three plans with the fixed batch of (P1), and with one that shrinks."""
    drawn = setup.case(users, number)
    scenario, own = drawn.scenario, drawn.users
    outcome = outcomes(setup, scenario, own, {})[0]
    against = outcome.score.yardstick
    plans = {PROPOSED: outcome.plan, OPTIMUM: against.best, SEARCH: improve(scenario, own, against.best)}
    for name, plan in plans.items():
        totals = score(scenario, own, plan, against).totals
        shrinks = float(shrinking_value(scenario, own, plan.local_steps, plan.granted))
        facts = {"users": users, "case": number, "all_local": totals.all_local_objective}
        note = outcome.plan.note if name == PROPOSED else ""
        yield {**facts, "plan": name, "fixed_batch": totals.objective, "shrinking_batch": shrinks, "note": note}


def value_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What a shrinking batch adds to a case's plans, and what a search for it adds on top; seconds over all users."""
    wide = rows.pivot_table(index=["users", "case"], columns="plan", values=["fixed_batch", "shrinking_batch"])
    fixed, shrinks = wide["fixed_batch"], wide["shrinking_batch"]
    possible = fixed[OPTIMUM] - rows.groupby(["users", "case"])["all_local"].first()
    more = {
        PROPOSED: shrinks[PROPOSED] - fixed[PROPOSED],
        OPTIMUM: shrinks[OPTIMUM] - fixed[OPTIMUM],
        SEARCH: shrinks[SEARCH] - shrinks[OPTIMUM],
    }
    parts = [pd.DataFrame({"plan": plan, "more_s": value, "possible": possible}) for plan, value in more.items()]
    table = pd.concat(parts).reset_index()
    table = table.assign(more_ms_per_user=1e3 * table["more_s"] / table["users"])
    if "note" not in rows or rows["note"].eq("").all():
        return table
    case = ["plan", "users", "case"]
    return table.join(rows.set_index(case)["note"], on=case)


def draw(table: pd.DataFrame) -> Any:
    """What the fixed batch understates, and what planning for the shrinking one gains; milliseconds per user."""
    looks, shifts = line_looks(), asides(table["users"], len(LABELS))
    with framed(height=4.4) as (figure, axis):
        for (plan, label), look, aside in zip(LABELS.items(), looks, shifts, strict=False):
            rows = table[table["plan"] == plan]
            exact = share_exact(own_notes(table)) if plan == PROPOSED else ""
            mean_line(axis, rows, "users", "more_ms_per_user", aside, label=label + exact, **look)
        axis.set(xlabel=USERS, ylabel="QoE gained per user, ms", xticks=sorted(table["users"].unique()))
        from_zero(axis, 1e-2)
    return legend_below(figure, columns=1)


def own_notes(table: pd.DataFrame) -> "pd.Series[str]":
    """The notes of the proposed method's plans."""
    return notes_of(table.rename(columns={"plan": "method"}), PROPOSED)


def judge(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> list[Check]:
    """How much the paper's simplification costs, in cases where offloading gains anything."""
    claim = "The paper charges every step at the full batch."
    some = table[table["possible"] > TINY]
    if some.empty:
        return [Check(claim, FINDING, "offloading gains nothing in any of these cases")]
    share = (some["more_s"] / some["possible"]).groupby(some["plan"]).mean()
    evidence = (
        "with a batch that shrinks as users finish, in shares of what offloading gains: the proposed method's "
        f"plans are worth {share[PROPOSED]:.2%} more, the optimum's {share[OPTIMUM]:.2%}; a local search from "
        f"these finds {share[SEARCH]:.2%} on top"
    )
    return [with_remarks(Check(claim, FINDING, evidence), own_notes(table), proposed)]


SHRINKING = Experiment(
    name="shrinking", points=lambda size: size.users, cases=lambda size: size.slow_cases, rows=rows_of
)


def beyond_shrinking(proposed: str) -> Exhibit:
    """The price of the fixed batch, with this method as the proposed one."""
    return Exhibit(
        name="beyond_shrinking",
        title="Beyond: the price of the fixed batch",
        experiment=SHRINKING,
        table=lambda material: value_table(material.rows),
        draw=draw,
        judge=partial(judge, proposed=proposed),
        remarks=lambda table: remarks(own_notes(table), proposed),
    )

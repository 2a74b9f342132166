"""Beyond the paper: the price of its fixed batch, which charges every step at the batch of the first one."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ...optimizer.methods.scoring import score
from ..basis.checks import FINDING, TINY, Check
from ..basis.definitions import Exhibit, Experiment
from ..basis.look import USERS, framed, legend_below, line_looks, mean_line
from ..basis.scoring import Row, outcomes
from ..basis.setup import Setup
from ..basis.shrinking import improve, shrinking_value

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
        yield {**facts, "plan": name, "fixed_batch": totals.objective, "shrinking_batch": shrinks}


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
    return table.assign(more_ms_per_user=1e3 * table["more_s"] / table["users"])


def draw(table: pd.DataFrame) -> Any:
    """What the fixed batch understates, and what planning for the shrinking one gains; milliseconds per user."""
    with framed(height=4.6) as (figure, axis):
        for (plan, label), look in zip(LABELS.items(), line_looks(), strict=False):
            mean_line(axis, table[table["plan"] == plan], "users", "more_ms_per_user", label=label, **look)
        axis.set(xlabel=USERS, ylabel="QoE gained per user, ms", ylim=(0, None))
    return legend_below(figure, columns=1)


def judge(table: pd.DataFrame) -> list[Check]:
    """How much the paper's simplification costs, in cases where offloading gains anything."""
    claim = "The paper charges every step at the full batch."
    some = table[table["possible"] > TINY]
    if some.empty:
        return [Check(claim, FINDING, "offloading gains nothing in any of these cases")]
    share = (some["more_s"] / some["possible"]).groupby(some["plan"]).mean()
    return [
        Check(
            claim,
            FINDING,
            "with a batch that shrinks as users finish, in shares of what offloading gains: the proposed method's "
            f"plans are worth {share[PROPOSED]:.2%} more, the optimum's {share[OPTIMUM]:.2%}; a local search from "
            f"these finds {share[SEARCH]:.2%} on top",
        )
    ]


SHRINKING = Experiment(
    name="shrinking", points=lambda size: size.users, cases=lambda size: size.slow_cases, rows=rows_of
)
BEYOND_SHRINKING = Exhibit(
    name="beyond_shrinking",
    title="Beyond: the price of the fixed batch",
    experiment=SHRINKING,
    table=lambda material: value_table(material.rows),
    draw=draw,
    judge=judge,
)

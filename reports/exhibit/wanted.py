"""Beyond the paper: how many GPUs a wanted average latency needs."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...common.errors import counted
from ..basis.checks import FINDING, Check
from ..basis.definitions import Exhibit, Experiment
from ..basis.look import GPUS, framed, from_zero, palette, plain_ticks
from ..basis.scoring import Row, optimum_row
from ..basis.setup import ROUND_USERS, Setup


def rows_of(setup: Setup, gpus: int, number: int) -> Iterator[Row]:
    """One case: the optimum with this number of GPUs."""
    drawn = setup.case(ROUND_USERS, number)
    yield {"gpus": gpus, "case": number, **optimum_row(replace(drawn.scenario, gpus=gpus), drawn.users)}


def latency_by_gpus(rows: pd.DataFrame, goal_s: float | None) -> pd.DataFrame:
    """The optimum's average latency against G, the middle 80 % of cases, and the wanted latency, NaN for none."""
    groups = rows.groupby("gpus")["mean_latency_s"]
    table = pd.DataFrame({"mean": groups.mean(), "low": groups.quantile(0.1), "high": groups.quantile(0.9)})
    return table.reset_index().assign(goal_s=np.nan if goal_s is None else goal_s)


def draw(table: pd.DataFrame) -> Any:
    """The mean latency against GPUs, the middle 80 % of cases, and the GPUs that the wanted latency needs."""
    blue, orange = palette(2)
    goal = float(table["goal_s"].iloc[0])
    needed = fewest(table.set_index("gpus")["mean"], goal)
    with framed() as (figure, axis):
        axis.fill_between(
            table["gpus"], table["low"], table["high"], color=blue, alpha=0.2, linewidth=0, label="80 % of cases"
        )
        axis.plot(table["gpus"], table["mean"], "o-", color=blue, label="mean")
        if np.isfinite(goal):
            axis.axhline(goal, color=orange, linestyle="--", label=f"wanted: {goal:g} s")
        if needed:
            axis.axvline(needed, color=orange, linestyle=":", label=f"needs {counted(needed, 'GPU')}")
        axis.set(xlabel=GPUS, ylabel="average latency, s", xscale="log")
        from_zero(axis, 1e-3)
        plain_ticks(axis.xaxis, sorted(table["gpus"].unique()))
        axis.legend(loc="lower left")
    return figure


def judge(table: pd.DataFrame) -> list[Check]:
    """The fewest GPUs for the wanted latency, and for latencies within round shares of the best."""
    mean = table.set_index("gpus")["mean"]
    best, goal = float(mean.min()), float(table["goal_s"].iloc[0])
    within = [(percent, fewest(mean, (1 + percent / 100) * best)) for percent in (20, 10, 5)]
    wanted = ", ".join(f"{gpus} to within {percent} %" for percent, gpus in within)
    evidence = f"{mean.iloc[0]:.1f} s with {mean.index[0]}, at best {best:.1f} s; of it, fewest GPUs: {wanted}"
    if np.isfinite(goal):
        needed = fewest(mean, goal)
        answer = counted(needed, "GPU") if needed else f"more than the {mean.index[-1]} GPUs tried, or never"
        evidence = f"an average of {goal:g} s needs {answer}; {evidence}"
    return [Check("GPUs needed for a wanted average latency.", FINDING, evidence)]


def fewest(mean: "pd.Series[float]", most_s: float) -> int | None:
    """The fewest GPUs with an average latency of `most_s` or less; None where none of those tried has it."""
    enough = mean.index[mean <= most_s]
    return int(enough[0]) if len(enough) else None


WANTED = Experiment(name="wanted", points=lambda size: size.wanted_gpus, cases=lambda size: size.cases, rows=rows_of)
BEYOND_GPUS = Exhibit(
    name="beyond_gpus",
    title="Beyond: GPUs for a wanted latency",
    experiment=WANTED,
    table=lambda material: latency_by_gpus(material.rows, material.latency_goal_s),
    draw=draw,
    judge=judge,
)

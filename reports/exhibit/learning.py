"""Fig. 8: the learning curves of the shipped policies."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from ... import data
from ...common.arrays import Floats
from ..basis.checks import TINY, Check, judged
from ..basis.definitions import Exhibit
from ..basis.look import framed, palette

CURVES = {"general": "paper-general", "GPU-constrained": "gpu-8", "specific": "specific"}
"""The training whose learning curve stands for each scope; all have the paper's network."""
AVERAGED = ("episode_return", "optimum", "all_local", "captured_share")
WINDOW = 1000
"""Episodes of the moving average."""
LEARNT = 0.9
"""Captured share from which on an agent has learnt."""


def learning_table(curves: Mapping[str, str] = CURVES) -> pd.DataFrame:
    """The moving averages over episodes of the return, the optimum and the captured share of each scope."""
    tables = []
    for scope, name in curves.items():
        rows = pd.read_csv(data.FOLDER / "policies" / "curves" / f"{name}.csv")
        averages = {column: moving_average(rows["episode"], rows[column]) for column in AVERAGED}
        tables.append(pd.DataFrame({"scope": scope, "episode": rows["episode"], **averages}))
    return pd.concat(tables, ignore_index=True)


def moving_average(episode: "pd.Series[int]", value: "pd.Series[float]") -> Floats:
    """The mean over the last `WINDOW` episodes.

    Args:
        episode: number of the last episode of every row, ascending.
        value: mean over the episodes since the row before.
    """
    ends = episode.to_numpy(float)
    starts = np.concatenate([[0.0], ends[:-1]])
    sums = np.concatenate([[0.0], np.cumsum(value.to_numpy(float) * (ends - starts))])
    first = np.maximum(ends - WINDOW, 0.0)
    means: Floats = (sums[1:] - np.interp(first, [0.0, *ends], sums)) / (ends - first)
    return means


def draw(table: pd.DataFrame) -> Any:
    """A panel for each scope: the smoothed return of training, and the smoothed optimum of the same episodes."""
    scopes = list(table["scope"].unique())
    with framed(rows=len(scopes), height=6.6) as (figure, axes):
        for axis, scope, colour in zip(axes, scopes, palette(len(scopes)), strict=True):
            rows = table[table["scope"] == scope]
            thousands = rows["episode"] / 1e3
            axis.plot(thousands, rows["episode_return"], color=colour, linewidth=2, label=scope)
            axis.plot(thousands, rows["optimum"], color="0.1", linewidth=0.8, linestyle="--", label="optimum")
            axis.set(ylabel="return, s", xlabel="thousand episodes, mean over the last 1000")
            axis.legend(loc="lower right")
    return figure


def judge(table: pd.DataFrame) -> list[Check]:
    """Learns: 90 % are captured or more at the end, while the agent still explores.

    Fluctuation: the standard deviation of the last quarter of the curve about its own straight line.
    """
    last = table.groupby("scope", sort=False).tail(1).set_index("scope")["captured_share"]
    spread = {str(scope): _fluctuation(rows.tail(len(rows) // 4)) for scope, rows in table.groupby("scope", sort=False)}
    shares = ", ".join(f"{scope} {share:.1%}" for scope, share in last.items())
    words = ", ".join(f"{scope} {value:.2f} s" for scope, value in spread.items())
    return [
        Check("The agent learns in all three scopes.", judged(last >= LEARNT), f"captured at the end: {shares}"),
        Check(
            "The more general the scope, the more the curve fluctuates.",
            judged(a > b + TINY for a, b in pairwise(spread.values())),
            f"standard deviation of the smoothed return about its trend, last quarter: {words}",
        ),
    ]


def _fluctuation(rows: pd.DataFrame) -> float:
    """The standard deviation of a curve about the straight line through it."""
    x, y = rows["episode"].to_numpy(float), rows["episode_return"].to_numpy(float)
    return float(np.std(y - np.polyval(np.polyfit(x - x.mean(), y, 1), x - x.mean()), ddof=2))


FIG8 = Exhibit(
    name="fig8",
    title="Fig. 8: learning curves",
    claims="The agent learns in all scopes; the more general, the more its curve fluctuates.",
    table=lambda _: learning_table(),
    draw=draw,
    judge=judge,
)

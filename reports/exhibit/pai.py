"""Fig. 4: accuracy, personalisation and the Personalised Accuracy Index (PAI) against the split point."""

from typing import Any

import numpy as np
import pandas as pd

from ...fitting.pai import r_squared
from ...fitting.schemas import PaiCurveFile
from ..basis.checks import TINY, Check, judged, r2_of_line
from ..basis.definitions import Exhibit
from ..basis.look import SPLIT_POINT, framed, palette


def metrics_table(curve: PaiCurveFile) -> pd.DataFrame:
    """Fig. 4a: CLIP and LPIPS-bar at every split point, with their 95 % intervals."""
    rows = []
    for point in curve.points:
        for metric, value, ends in (
            ("CLIP", point.clip, point.clip_ci),
            ("LPIPS-bar", point.lpips, point.lpips_ci),
        ):
            low, high = ends or (value, value)
            rows.append({"local_steps": point.local_steps, "metric": metric, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


MEAN = "mean"
"""The `prompt` of the rows of Fig. 4b that are means over the prompts."""


def pai_table(curve: PaiCurveFile) -> pd.DataFrame:
    """Fig. 4b: at every split the mean PAI with its 95 % interval, the PAI of each prompt, and the fitted curve."""
    rows = []
    for point in curve.points:
        n, fitted = point.local_steps, float(curve.fit.curve().value(point.local_steps))
        low, high = point.pai_ci or (point.pai, point.pai)
        own = {str(number + 1): (pai, np.nan, np.nan) for number, pai in enumerate(point.prompt_pai)}
        for prompt, values in {MEAN: (point.pai, low, high), **own}.items():
            rows.append((n, prompt, *values, fitted))
    return pd.DataFrame(rows, columns=["local_steps", "prompt", "pai", "low", "high", "fitted"])


def draw_metrics(table: pd.DataFrame) -> Any:
    """Fig. 4a: CLIP and LPIPS-bar against the split point, with 95 % intervals."""
    with framed(rows=2, height=5.0, sharex=True) as (figure, axes):
        for axis, (metric, rows), colour in zip(axes, table.groupby("metric"), palette(2), strict=True):
            _interval_line(axis, rows, "value", colour)
            axis.set(ylabel={"CLIP": "CLIP similarity"}.get(str(metric), str(metric)), xlabel=SPLIT_POINT)
    return figure


def draw_pai(table: pd.DataFrame) -> Any:
    """Fig. 4b: the PAI of each prompt and its mean against the split point, and the fitted sigmoid."""
    blue, orange = palette(2)
    means, prompts = _means(table), table[table["prompt"] != MEAN]
    with framed() as (figure, axis):
        axis.scatter(
            prompts["local_steps"], prompts["pai"], s=9, color=blue, alpha=0.4, linewidths=0, label="one prompt"
        )
        _interval_line(axis, means, "pai", blue, fmt="o", label="mean, 95 % interval")
        axis.plot(means["local_steps"], means["fitted"], color=orange, label="fitted F(n)")
        axis.set(xlabel=SPLIT_POINT, ylabel="Personalised Accuracy Index")
        axis.legend(loc="lower right")
    return figure


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of Fig. 4b that are means over the prompts."""
    return table[table["prompt"] == MEAN]


def _interval_line(axis: Any, rows: pd.DataFrame, column: str, colour: Any, **look: Any) -> None:
    """Draw means with their intervals, as a line or as points.

    A bootstrap interval need not contain its mean: on the side of the end that the mean has passed there is no bar.
    """
    bars = np.maximum([rows[column] - rows["low"], rows["high"] - rows[column]], 0)
    axis.errorbar(rows["local_steps"], rows[column], bars, **{"fmt": "o-", "capsize": 3, "color": colour, **look})


def judge_metrics(table: pd.DataFrame) -> list[Check]:
    """Both fall: each is lower at the smallest n than at n = N, by more than the intervals. Falls are relative."""
    drops = {}
    for metric, rows in table.sort_values("local_steps").groupby("metric"):
        first, last = rows.iloc[0], rows.iloc[-1]
        drops[str(metric)] = (1 - first["value"] / last["value"], bool(first["high"] < last["low"]))
    clip, lpips = drops["CLIP"], drops["LPIPS-bar"]
    return [
        Check(
            "Accuracy (CLIP) and personalisation (LPIPS) both fall as more steps are offloaded.",
            judged([clip[1], lpips[1]]),
            f"from n = N to the smallest n CLIP falls by {clip[0]:.0%} and LPIPS-bar by {lpips[0]:.0%}",
        ),
        Check(
            "Personalisation falls more.", judged([lpips[0] > clip[0] + TINY]), f"{lpips[0]:.0%} against {clip[0]:.0%}"
        ),
    ]


def judge_pai(table: pd.DataFrame) -> list[Check]:
    """A sigmoid: R2 of the means at least 0.95, above the best straight line's, and inside most of their intervals."""
    means, points = _means(table), table[table["prompt"] != MEAN]
    r2 = r_squared(means["pai"].to_numpy(), means["fitted"].to_numpy()) or 0.0
    line = r2_of_line(means["local_steps"], means["pai"])
    inside = (means["low"] <= means["fitted"]) & (means["fitted"] <= means["high"])
    of_points = r_squared(points["pai"].to_numpy(), points["fitted"].to_numpy()) if len(points) else None
    single = f" (of the {len(points)} points of single prompts {of_points:.3f})" if of_points is not None else ""
    return [
        Check(
            "The PAI follows a sigmoid of the split point.",
            judged([r2 >= 0.95, r2 > line, bool(inside.mean() > 0.5)]),
            f"R2 = {r2:.3f}{single}, of the best straight line {line:.3f}; the curve leaves the means by "
            f"{(means['pai'] - means['fitted']).abs().max():.3f} at most, and lies in {inside.sum()} of their "
            f"{len(means)} 95 % intervals",
        )
    ]


FIG4A = Exhibit(
    name="fig4a",
    title="Fig. 4a: accuracy and personalisation",
    claims="Both fall as more steps are offloaded, personalisation the more.",
    table=lambda material: metrics_table(material.sources.curve),
    draw=draw_metrics,
    judge=judge_metrics,
)
FIG4B = Exhibit(
    name="fig4b",
    title="Fig. 4b: the Personalised Accuracy Index",
    claims="It follows a sigmoid of the split point.",
    table=lambda material: pai_table(material.sources.curve),
    draw=draw_pai,
    judge=judge_pai,
)

"""Fig. 4: accuracy, personalisation and the Personalised Accuracy Index (PAI) against the split point."""

from typing import Any

import numpy as np
import pandas as pd

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


def pai_table(curve: PaiCurveFile) -> pd.DataFrame:
    """Fig. 4b: the PAI at every split point with its 95 % interval, and the fitted curve there."""
    rows = []
    for point in curve.points:
        low, high = point.pai_ci or (point.pai, point.pai)
        fitted = float(curve.fit.curve().value(point.local_steps))
        rows.append({"local_steps": point.local_steps, "pai": point.pai, "low": low, "high": high, "fitted": fitted})
    return pd.DataFrame(rows)


def draw_metrics(table: pd.DataFrame) -> Any:
    """Fig. 4a: CLIP and LPIPS-bar against the split point, with 95 % intervals."""
    with framed(rows=2, height=5.0, sharex=True) as (figure, axes):
        for axis, (metric, rows), colour in zip(axes, table.groupby("metric"), palette(2), strict=True):
            _interval_line(axis, rows, "value", colour)
            axis.set(ylabel={"CLIP": "CLIP similarity"}.get(str(metric), str(metric)), xlabel=SPLIT_POINT)
    return figure


def draw_pai(table: pd.DataFrame) -> Any:
    """Fig. 4b: the PAI against the split point, and the fitted sigmoid."""
    blue, orange = palette(2)
    with framed() as (figure, axis):
        _interval_line(axis, table, "pai", blue, fmt="o", label="measured, 95 % interval")
        axis.plot(table["local_steps"], table["fitted"], color=orange, label="fitted F(n)")
        axis.set(xlabel=SPLIT_POINT, ylabel="Personalised Accuracy Index")
        axis.legend(loc="lower right")
    return figure


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
    """A sigmoid: R2 at least 0.95, above the best straight line's, and inside most of the 95 % intervals."""
    left = table["pai"] - table["fitted"]
    r2 = 1 - float((left**2).sum() / ((table["pai"] - table["pai"].mean()) ** 2).sum())
    line = r2_of_line(table["local_steps"], table["pai"])
    inside = float(((table["low"] <= table["fitted"]) & (table["fitted"] <= table["high"])).mean())
    return [
        Check(
            "The PAI follows a sigmoid of the split point.",
            judged([r2 >= 0.95, r2 > line, inside > 0.5]),
            f"R2 = {r2:.3f}, of the best straight line {line:.3f}; the curve leaves the means by "
            f"{left.abs().max():.3f} at most, and lies in {inside:.0%} of their 95 % intervals",
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

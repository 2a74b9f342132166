"""The picture of `plan --gpu-sweep`."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..common.errors import counted
from .planner import SweepPoint

PANELS = {
    "objective": "objective of (P1), s",
    "mean_latency_s": "mean latency, s",
    "mean_pai": "mean PAI",
}


def draw_sweep(points: Sequence[SweepPoint], bend: SweepPoint | None) -> Any:
    """Objective, mean latency and mean PAI against the number of GPUs; returns a matplotlib figure."""
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    table = pd.DataFrame(points)
    figure = Figure(figsize=(6.4, 7.2), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = figure.subplots(len(PANELS), 1, sharex=True)
    for axis, (column, label), colour in zip(axes, PANELS.items(), sns.color_palette("colorblind"), strict=False):
        sns.lineplot(table, x="gpus", y=column, marker="o", color=colour, ax=axis)
        axis.set(xlabel="GPUs at the edge server", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if bend:
            axis.axvline(bend.gpus, color="0.4", linestyle="--", linewidth=1)
    if bend:
        axes[0].set_title(f"knee at {counted(bend.gpus, 'GPU')}: more of them pay less from here on", fontsize="medium")
    return figure

"""The pictures of `plan --gpu-sweep` and `plan alpha`."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..common.errors import counted
from ..common.figures import drawn_text
from .advice import AlphaAdvice
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


def draw_advice(advice: AlphaAdvice, name: str) -> Any:
    """PAI and seconds of a device against emphasis and alpha, a line for each batch; returns a matplotlib figure."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = figure.subplots(2, 1, sharex=True)
    panels = (
        (axes[0], advice.at_batches.pai, advice.local_pai, "PAI"),
        (axes[1], advice.at_batches.latency_s, advice.local_latency_s, "seconds, without the wait"),
    )
    colours = sns.color_palette("viridis", len(advice.batches))
    for axis, values, alone, label in panels:
        axis.axhline(alone, color="0.4", linestyle="--", linewidth=1, label="all local")
        for batch, column, colour in zip(advice.batches, values.T, colours, strict=True):
            axis.plot(advice.emphasis, column, marker="o", markersize=4, color=colour, label=f"{batch} granted")
        axis.set(ylabel=label)
    axes[1].set(xlabel="emphasis")
    above = axes[0].secondary_xaxis("top")
    above.set_xticks(advice.emphasis[::2], [f"{alpha:.3g}" for alpha in advice.alpha[::2]])
    above.set_xlabel(rf"$\alpha$ of {drawn_text(name)}, s")
    axes[1].legend(fontsize="small")
    return figure

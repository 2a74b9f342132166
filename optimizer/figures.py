"""The pictures of `plan --gpu-sweep`, `plan --placement-sweep` and `plan alpha`."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..common.figures import drawn_text
from .advice import AlphaAdvice
from .planner import GPUS, AnyPoint, SweepAxis

PANELS = {
    "objective": "objective of (P1), s",
    "mean_latency_s": "mean latency, s",
    "mean_pai": "mean PAI",
}


def draw_sweep(points: Sequence[AnyPoint], bend: AnyPoint | None, axis: SweepAxis = GPUS) -> Any:
    """Objective, mean latency and mean PAI against what is swept; returns a matplotlib figure."""
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    table = pd.DataFrame(points)
    figure = Figure(figsize=(6.4, 7.2), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = figure.subplots(len(PANELS), 1, sharex=True)
    for panel, (column, label), colour in zip(axes, PANELS.items(), sns.color_palette("colorblind"), strict=False):
        sns.lineplot(table, x=axis.column, y=column, marker="o", color=colour, ax=panel)
        panel.set(xlabel=axis.label, ylabel=label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        if bend:
            panel.axvline(getattr(bend, axis.column), color="0.4", linestyle="--", linewidth=1)
    if bend:
        at = getattr(bend, axis.column)
        words = f"{at:,} {axis.unit if at == 1 else axis.units}"
        axes[0].set_title(f"knee at {words}: more pays less from here on", fontsize="medium")
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

"""The pictures of a simulation: load and grants over time, latencies, gain against load; and of a trace."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..common.arrays import Floats
from ..common.figures import drawn_text
from .runs import Run
from .summary import ALL_LOCAL, HINDSIGHT, Methods
from .traces import HOUR_S, TraceRows

WIDTH, HEIGHT = 6.4, 3.8
MOST_POINTS = 600
"""Points of a line over time; more rounds are averaged."""


def draw_timeline(methods: Methods, interval_s: float) -> Any:
    """Requests per second, and images in flight under each way to decide, over time; returns a matplotlib figure."""
    figure, (above, below) = _axes(2, 5.2)
    runs = {name: found[0] for name, found in methods.items() if name not in (ALL_LOCAL, HINDSIGHT)}
    first = next(iter(runs.values()), None) or next(iter(methods.values()))[0]
    width = _bin(first, interval_s)
    time_s = _column(first, "round") * interval_s
    edges = np.arange(0, time_s.max(initial=0) + 2 * width, width)
    counts, _ = np.histogram(time_s, edges)
    above.step(edges[:-1], counts / width, where="post", color="0.4", label="requests")
    colours = _colours(methods)
    for name, run in runs.items():
        colour = colours[name]
        granted, _ = np.histogram(time_s, edges, weights=_column(run, "granted"))
        above.step(
            edges[:-1], granted / width, where="post", color=colour, linewidth=1, label=f"granted, {drawn_text(name)}"
        )
        below.step(
            edges[:-1], _means(time_s, _column(run, "in_flight_met"), edges), where="post", color=colour, linewidth=1
        )
    above.set(ylabel="per second", ylim=(0, None))
    below.set(xlabel="time, s", ylabel="images in flight", ylim=(0, None))
    figure.legend(*above.get_legend_handles_labels(), fontsize=8, ncols=3, loc="outside lower center")
    return figure


def draw_latency(methods: Methods) -> Any:
    """The share of requests whose image was there within a time; returns a matplotlib figure."""
    figure, (axis,) = _axes(1, HEIGHT)
    colours = _colours(methods)
    for name, runs in methods.items():
        latency = np.sort(np.concatenate([_column(run, "latency_s") for run in runs]))
        shown = np.unique(np.linspace(0, latency.size - 1, 2000).astype(int))
        style = {ALL_LOCAL: ":", HINDSIGHT: "--"}.get(name, "-")
        axis.plot(latency[shown], (shown + 1) / latency.size, style, color=colours[name], label=drawn_text(name))
    axis.set(xlabel="time from request to image, s", ylabel="share of requests", ylim=(0, 1), xscale="log")
    axis.legend(fontsize=8)
    return figure


def draw_load(methods: Methods) -> Any:
    """The mean gain of a request over all local against the images in flight it met; returns a matplotlib figure."""
    import seaborn as sns

    figure, (axis,) = _axes(1, HEIGHT)
    colours = _colours(methods)
    for name, runs in methods.items():
        if name == ALL_LOCAL:
            continue
        met = np.concatenate([_column(run, "in_flight_met") for run in runs])
        gain = np.concatenate(
            [_column(run, "qoe") - _column(own, "qoe") for run, own in zip(runs, methods[ALL_LOCAL], strict=True)]
        )
        width = max(1, int(np.ceil((met.max(initial=0) + 1) / 12)))
        table = pd.DataFrame({"met": met // width * width + (width - 1) / 2, "gain": gain})
        sns.lineplot(
            table, x="met", y="gain", errorbar=None, color=colours[name], marker="o", label=drawn_text(name), ax=axis
        )
    axis.axhline(0, color="0.6", linewidth=1)
    axis.set(xlabel="images in flight that a request met", ylabel="gain over all local, s")
    axis.legend(fontsize=8)
    return figure


def _axes(rows: int, height: float, sharex: bool = True) -> tuple[Any, Sequence[Any]]:
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = figure.subplots(rows, 1, sharex=sharex, squeeze=False)[:, 0]
    return figure, list(axes)


def _colours(methods: Methods) -> dict[str, Any]:
    """A colour for every way to decide, the same in all pictures."""
    import seaborn as sns

    palette = [*sns.color_palette("colorblind", 10), *sns.color_palette("dark", 10)]
    return {name: palette[place % len(palette)] for place, name in enumerate(methods)}


def _bin(run: Run, interval_s: float) -> float:
    """Seconds of one point of a line over time."""
    rounds = float(_column(run, "round").max(initial=0)) + 1
    return float(interval_s * max(1, np.ceil(rounds / MOST_POINTS)))


def _means(time_s: Any, values: Any, edges: Any) -> Any:
    """The mean of the values in every interval; where there is none, that of the interval before."""
    counts, _ = np.histogram(time_s, edges)
    sums, _ = np.histogram(time_s, edges, weights=values)
    known = np.maximum.accumulate(np.where(counts > 0, np.arange(counts.size), 0))
    return (sums / np.maximum(counts, 1))[known]


def _column(run: Run, name: str) -> Any:
    return np.asarray(run.rows[name]).astype(float)


def draw_trace(rows: TraceRows) -> Any:
    """Arrivals per hour, the times between requests, and images per request; returns a matplotlib figure."""
    figure, axes = _axes(3, 7.0, sharex=False)
    hours = np.arange(0, rows.time_s[-1] / HOUR_S + 1)
    counts, _ = np.histogram(rows.time_s / HOUR_S, np.append(hours, hours[-1] + 1))
    axes[0].step(hours, counts, where="post", color="C0")
    axes[0].set(xlabel="time, hours", ylabel="requests per hour", ylim=(0, None))
    gaps = np.sort(rows.gaps_s[rows.gaps_s > 0])
    axes[1].plot(gaps, 1 - np.arange(gaps.size) / max(gaps.size, 1), color="C0", label="trace")
    if gaps.size:
        mean = float(np.mean(rows.gaps_s))
        axes[1].plot(gaps, np.exp(-gaps / mean), "--", color="0.5", label="Poisson process of this rate")
        axes[1].set(xscale="log", yscale="log", ylim=(0.5 / gaps.size, 1.5))
        axes[1].legend(fontsize=8)
    axes[1].set(xlabel="time between requests, s", ylabel="share that is longer")
    sizes, numbers = np.unique(rows.images, return_counts=True)
    axes[2].bar([str(size) for size in sizes], numbers, color="C0")
    axes[2].set(xlabel="images per request", ylabel="requests")
    return figure


def draw_planned(planned_s: Floats, measured_s: Floats, errors: Floats) -> Any:
    """Planned against measured latency of every granted request, and how their errors are spread; a matplotlib figure.

    Args:
        planned_s: seconds, shape (granted,).
        measured_s: seconds, the same shape.
        errors: relative errors, the same shape.
    """
    figure, (above, below) = _axes(2, 6.4, sharex=False)
    above.plot(planned_s, measured_s, "o", markersize=4, alpha=0.6)
    most = float(max(planned_s.max(initial=0), measured_s.max(initial=0))) * 1.05 or 1.0
    above.plot([0, most], [0, most], "--", color="0.5", linewidth=1)
    above.set(xlabel="planned latency, s", ylabel="measured latency, s", xlim=(0, most), ylim=(0, most))
    ordered = np.sort(errors)
    below.plot(100 * ordered, (np.arange(ordered.size) + 1) / max(ordered.size, 1), drawstyle="steps-post")
    below.set(xlabel="|planned - measured| / measured, %", ylabel="share of requests", ylim=(0, 1), xlim=(0, None))
    return figure

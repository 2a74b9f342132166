"""The paper's Fig. 3 for measured profiles: step latency against batch size."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from ..common.arrays import Floats
from ..fitting.latency import bootstrap_lines
from ..fitting.schemas import LatencyProfile

MARKERS = "osD^vP"
POINTS_SHOWN = 200
"""Most samples that are drawn per batch size; more would only darken the picture."""


def draw_profiles(profiles: Sequence[LatencyProfile]) -> Any:
    """A matplotlib figure: samples, medians with intervals, fitted lines with bands, and residuals below."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6.4), layout="constrained")
    with sns.axes_style("whitegrid"):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    colours = sns.color_palette("colorblind", len(profiles))
    for profile, colour, marker in zip(profiles, colours, cycle(MARKERS)):
        _draw_samples(upper, profile, colour, marker)
        _draw_line(upper, profile, colour, marker)
        _draw_residuals(lower, profile, colour, marker)
    upper.set(ylabel="one denoising step, ms", ylim=(0, None))
    upper.legend(loc="upper left", fontsize="small")
    lower.axhline(0, color="0.4", linewidth=1)
    lower.set(xlabel="batch, images", ylabel="measured / fit - 1, %")
    return figure


def _draw_samples(axis: Any, profile: LatencyProfile, colour: Any, marker: str) -> None:
    rng = np.random.default_rng(0)
    for sample in profile.samples:
        durations = np.array(sample.durations_s or [])
        durations = durations[:: -(-durations.size // POINTS_SHOWN) or 1]
        spread = sample.batch + rng.uniform(-0.1, 0.1, durations.size)
        axis.scatter(spread, 1e3 * durations, s=4, color=colour, alpha=0.15, linewidths=0)
    batches, medians, low, high = _medians(profile)
    bars = 1e3 * np.array([medians - low, high - medians])
    axis.errorbar(batches, 1e3 * medians, bars, fmt=marker, color=colour, capsize=3)


def _draw_line(axis: Any, profile: LatencyProfile, colour: Any, marker: str) -> None:
    fit, most = profile.fit, max([16, *(sample.batch for sample in profile.samples)])
    batches = np.linspace(1, most, 200)
    line = f"{1e3 * fit.slope_s:.2f} b + {1e3 * fit.intercept_s:.2f}"
    latency = f"max({1e3 * fit.floor_s:.1f}, {line})" if fit.floor_s else line
    label = f"{profile.device}, {profile.model}, {profile.dtype}: {latency} ms"
    axis.plot(batches, 1e3 * fit.model().step_latency(batches), color=colour)
    axis.plot([], [], f"{marker}-", color=colour, label=label)
    if all(sample.durations_s for sample in profile.samples) and profile.samples:
        visits = {sample.batch: [[s] for s in sample.durations_s or []] for sample in profile.samples}
        low, high = np.quantile(bootstrap_lines(visits, fit.model(), batches), [0.025, 0.975], axis=0)
        axis.fill_between(batches, 1e3 * low, 1e3 * high, color=colour, alpha=0.2, linewidth=0)


def _draw_residuals(axis: Any, profile: LatencyProfile, colour: Any, marker: str) -> None:
    batches, medians, low, high = _medians(profile)
    fitted = profile.fit.model().step_latency(batches)
    relative, bars = 100 * (medians / fitted - 1), 100 * np.array([medians - low, high - medians]) / fitted
    axis.errorbar(batches, relative, bars, fmt=marker, color=colour, capsize=3)


def _medians(profile: LatencyProfile) -> tuple[Floats, Floats, Floats, Floats]:
    """Batch sizes, medians, and both ends of their intervals, which are the median itself where nothing is known."""
    rows = [
        (s.batch, s.median_s, s.median_s if s.ci_low_s is None else s.ci_low_s, s.ci_high_s or s.median_s)
        for s in profile.samples
    ]
    batches, medians, low, high = np.array(rows, float).reshape(-1, 4).T
    return batches, medians, low, high

"""The paper's Fig. 3 for measured profiles: step latency against batch size."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from ..common.arrays import Floats
from ..common.figures import drawn_text
from ..fitting.latency import bootstrap_lines
from ..fitting.schemas import LatencyProfile

MARKERS = "osD^vP"
MOST_ESTIMATED = 16
"""Largest batch size that a line is drawn to where nothing was measured."""
MOST_INSIDE = 6
"""Most profiles whose legend stands inside the picture."""
HEADROOM = 1.15
"""Ratio of the top of the axis to the highest median or line."""
POINTS_SHOWN = 200
"""Most samples that are drawn per batch size; more would only darken the picture."""


def draw_profiles(profiles: Sequence[LatencyProfile]) -> Any:
    """A matplotlib figure: samples, medians with intervals, fitted lines with bands, and residuals below.

    Lines are dashed outside the batch sizes that were measured; a single batch size has none. The axes follow medians
    and lines; samples far above them do not fit in, and are counted instead.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6.4), layout="constrained")
    with sns.axes_style("whitegrid"):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    colours = sns.color_palette("colorblind", len(profiles))
    sizes = [sample.batch for profile in profiles for sample in profile.samples]
    most = min(MOST_ESTIMATED, max(sizes, default=MOST_ESTIMATED))
    for profile, colour, marker in zip(profiles, colours, cycle(MARKERS)):
        _draw_samples(upper, profile, colour, marker)
        _draw_line(upper, profile, most, colour, marker)
        _draw_residuals(lower, profile, colour, marker)
    top_s = highest_s(profiles, most)
    upper.set(ylabel="one denoising step, ms", ylim=(0, 1e3 * top_s))
    if not all(profile.one_size or _covers(profile, most) for profile in profiles):
        upper.plot([], [], "--", color="0.4", label="dashed: batch sizes that were not measured")
    if above := sum(seconds > top_s for profile in profiles for seconds in _durations(profile)):
        upper.plot([], [], " ", label=f"not shown: {above:,} slower samples")
    if len(profiles) > MOST_INSIDE:
        figure.set_figheight(6.4 + 0.2 * len(profiles))
        figure.legend(loc="outside lower center", fontsize="small")
    else:
        upper.legend(loc="upper left", fontsize="small")
    lower.axhline(0, color="0.4", linewidth=1)
    reach = 100 * max((_worst_residual(profile) for profile in profiles), default=0)
    lower.set(xlabel="batch, images", ylabel="measured / fit - 1, %", ylim=(-1.4 * reach - 1, 1.4 * reach + 1))
    return figure


def highest_s(profiles: Sequence[LatencyProfile], most: int) -> float:
    """The top of the upper axis: a little above all medians, and all lines up to batch size `most`; seconds."""
    medians = [sample.median_s for profile in profiles for sample in profile.samples]
    lines = [float(profile.fit.model().step_latency(most)) for profile in profiles if not profile.one_size]
    return HEADROOM * max(medians + lines)


def _covers(profile: LatencyProfile, most: int) -> bool:
    """Whether a profile was measured at both ends of the batch sizes 1 to `most`."""
    measured = _measured(profile)
    return measured is not None and measured[0] == 1 and measured[1] >= most


def _durations(profile: LatencyProfile) -> Iterator[float]:
    for sample in profile.samples:
        yield from sample.durations_s or []


def _measured(profile: LatencyProfile) -> tuple[int, int] | None:
    """The smallest and the largest batch size that was measured; None where none was."""
    sizes = [sample.batch for sample in profile.samples]
    return (min(sizes), max(sizes)) if sizes else None


def _worst_residual(profile: LatencyProfile) -> float:
    """The largest |measured / fit - 1| of a profile's medians."""
    model = profile.fit.model()
    return max((abs(s.median_s / float(model.step_latency(s.batch)) - 1) for s in profile.samples), default=0.0)


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


def _draw_line(axis: Any, profile: LatencyProfile, most: int, colour: Any, marker: str) -> None:
    """The fitted line up to batch size `most`, dashed where nothing was measured, and its band."""
    fit, measured = profile.fit, _measured(profile)
    if profile.one_size:
        axis.plot([], [], marker, color=colour, label=_label(profile))
        return
    first, last = measured or (1, 1)  # nothing was measured: the line is dashed all along
    for start, end, style in ((1, first, "--"), (first, last, "-"), (last, most, "--")):
        if start < end:
            batches = np.linspace(start, end, 200)
            axis.plot(batches, 1e3 * fit.model().step_latency(batches), style, color=colour)
    axis.plot([], [], f"{marker}{'-' if measured else '--'}", color=colour, label=_label(profile))
    if all(sample.durations_s for sample in profile.samples) and profile.samples:
        batches = np.linspace(first, last, 200)
        visits = {sample.batch: [[s] for s in sample.durations_s or []] for sample in profile.samples}
        low, high = np.quantile(bootstrap_lines(visits, fit.model(), batches), [0.025, 0.975], axis=0)
        axis.fill_between(batches, 1e3 * low, 1e3 * high, color=colour, alpha=0.2, linewidth=0)


def _label(profile: LatencyProfile) -> str:
    fit = profile.fit
    line = f"{1e3 * fit.slope_s:.2f} b + {1e3 * fit.intercept_s:.2f}"
    latency = f"max({1e3 * fit.floor_s:.1f}, {line})" if fit.floor_s else line
    if profile.one_size:
        latency = f"{1e3 * profile.samples[0].median_s:.2f}"
    return f"{drawn_text(profile.device_name)}, {drawn_text(profile.model, 24)}, {profile.number_format}: {latency} ms"


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

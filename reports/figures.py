"""The figures: each function takes one tidy table and returns a matplotlib figure; nothing is computed here.

Means over cases and their intervals are seaborn's.

One look for all: colours safe for colour-blind readers, the same colour for a method everywhere, units on every axis,
letters that stay readable at the width of a phone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from .setup import OWN
from .verdicts import fewest

WIDTH, HEIGHT = 5.6, 4.0
METHODS = {
    "drl": ("proposed (DRL-convex)", 0, "o", "-"),
    "exact": ("exact optimum", 1, "X", "--"),
    "offload-all": ("baseline 1: all offload", 2, "s", "-"),
    "offload-all-fixed": (r"baseline 2: split at $\hat{N}$", 3, "^", "-"),
    "offload-all-nhat": (r"baseline 2: $\hat{N}$ steps offloaded", 4, "v", "-"),
    "all-local": ("baseline 3: all local", 5, "D", "-"),
    "ilp-fixed": ("branch & bound (fixed split)", 2, "s", "-"),
    "ilp-joint": ("branch & bound (joint)", 7, "D", "-"),
    "genetic": ("genetic, split inside", 4, "v", ":"),
    "genetic-joint": ("genetic, split a gene", 3, "^", "-"),
}
"""Name, colour, marker and line of every method in figures; those on which others lie are broken lines."""


def fig3(table: pd.DataFrame) -> Any:
    """Step latency against batch, a line per GPU, of some of those in the table; measured medians as points."""
    shown = table[table["drawn"]]
    with _figure(height=4.6) as (figure, axis):
        for (device, rows), look in zip(shown.groupby("device", sort=False), _looks(), strict=False):
            fit, points = (rows[rows["what"] == what] for what in ("fit", "measured"))
            label = f"{device}, estimated" if (rows["source"] == "estimated").all() else str(device)
            axis.plot(fit["batch"], 1e3 * fit["step_s"], **{**look, "marker": ""})
            axis.plot(points["batch"], 1e3 * points["step_s"], **{**look, "linestyle": ""})
            axis.plot([], [], **look, label=label)
        axis.set(xlabel="batch, images", ylabel="one denoising step, ms", yscale="log", xscale="log")
        _plain_ticks(axis.xaxis, sorted(set(table["batch"]) & {1, 2, 4, 8, 16, 32, 64, 128}))
    return _legend(figure)


def fig4a(table: pd.DataFrame) -> Any:
    """CLIP and LPIPS-bar against the split point, with 95 % intervals."""
    with _figure(rows=2, height=5.0, sharex=True) as (figure, axes):
        for axis, (metric, rows), colour in zip(axes, table.groupby("metric"), _palette(2), strict=True):
            _interval_line(axis, rows, "value", colour)
            axis.set(ylabel={"CLIP": "CLIP similarity"}.get(str(metric), str(metric)), xlabel=SPLIT)
    return figure


def fig4b(table: pd.DataFrame) -> Any:
    """PAI against the split point, and the fitted sigmoid."""
    blue, orange = _palette(2)
    with _figure() as (figure, axis):
        _interval_line(axis, table, "pai", blue, fmt="o", label="measured, 95 % interval")
        axis.plot(table["local_steps"], table["fitted"], color=orange, label="fitted F(n)")
        axis.set(xlabel=SPLIT, ylabel="Personalised Accuracy Index")
        axis.legend(loc="lower right")
    return figure


def fig7a(table: pd.DataFrame) -> Any:
    """Offloaded steps against alpha: colours are devices, line styles batch sizes."""
    return _splits(table, "device", "")


def fig7b(table: pd.DataFrame) -> Any:
    """Offloaded steps against alpha: colours are numbers of GPUs, line styles batch sizes."""
    return _splits(table, "gpus", "G =")


def fig8(table: pd.DataFrame) -> Any:
    """The smoothed return of training, a panel per scope, and the smoothed optimum of the same episodes."""
    scopes = list(table["scope"].unique())
    with _figure(rows=len(scopes), height=6.6) as (figure, axes):
        for axis, scope, colour in zip(axes, scopes, _palette(len(scopes)), strict=True):
            rows = table[table["scope"] == scope]
            thousands = rows["episode"] / 1e3
            axis.plot(thousands, rows["optimum"], color="0.4", linewidth=1, linestyle="--", label="optimum")
            axis.plot(thousands, rows["episode_return"], color=colour, label=scope)
            axis.set(ylabel="return, s", xlabel="thousand episodes (mean over the last 1000)")
            axis.legend(loc="lower right")
    return figure


def fig9a(table: pd.DataFrame) -> Any:
    """Average QoE of the scopes."""
    return _scopes(table, "qoe_per_user", "average QoE per user, s")


def fig9b(table: pd.DataFrame) -> Any:
    """Average PAI of the scopes."""
    return _scopes(table, "mean_pai", "average PAI")


def fig9c(table: pd.DataFrame) -> Any:
    """Average latency of the scopes."""
    return _scopes(table, "mean_latency_s", "average latency, s")


def fig10a(table: pd.DataFrame) -> Any:
    """Average QoE against users: proposed, baselines, optimum; means with 95 % intervals."""
    return _methods(table, "users", "qoe_per_user", "users of a round", "average QoE per user, s")


def fig10b(table: pd.DataFrame) -> Any:
    """Average QoE against GPUs: the same."""
    return _methods(table, "gpus", "qoe_per_user", "edge GPUs", "average QoE per user, s")


def fig11(table: pd.DataFrame) -> Any:
    """Average QoE against users of proposed, peers and optimum; below, the captured share of every case."""
    import seaborn as sns

    names = _present(table)
    users = sorted(table["users"].unique())
    shown = table.assign(
        place=table["users"].map(users.index),
        share=100 * table["captured_share"],
        name=table["method"].map(lambda name: METHODS[name][0]),
    )
    with _figure(rows=2, height=6.4, sharex=True) as (figure, axes):
        _mean_lines(axes[0], shown, "place", "qoe_per_user")
        sns.boxplot(
            shown, x="place", y="share", hue="name", ax=axes[1], legend=False, fliersize=2, linewidth=1.2, gap=0.2,
            fill=False,
            hue_order=[METHODS[name][0] for name in names], palette=[_look(name)["color"] for name in names],
        )  # fmt: skip
        axes[0].set(ylabel="average QoE per user, s")
        axes[1].set(xlabel="users of a round", ylabel="captured share, %")
        axes[1].set_xticks(range(len(users)), [str(count) for count in users])
    return _legend(figure)


def table1(table: pd.DataFrame) -> Any:
    """Planning time against users on log axes."""
    with _figure(height=4.6) as (figure, axis):
        for name in _present(table):
            rows = table[(table["method"] == name) & table["seconds"].notna()]
            axis.plot(rows["users"], rows["seconds"], **_look(name))
        axis.set(xscale="log", yscale="log", xlabel="users of a round, I", ylabel="planning time, s")
        _plain_ticks(axis.xaxis, sorted(table["users"].unique()))
    return _legend(figure)


def beyond_shrinking(table: pd.DataFrame) -> Any:
    """What the fixed batch understates, and what planning for the shrinking one gains; milliseconds per user."""
    lines = {
        "proposed": "proposed plan re-scored with the shrinking batch",
        "optimum": "optimum re-scored with it",
        "search": "gained on top of the optimum by planning for it",
    }
    with _figure(height=4.6) as (figure, axis):
        for (plan, label), look in zip(lines.items(), _looks(), strict=False):
            _mean_line(axis, table[table["plan"] == plan], "users", "more_ms_per_user", label=label, **look)
        axis.set(xlabel="users of a round", ylabel="QoE gained per user, ms", ylim=(0, None))
    return _legend(figure, columns=1)


def beyond_sensitivity(table: pd.DataFrame) -> Any:
    """What is lost by planning with a parameter at the end of its interval."""
    import seaborn as sns

    names = {"steepness": "$a_F$", "midpoint": "$b_F$", "slope_s": "$k_e$", "intercept_s": "$h_e$", OWN: "$L_i$"}
    shown = table.assign(lost=100 * table["lost_share"], name=table["parameter"].map(names))
    with _figure() as (figure, axis):
        sns.boxplot(
            shown, x="name", y="lost", hue="end", ax=axis, palette=_palette(2), fliersize=2, linewidth=0.8, gap=0.1
        )
        axis.set(xlabel="planned with this parameter at an end of its interval", ylabel="lost share of the gain, %")
        axis.legend(title="end")
    return figure


def beyond_latents(table: pd.DataFrame) -> Any:
    """Average QoE and granted users of the optimum, for two sizes of the intermediate."""
    with _figure(rows=2, height=5.4, sharex=True) as (figure, axes):
        sizes = sorted(table["latent_bits"].unique(), reverse=True)
        for size, look in zip(sizes, _looks(), strict=False):
            rows = table[table["latent_bits"] == size]
            for axis, column in zip(axes, ("qoe_per_user", "granted"), strict=True):
                _mean_line(axis, rows, "users", column, label=f"{size:,.0f} bit", **look)
        axes[0].set(ylabel="average QoE per user, s")
        axes[1].set(ylabel="granted users", xlabel="users of a round", ylim=(0, None))
    return _legend(figure)


def beyond_gpus(table: pd.DataFrame) -> Any:
    """Mean latency of the optimum against GPUs, the middle 80 % of cases, and the GPUs that a wanted latency needs."""
    blue, orange = _palette(2)
    goal = float(table["goal_s"].iloc[0])
    needed = fewest(table.set_index("gpus")["mean"], goal)
    with _figure() as (figure, axis):
        axis.fill_between(
            table["gpus"], table["low"], table["high"], color=blue, alpha=0.2, linewidth=0, label="80 % of cases"
        )
        axis.plot(table["gpus"], table["mean"], "o-", color=blue, label="mean")
        if np.isfinite(goal):
            axis.axhline(goal, color=orange, linestyle="--", label=f"wanted: {goal:g} s")
        if needed:
            axis.axvline(needed, color=orange, linestyle=":", label=f"needs {needed} GPUs")
        axis.set(xlabel="edge GPUs", ylabel="average latency, s", xscale="log", ylim=(0, None))
        _plain_ticks(axis.xaxis, sorted(table["gpus"].unique()))
        axis.legend(loc="lower left")
    return figure


# -- the one look -------------------------------------------------------------------------------------------

SPLIT = "split point n, local steps"
MARKERS = ("o", "X", "s", "^", "v", "D")
STYLE: Any = {
    "font.size": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 9.5,
    "legend.title_fontsize": 9.5,
    "svg.hashsalt": "edgesplit",
}


@contextmanager
def _figure(rows: int = 1, height: float = HEIGHT, sharex: bool = False) -> Iterator[tuple[Any, Any]]:
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.figure import Figure

    with sns.axes_style("whitegrid"), mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots(rows, 1, sharex=sharex)


def _legend(figure: Any, columns: int = 2) -> Any:
    """A legend below the axes, where it covers no data."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9.5)
    return figure


def _looks() -> Iterator[dict[str, Any]]:
    """Colour, marker and line style of one line after the other, told apart without the colour too."""
    styles = zip(_palette(8), MARKERS, ("-", "--", ":", "-.", "-", "--"), strict=False)
    return ({"color": c, "marker": m, "linestyle": line, "markersize": 5} for c, m, line in styles)


def _palette(count: int) -> list[Any]:
    import seaborn as sns

    return list(sns.color_palette("colorblind", count))


def _colours(names: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(names, _palette(len(names)), strict=True))


def _present(table: pd.DataFrame) -> list[str]:
    known = set(table["method"])
    return [name for name in METHODS if name in known]


def _look(method: str) -> dict[str, Any]:
    label, colour, marker, line = METHODS[method]
    return {"label": label, "color": _palette(8)[colour], "marker": marker, "linestyle": line}


def _methods(table: pd.DataFrame, x: str, y: str, xlabel: str, ylabel: str) -> Any:
    with _figure(height=4.6) as (figure, axis):
        _mean_lines(axis, table, x, y)
        axis.set(xlabel=xlabel, ylabel=ylabel)
    return _legend(figure)


def _mean_lines(axis: Any, table: pd.DataFrame, x: str, y: str) -> None:
    for name in _present(table):
        _mean_line(axis, table[table["method"] == name], x, y, **_look(name))


def _mean_line(axis: Any, rows: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    """The mean over cases, with a bar of 1.96 standard errors."""
    import seaborn as sns

    bars: Any = {"errorbar": ("se", 1.96), "err_style": "bars", "err_kws": {"capsize": 2}}
    sns.lineplot(rows, x=x, y=y, ax=axis, legend=False, markeredgewidth=0, **bars, **look)


def _scopes(table: pd.DataFrame, column: str, label: str) -> Any:
    scopes = list(table["scope"].unique())
    with _figure(height=4.4) as (figure, axis):
        for scope, colour, marker in zip(scopes, _palette(len(scopes)), MARKERS, strict=False):
            rows = table[table["scope"] == scope]
            line = {"optimum": "--", "all local": ":"}.get(scope, "-")
            places = [str(gpus) for gpus in rows["gpus"]]
            axis.plot(places, rows[column], color=colour, marker=marker, linestyle=line, label=scope, markersize=5)
        axis.set(xlabel="edge GPUs", ylabel=label)
    return _legend(figure)


def _splits(table: pd.DataFrame, column: str, title: str) -> Any:
    from matplotlib.lines import Line2D

    names, batches = list(table[column].unique()), list(table["batch"].unique())
    colours, lines = _colours(names), dict(zip(batches, ("-", "--", ":"), strict=False))
    with _figure(height=4.4) as (figure, axis):
        for (name, batch), rows in table.groupby([column, "batch"], sort=False):
            axis.plot(rows["alpha"], rows["offloaded_steps"], color=colours[name], linestyle=lines[batch])
        axis.set(xlabel=r"$\alpha$, s", ylabel="offloaded steps, N - n", xscale="log")
    keys = [Line2D([], [], color=colour, label=f"{title} {name}".strip()) for name, colour in colours.items()]
    keys += [Line2D([], [], color="0.3", linestyle=line, label=f"batch {batch}") for batch, line in lines.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=9.5)
    return figure


def _interval_line(axis: Any, rows: pd.DataFrame, column: str, colour: Any, **look: Any) -> None:
    """Means with their intervals, from which a mean may lie outside where a draw rarely does better."""
    bars = np.maximum([rows[column] - rows["low"], rows["high"] - rows[column]], 0)
    axis.errorbar(rows["local_steps"], rows[column], bars, **{"fmt": "o-", "capsize": 3, "color": colour, **look})


def _plain_ticks(axis: Any, ticks: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_ticks(ticks, [str(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())

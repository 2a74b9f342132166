"""The figures: each function takes one tidy table and returns a matplotlib figure; nothing is computed here but means.

One look for all: colours safe for colour-blind readers, the same colour for a method everywhere, units on every axis,
letters that stay readable at the width of a phone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

WIDTH, HEIGHT = 5.6, 4.0
METHODS = {
    "drl": "proposed (DRL-convex)",
    "exact": "exact optimum",
    "offload-all": "baseline 1: all offload",
    "offload-all-fixed": r"baseline 2: split at $\hat{N}$",
    "offload-all-nhat": r"baseline 2: $\hat{N}$ steps offloaded",
    "all-local": "baseline 3: all local",
    "ilp-fixed": "branch & bound (fixed split)",
    "ilp-joint": "branch & bound (joint)",
    "genetic": "genetic, split inside",
    "genetic-joint": "genetic, split a gene",
}
"""How methods are called in figures, in the order of their colours."""
MARKERS = ("o", "X", "s", "^", "v", "D", "P", "<", ">", "*")


def fig3(table: pd.DataFrame) -> Any:
    """Step latency against batch, a line per GPU; measured medians as points."""
    colours = _colours(table["device"].unique())
    with _figure() as (figure, axis):
        for device, rows in table.groupby("device", sort=False):
            fit, points = (rows[rows["what"] == what] for what in ("fit", "measured"))
            label = f"{device}, estimated" if (rows["source"] == "estimated").all() else str(device)
            axis.plot(fit["batch"], 1e3 * fit["step_s"], color=colours[device], label=label)
            axis.plot(points["batch"], 1e3 * points["step_s"], "o", color=colours[device])
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
    return _splits(table, "device", "device")


def fig7b(table: pd.DataFrame) -> Any:
    """Offloaded steps against alpha: colours are numbers of GPUs, line styles batch sizes."""
    return _splits(table, "gpus", "edge GPUs")


def fig8(table: pd.DataFrame) -> Any:
    """The smoothed return of training, a panel per scope, and the smoothed optimum of the same episodes."""
    scopes = list(table["scope"].unique())
    with _figure(rows=len(scopes), height=6.6) as (figure, axes):
        for axis, scope, colour in zip(axes, scopes, _palette(len(scopes)), strict=True):
            rows = table[table["scope"] == scope]
            thousands = rows["episode"] / 1e3
            axis.plot(thousands, rows["optimum"], color="0.4", linewidth=1, linestyle="--", label="optimum")
            axis.plot(thousands, rows["episode_return"], color=colour, label=scope)
            axis.set(ylabel="return, s", xlabel="thousand episodes")
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

    look = _looks(table)
    with _figure(rows=2, height=6.4, sharex=True) as (figure, axes):
        _mean_lines(axes[0], table, "users", "qoe_per_user", look)
        axes[0].set(ylabel="average QoE per user, s")
        shown = table.assign(share=100 * table["captured_share"], name=table["method"].map(METHODS))
        places = {x: number for number, x in enumerate(sorted(table["users"].unique()))}
        sns.boxplot(
            shown.assign(place=shown["users"].map(places)), x="users", y="share", hue="name", ax=axes[1], legend=False,
            hue_order=[METHODS[name] for name in look], palette=[colour for colour, _, _ in look.values()],
            fliersize=2, linewidth=0.8, native_scale=True, gap=0.1, width=4.2,
        )  # fmt: skip
        axes[1].set(xlabel="users of a round", ylabel="captured share, %")
    return _legend(figure, axes[0])


def table1(table: pd.DataFrame) -> Any:
    """Planning time against users on log axes."""
    names = [name for name in METHODS if name in set(table["method"])]
    with _figure() as (figure, axis):
        for name in names:
            rows = table[table["method"] == name]
            colour, marker, line = _look(name)
            axis.plot(rows["users"], rows["seconds"], color=colour, marker=marker, linestyle=line, label=METHODS[name])
        axis.set(xscale="log", yscale="log", xlabel="users of a round, I", ylabel="planning time, s")
        _plain_ticks(axis.xaxis, sorted(table["users"].unique()))
    return _legend(figure)


def beyond_shrinking(table: pd.DataFrame) -> Any:
    """What the fixed batch overstates, and what planning for the shrinking one gains; seconds per user."""
    blue, orange = _palette(2)
    lines = {
        "optimum re-scored with the shrinking batch": (table["shrinking_batch"] - table["fixed_batch"], blue),
        "gained by planning on for it": (table["planned_for_shrinking"] - table["shrinking_batch"], orange),
    }
    with _figure() as (figure, axis):
        for (label, value), marker in zip(lines.items(), "os", strict=True):
            rows = pd.DataFrame({"users": table["users"], "value": value[0] / table["users"]})
            _mean_line(axis, rows, "users", "value", value[1], marker, "-", label)
        axis.set(xlabel="users of a round", ylabel="QoE per user over the fixed batch's, s", ylim=(0, None))
    return _legend(figure)


def beyond_sensitivity(table: pd.DataFrame) -> Any:
    """What is lost by planning with a parameter at the end of its interval."""
    import seaborn as sns

    names = {"steepness": "$a_F$", "midpoint": "$b_F$", "slope_s": "$k_e$", "intercept_s": "$h_e$"}
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
        for size, colour, marker in zip(sizes, _palette(len(sizes)), MARKERS, strict=False):
            rows = table[table["latent_bits"] == size]
            for axis, column in zip(axes, ("qoe_per_user", "granted"), strict=True):
                _mean_line(axis, rows, "users", column, colour, marker, "-", f"{size:,.0f} bit")
        axes[0].set(ylabel="average QoE per user, s")
        axes[1].set(ylabel="granted users", xlabel="users of a round", ylim=(0, None))
    return _legend(figure, axes[0])


def beyond_gpus(table: pd.DataFrame) -> Any:
    """Mean latency of the optimum against GPUs: the mean over cases, and the middle 80 % of cases."""
    groups = table.groupby("gpus")["mean_latency_s"]
    blue = _palette(1)[0]
    with _figure() as (figure, axis):
        low, high = groups.quantile(0.1), groups.quantile(0.9)
        axis.fill_between(low.index, low, high, color=blue, alpha=0.2, linewidth=0, label="80 % of cases")
        axis.plot(low.index, groups.mean(), "o-", color=blue, label="mean")
        axis.set(xlabel="edge GPUs", ylabel="average latency, s", xscale="log", ylim=(0, None))
        _plain_ticks(axis.xaxis, sorted(table["gpus"].unique()))
        axis.legend(loc="lower left")
    return figure


# -- the one look -------------------------------------------------------------------------------------------

SPLIT = "split point n, local steps"
STYLE = {
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


def _legend(figure: Any, axis: Any = None) -> Any:
    """A legend below the axes, where it covers no data."""
    handles, labels = (axis or figure.axes[0]).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9.5)
    return figure


def _palette(count: int) -> list[Any]:
    import seaborn as sns

    return list(sns.color_palette("colorblind", count))


def _colours(names: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(names, _palette(len(names)), strict=True))


def _look(method: str) -> tuple[Any, str, str]:
    """Colour, marker and line style of a method; the optimum is dashed, since others lie on it."""
    number = list(METHODS).index(method)
    return _palette(len(METHODS))[number], MARKERS[number], "--" if method == "exact" else "-"


def _looks(table: pd.DataFrame) -> dict[str, tuple[Any, str, str]]:
    return {name: _look(name) for name in METHODS if name in set(table["method"])}


def _methods(table: pd.DataFrame, x: str, y: str, xlabel: str, ylabel: str) -> Any:
    with _figure(height=4.6) as (figure, axis):
        _mean_lines(axis, table, x, y, _looks(table))
        axis.set(xlabel=xlabel, ylabel=ylabel)
    return _legend(figure)


def _mean_lines(axis: Any, table: pd.DataFrame, x: str, y: str, looks: dict[str, tuple[Any, str, str]]) -> None:
    for name, (colour, marker, line) in looks.items():
        _mean_line(axis, table[table["method"] == name], x, y, colour, marker, line, METHODS[name])


def _mean_line(axis: Any, rows: pd.DataFrame, x: str, y: str, colour: Any, marker: str, line: str, label: str) -> None:
    """The mean over cases, with a bar of 1.96 standard errors."""
    groups = rows.groupby(x)[y]
    mean, error = groups.mean(), 1.96 * groups.sem(ddof=1).fillna(0.0)
    axis.errorbar(mean.index, mean, error, color=colour, marker=marker, linestyle=line, capsize=2, label=label)


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
    names, batches = list(table[column].unique()), list(table["batch"].unique())
    colours, lines = _colours(names), dict(zip(batches, ("-", "--", ":"), strict=False))
    with _figure(height=4.6) as (figure, axis):
        for (name, batch), rows in table.groupby([column, "batch"], sort=False):
            label = f"{title} {name}, batch {batch}" if column == "gpus" else f"{name}, batch {batch}"
            axis.plot(rows["alpha"], rows["offloaded_steps"], color=colours[name], linestyle=lines[batch], label=label)
        axis.set(xlabel=r"$\alpha$, s", ylabel="offloaded steps, N - n", xscale="log")
    return _legend(figure)


def _interval_line(axis: Any, rows: pd.DataFrame, column: str, colour: Any, **look: Any) -> None:
    """Means with their intervals, from which a mean may lie outside where a draw rarely does better."""
    bars = np.maximum([rows[column] - rows["low"], rows["high"] - rows[column]], 0)
    axis.errorbar(rows["local_steps"], rows[column], bars, **{"fmt": "o-", "capsize": 3, "color": colour, **look})


def _plain_ticks(axis: Any, ticks: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_ticks(ticks, [str(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())

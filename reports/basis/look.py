"""The one look of all figures, which colour-blind readers can tell apart; a method has the same colour everywhere.

Letters stay readable at the width of a phone. Seaborn computes means over cases and their intervals.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from textwrap import fill
from typing import Any

import pandas as pd

from ...common.figures import any_script, drawn_text
from ...optimizer.methods.registry import DEFAULT_METHOD
from .policies import NETWORKS
from .unserved import notes_of, share_exact

WIDTH, HEIGHT = 4.9, 3.8
MARKERS = ("o", "X", "s", "^", "v", "D", "P")
LINES = ("-", "--", ":", "-.", "-", "--")
STEP_ASIDE = 0.08
"""Distance of lines that stand side by side, as a share of that between two points of their axis."""
FEW = 5
"""Number of cases below which a box would show more than is known: they are drawn as points."""
SPLIT_POINT = "split point n, local steps"
USERS, GPUS, QOE = "users of a round", "edge GPUs", "average QoE per user, s"
"""Labels of axes that several figures have."""
STYLE: Any = {
    "font.size": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 9.5,
    "legend.title_fontsize": 9.5,
    "svg.hashsalt": "edgesplit",
}
METHODS = {
    "exact": ("exact optimum", 1, "X", "--"),
    "offload-all": ("baseline 1: all offload", 2, "s", "-"),
    "offload-all-fixed": (r"baseline 2: split at $\hat{N}$", 3, "^", "-"),
    "offload-all-nhat": (r"baseline 2: $\hat{N}$ steps offloaded", 4, "v", "-"),
    "all-local": ("baseline 3: all local", 5, "D", "-"),
    **{
        name: (f"DRL-convex, {label}", colour, marker, ":")
        for (name, (label, _)), colour, marker in zip(NETWORKS.items(), (6, 8, 9), "XP*", strict=True)
    },
    "ilp-fixed": ("branch & bound (fixed split)", 2, "s", "-"),
    "ilp-products": ("branch & bound (standard linearisation)", 5, "p", "-"),
    "ilp-rlt": ("branch & bound (RLT level 1)", 6, "h", "-"),
    "ilp-joint": ("branch & bound (joint)", 7, "D", "-"),
    "genetic": ("genetic, split inside", 4, "v", ":"),
    "genetic-joint": ("genetic, split a gene", 3, "^", "-"),
    "memetic": ("memetic", 7, "<", ":"),
}
"""Label, colour, marker and line of every method but the proposed one; lines that lie on others are broken."""
LONGEST_LINE = 50
"""Letters of a label's line in a legend."""


@contextmanager
def framed(rows: int = 1, height: float = HEIGHT, sharex: bool = False) -> Iterator[tuple[Any, Any]]:
    """A new figure and its axes, one below the other, to draw on in our look."""
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.figure import Figure

    with sns.axes_style("whitegrid"), mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots(rows, 1, sharex=sharex)


def titled(figure: Any, title: str) -> Any:
    """The figure with a title above all of its axes."""
    figure.suptitle(title, fontsize=11.5)
    return figure


def legend_below(figure: Any, columns: int = 2, handles: Sequence[Any] = ()) -> Any:
    """The figure with a legend below its axes, where it covers no data; what is too wide is in one column, or smaller.

    Args:
        figure: a matplotlib figure.
        columns: number of columns of the legend.
        handles: entries of the legend; none for the lines of the first axes.
    """
    known = list(handles) or figure.axes[0].get_legend_handles_labels()[0]
    labels = [fill(str(handle.get_label()), LONGEST_LINE, break_long_words=False) for handle in known]
    for count, size in ((columns, 9), (1, 9), (1, 7.5), (1, 6), (1, 4)):
        legend = figure.legend(handles=known, labels=labels, loc="outside lower center", ncols=count, fontsize=size)
        if _width(figure, legend) <= figure.bbox.width:
            return figure
        legend.remove()
    return figure


def _width(figure: Any, legend: Any) -> float:
    """The width of a legend, in the units of its figure's `bbox`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    with any_script():
        return float(legend.get_window_extent(canvas.get_renderer()).width)


def palette(count: int) -> list[Any]:
    """The first colours of the one palette."""
    import seaborn as sns

    return list(sns.color_palette("colorblind", count))


def line_looks() -> Iterator[dict[str, Any]]:
    """Colour, marker and line style of one line after the other, which differ without the colour too.

    Each is thinner than the one before, with smaller and hollow markers: of lines that coincide all are seen.
    """
    styles = zip(palette(8), MARKERS, LINES, strict=False)
    for number, (colour, marker, line) in enumerate(styles):
        sizes = {"linewidth": 2.6 - 0.3 * number, "markersize": 9 - number, "markeredgewidth": 1.2}
        hollow = {"markerfacecolor": "none", "markeredgecolor": colour}
        yield {"color": colour, "marker": marker, "linestyle": line, **sizes, **hollow}


def asides(points: Iterable[float], count: int) -> list[float]:
    """How far to move each of so many lines along the axis of these points, so that none lies upon another."""
    places = sorted(set(points))
    step = STEP_ASIDE * min((after - before for before, after in pairwise(places)), default=1.0)
    return [(number - (count - 1) / 2) * step for number in range(count)]


def mean_line(axis: Any, rows: pd.DataFrame, x: str, y: str, aside: float = 0.0, **look: Any) -> None:
    """Draw the mean over cases, with a bar of 1.96 standard errors, moved a little along the axis."""
    import seaborn as sns

    bars: Any = {"errorbar": ("se", 1.96), "err_style": "bars", "err_kws": {"capsize": 2}}
    look = {"markeredgewidth": 0} | look
    sns.lineplot(rows.assign(**{x: rows[x] + aside}), x=x, y=y, ax=axis, legend=False, **bars, **look)


def boxes(axis: Any, rows: pd.DataFrame, x: str, y: str, hue: str, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a box of the cases at every place for every hue, side by side; where they are few, the cases as points.

    Args:
        axis: matplotlib axes.
        rows: a row for each case.
        x: column with places, whole numbers from 0 on.
        y: column with values.
        hue: column whose values have looks.
        looks: colour and marker of every value of `hue`, in order.
    """
    import seaborn as sns

    if rows.groupby([x, hue]).size().max() >= FEW:
        colours = [look["color"] for look in looks.values()]
        sns.boxplot(
            rows, x=x, y=y, hue=hue, ax=axis, legend=False, fliersize=2, linewidth=1.2, gap=0.2, fill=False,
            hue_order=list(looks), palette=colours,
        )  # fmt: skip
        return
    for number, (value, look) in enumerate(looks.items()):
        own, aside = rows[rows[hue] == value], (number - (len(looks) - 1) / 2) * 0.8 / len(looks)
        point = {"color": look["color"], "marker": look["marker"], "markersize": 5, "markerfacecolor": "none"}
        axis.plot(own[x] + aside, own[y], linestyle="", **point)


def from_zero(axis: Any, least: float) -> None:
    """Let the vertical axis begin at 0, with room above what is drawn; it ends at `least` or above, beyond rounding."""
    axis.set_ylim(0, max(least, 1.04 * axis.get_ylim()[1]))


def plain_ticks(axis: Any, ticks: Sequence[int]) -> None:
    """Put ticks on a logarithmic axis at these numbers, written out."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks(ticks, [str(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def methods_in(table: pd.DataFrame, proposed: str) -> list[str]:
    """The methods of a table: the proposed one first, the others in the order of `METHODS`."""
    present = set(table["method"])
    return [name for name in (proposed, *(name for name in METHODS if name != proposed)) if name in present]


def method_look(method: str, proposed: str) -> dict[str, Any]:
    """Label, colour, marker and line style of a method."""
    own = "DRL-convex" if proposed == DEFAULT_METHOD else drawn_text(proposed, 44)
    label, colour, marker, line = (f"proposed ({own})", 0, "o", "-") if method == proposed else METHODS[method]
    return {"label": label, "color": palette(10)[colour], "marker": marker, "linestyle": line, "markersize": 5}


def method_looks(table: pd.DataFrame, proposed: str) -> dict[str, dict[str, Any]]:
    """The look of every method of a table, which says of how many cases the proposed one's plans are the exact ones."""
    looks = {name: method_look(name, proposed) for name in methods_in(table, proposed)}
    looks[proposed]["label"] += share_exact(notes_of(table, proposed))
    return looks


def method_lines(axis: Any, table: pd.DataFrame, x: str, y: str, proposed: str) -> None:
    """Draw the mean line of every method, one beside the other at each point of the axis."""
    looks = method_looks(table, proposed)
    for (name, look), aside in zip(looks.items(), asides(table[x], len(looks)), strict=True):
        mean_line(axis, table[table["method"] == name], x, y, aside, **look)

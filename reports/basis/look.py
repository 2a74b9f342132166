"""The one look of all figures, which colour-blind readers can tell apart; a method has the same colour everywhere.

Letters stay readable at the width of a phone. Seaborn computes means over cases and their intervals.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd

from ...optimizer.methods.registry import DEFAULT_METHOD

WIDTH, HEIGHT = 5.6, 4.0
MARKERS = ("o", "X", "s", "^", "v", "D")
LINES = ("-", "--", ":", "-.", "-", "--")
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
    "ilp-fixed": ("branch & bound (fixed split)", 2, "s", "-"),
    "ilp-joint": ("branch & bound (joint)", 7, "D", "-"),
    "genetic": ("genetic, split inside", 4, "v", ":"),
    "genetic-joint": ("genetic, split a gene", 3, "^", "-"),
}
"""Label, colour, marker and line of every method but the proposed one; lines that lie on others are broken."""


@contextmanager
def framed(rows: int = 1, height: float = HEIGHT, sharex: bool = False) -> Iterator[tuple[Any, Any]]:
    """A new figure and its axes, one below the other, to draw on in our look."""
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.figure import Figure

    with sns.axes_style("whitegrid"), mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots(rows, 1, sharex=sharex)


def legend_below(figure: Any, columns: int = 2, handles: Sequence[Any] = ()) -> Any:
    """The figure with a legend below its axes, where it covers no data.

    Args:
        figure: a matplotlib figure.
        columns: number of columns of the legend.
        handles: entries of the legend; none for the lines of the first axes.
    """
    known = list(handles) or figure.axes[0].get_legend_handles_labels()[0]
    figure.legend(handles=known, loc="outside lower center", ncols=columns, fontsize=9.5)
    return figure


def palette(count: int) -> list[Any]:
    """The first colours of the one palette."""
    import seaborn as sns

    return list(sns.color_palette("colorblind", count))


def line_looks() -> Iterator[dict[str, Any]]:
    """Colour, marker and line style of one line after the other, which differ without the colour too."""
    styles = zip(palette(8), MARKERS, LINES, strict=False)
    return ({"color": c, "marker": m, "linestyle": line, "markersize": 5} for c, m, line in styles)


def mean_line(axis: Any, rows: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    """Draw the mean over cases, with a bar of 1.96 standard errors."""
    import seaborn as sns

    bars: Any = {"errorbar": ("se", 1.96), "err_style": "bars", "err_kws": {"capsize": 2}}
    sns.lineplot(rows, x=x, y=y, ax=axis, legend=False, markeredgewidth=0, **bars, **look)


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
    own = "DRL-convex" if proposed == DEFAULT_METHOD else proposed
    label, colour, marker, line = (f"proposed ({own})", 0, "o", "-") if method == proposed else METHODS[method]
    return {"label": label, "color": palette(8)[colour], "marker": marker, "linestyle": line}


def method_lines(axis: Any, table: pd.DataFrame, x: str, y: str, proposed: str) -> None:
    """Draw the mean line of every method."""
    for name in methods_in(table, proposed):
        mean_line(axis, table[table["method"] == name], x, y, **method_look(name, proposed))

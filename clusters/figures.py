"""The picture of `cluster`: how well each number of clusters fits, and the users beside each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.figures import drawn_text
from .grouping import Clustering


def draw_clusters(found: Clustering, names: Sequence[str]) -> Any:
    """Silhouette against the number of clusters, and the users in a plane; returns a matplotlib figure."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    with sns.axes_style("whitegrid"):
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    _draw_counts(left, found, len(names))
    _draw_users(right, found, names, sns.color_palette("colorblind", len(names)))
    return figure


def _draw_counts(axis: Any, found: Clustering, chosen: int) -> None:
    from matplotlib.ticker import MaxNLocator

    counts = [count for count in found.counts if count.silhouette is not None]
    axis.plot([c.clusters for c in counts], [c.silhouette for c in counts], marker="o", color="0.3")
    if found.chance is not None:
        axis.axhline(found.chance, color="0.5", linestyle="--", linewidth=1, label="5 % of single clouds reach this")
        axis.legend(fontsize="small", loc="lower left")
    axis.axvline(chosen, color="C0", linewidth=6, alpha=0.25)
    axis.set(
        xlabel="clusters",
        ylabel="mean silhouette",
        title=f"{found.proposed} proposed, {chosen} taken",
        ylim=(None, 1.02),
    )
    axis.set_xlim(0.5, max(count.clusters for count in found.counts) + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_users(axis: Any, found: Clustering, names: Sequence[str], colours: Sequence[Any]) -> None:
    for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
        x, y = found.places[found.cluster == number].T
        axis.scatter(x, y, color=[colour], s=36, label=f"{drawn_text(name)} ({len(x)})", zorder=3)
        typical = found.typical_user(number)
        axis.scatter(*found.places[typical], s=140, facecolors="none", edgecolors=[colour], zorder=3)
        said = drawn_text(found.user_id[typical], 16)
        axis.annotate(said, found.places[typical], xytext=(8, 6), textcoords="offset points", fontsize="small")
    axis.set(xlabel="first principal component", ylabel="second principal component", aspect="equal")
    axis.set(title="users, the most typical ones circled", adjustable="datalim")
    axis.margins(0.12)
    if np.ptp(found.places) == 0:
        axis.set(xlim=(-1, 1), ylim=(-1, 1))
    axis.legend(fontsize="small", loc="best")

"""The paper's Fig. 4: the pictures over the splits with the two metrics (a), and the fitted curve (b)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.figures import drawn_text, save_both
from ..common.tables import Columns
from ..fitting.pai import LEVEL
from .analysis import Analysis
from .settings import SweepSettings

CAPTION_LETTERS = 110
"""Most letters of the prompt above the pictures."""
MOST_COLUMNS = 12
"""Most splits in the grid of pictures; of more splits, evenly chosen ones are shown."""


def save_figures(folder: Path, analysis: Analysis, settings: SweepSettings, table: Columns) -> None:
    """Write Fig. 4a, with the pictures of the first prompt and seed, and Fig. 4b into the folder of a sweep.

    Args:
        folder: folder of the sweep, which holds its pictures.
        analysis: analysis of the sweep.
        settings: settings of the sweep.
        table: columns prompt (its number), seed, user and picture (its path in the folder), in the order of splits.
    """
    pictures: dict[str, list[Path]] = {name: [] for name in settings.users}
    for prompt, seed, user, picture in zip(
        table["prompt"], table["seed"], table["user"], table["picture"], strict=True
    ):
        if (prompt, seed) == (0, 0):
            pictures[user].append(folder / picture)
    words = " / ".join(dict.fromkeys([settings.class_word, *settings.words.values()]))
    caption = settings.templates[0].replace("{subject}", words)
    save_both(folder / "fig4a", draw_pictures(analysis, pictures, caption))
    save_both(folder / "fig4b", draw_curve(analysis))


def draw_pictures(analysis: Analysis, pictures: Mapping[str, Sequence[Path]], caption: str) -> Any:
    """Fig. 4a as a matplotlib figure: a row of pictures per user over the splits, and CLIP and LPIPS-bar below.

    Args:
        analysis: analysis of the sweep.
        pictures: user -> file of the picture at each split.
        caption: prompt of the pictures.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    shown = _columns(len(analysis.local_steps))
    inches = 10 / len(shown)
    figure = Figure(figsize=(10.6, inches * len(pictures) + 3.4), layout="constrained")
    with sns.axes_style("white"):
        grid, curves = figure.subplots(2, 1, height_ratios=[inches * len(pictures), 2.8])
    _draw_grid(grid, pictures, shown)
    grid.set_title(drawn_text(caption, CAPTION_LETTERS), fontsize="medium")
    _draw_metrics(curves, analysis, shown)
    return figure


def draw_curve(analysis: Analysis) -> Any:
    """Fig. 4b as a matplotlib figure: PAI against the split point, the fit with its band, and N-hat.

    Every prompt has a point at every split, the mean over its seeds, as in the paper; the mean over the prompts has an
    interval.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    with sns.axes_style("whitegrid"):
        axis = figure.subplots()
    blue, orange, green = sns.color_palette("colorblind", 3)
    n, fit = analysis.local_steps, analysis.fit
    x = np.linspace(n[0], n[-1], 300)
    if analysis.draws:
        low, high = np.quantile([curve.value(x) for curve in analysis.draws], LEVEL, axis=0)
        axis.fill_between(x, low, high, color=orange, alpha=0.3, linewidth=0, label="95 % band")
    points = analysis.prompts["pai"]
    axis.scatter(np.tile(n, len(points)), points, s=9, color=blue, alpha=0.4, linewidths=0, label="PAI of each prompt")
    axis.plot(x, fit.curve.value(x), color=orange, label=_formula(analysis))
    _draw_points(axis, n, analysis, "pai", color=blue, fmt="o", label="mean PAI")
    axis.axvline(
        analysis.min_local_steps, color=green, linestyle="--", label=rf"$\hat{{N}}$ = {analysis.min_local_steps}"
    )
    bottom = min(0, axis.get_ylim()[0])
    axis.set(xlabel="split point n, local steps", ylabel="Personalised Accuracy Index", ylim=(bottom, None))
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _columns(splits: int) -> list[int]:
    """The numbers of the splits that the grid shows."""
    count = min(splits, MOST_COLUMNS)
    return sorted({round(i * (splits - 1) / max(1, count - 1)) for i in range(count)})


def _draw_grid(axis: Any, pictures: Mapping[str, Sequence[Path]], shown: Sequence[int]) -> None:
    from PIL import Image

    for row, paths in enumerate(pictures.values()):
        for column, number in enumerate(shown):
            with Image.open(paths[number]) as image:
                pixels = np.asarray(image.convert("RGB"))
            axis.imshow(pixels, extent=(column - 0.48, column + 0.48, row + 0.48, row - 0.48), interpolation="nearest")
    axis.set(xlim=(-0.5, len(shown) - 0.5), ylim=(len(pictures) - 0.5, -0.5), xticks=[], aspect="auto")
    axis.set_yticks(range(len(pictures)), list(pictures))
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw_metrics(axis: Any, analysis: Analysis, shown: Sequence[int]) -> None:
    import seaborn as sns

    blue, orange = sns.color_palette("colorblind", 2)
    right = axis.twinx()
    places = np.interp(analysis.local_steps, analysis.local_steps[shown], np.arange(len(shown)))
    _draw_points(axis, places, analysis, "clip", color=blue, fmt="o-", label="CLIP (left)")
    _draw_points(right, places, analysis, "lpips", color=orange, fmt="s-", label="LPIPS-bar (right)")
    axis.set_xticks(range(len(shown)), [str(analysis.local_steps[i]) for i in shown])
    axis.set(xlabel="split point n, local steps", ylabel="CLIP similarity", xlim=(-0.5, len(shown) - 0.5))
    highest = right.get_ylim()[1]
    right.set(ylabel="LPIPS-bar", ylim=(-0.05 * highest, highest))  # LPIPS-bar is 0 at n = 0: room for its marker
    lines = [line for one in (axis, right) for line in one.get_legend_handles_labels()[0]]
    axis.legend(lines, [line.get_label() for line in lines], loc="lower right", fontsize="small")


def _draw_points(axis: Any, x: Any, analysis: Analysis, name: str, **look: Any) -> None:
    """Means with their intervals; a mean may lie outside its interval where hardly any bootstrap draw reaches it."""
    mean, ends = analysis.means[name], analysis.intervals.get(name)
    bars = None if ends is None else np.maximum([mean - ends[0], ends[1] - mean], 0)
    axis.errorbar(x, mean, bars, capsize=3, markersize=4, **look)


def _formula(analysis: Analysis) -> str:
    curve, r2 = analysis.fit.curve, analysis.fit.r2
    paper = analysis.fit.parameters == 2
    scale = "" if paper else f"{curve.offset:.3f} + {curve.amplitude:.3f} "
    return rf"{scale}F(n): $a_F$ = {curve.steepness:.4g}, $b_F$ = {curve.midpoint:.2f}" + (
        "" if r2 is None else f", $R^2$ = {r2:.4f}"
    )

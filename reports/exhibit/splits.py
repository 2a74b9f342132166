"""Fig. 7: how many steps a granted user offloads, by alpha, batch, device and number of GPUs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...common.figures import drawn_text
from ...optimizer.model.qoe import Scenario, edge_step_latency
from ...optimizer.model.split import alpha_range, best_split
from ..basis.checks import FINDING, TINY, Check, judged
from ..basis.definitions import Exhibit, Material
from ..basis.look import framed, legend_below, palette
from .latency import device_labels

ALPHAS = 61
"""Points of the grid of alpha."""


def splits_by_device(scenario: Scenario, step_latency_s: Mapping[str, float]) -> pd.DataFrame:
    """Fig. 7a: offloaded steps against alpha at the scenario's G, for three batch sizes and three devices.

    Args:
        scenario: the system.
        step_latency_s: L_i(1) of devices by name, from slow to fast.
    """
    systems = [(scenario, batch) for batch in _batches(scenario)]
    return _splits(systems, dict(_ends_and_middle(list(step_latency_s.items()))))


def splits_by_gpus(scenario: Scenario, step_latency_s: Mapping[str, float]) -> pd.DataFrame:
    """Fig. 7b: offloaded steps against alpha of the middle device, for three numbers of GPUs and batch sizes.

    G is 1, 3/8 and all of the scenario's: with batches of 1/4, 1/2 and all of B_max no two b / G are equal. Arguments
    as in `splits_by_device`.
    """
    gpus = sorted({1, max(1, round(3 * scenario.gpus / 8)), scenario.gpus})
    systems = [(replace(scenario, gpus=g), batch) for g in gpus for batch in _batches(scenario)]
    name, latency = _ends_and_middle(list(step_latency_s.items()))[len(step_latency_s) > 1]
    return _splits(systems, {name: latency})


def _splits(systems: Sequence[tuple[Scenario, int]], devices: Mapping[str, float]) -> pd.DataFrame:
    """Rows of alpha against offloaded steps, for every system with its batch and every device, on one grid of alpha."""
    latency = np.array(list(devices.values()))
    bounds = [alpha_range(scenario, latency) for scenario, _ in systems]
    low = min(float(ends[0][ends[0] > 0].min(initial=np.inf)) for ends in bounds)
    high = max(float(ends[1][np.isfinite(ends[1])].max(initial=0.0)) for ends in bounds)
    alphas = np.geomspace(low / 2, max(2 * high, low), ALPHAS)
    tables = []
    for scenario, batch in systems:
        for name, step in devices.items():
            n, _ = best_split(scenario, alphas, step - edge_step_latency(scenario, batch))
            facts = {"device": name, "gpus": scenario.gpus, "batch": batch, "alpha": alphas}
            tables.append(pd.DataFrame({**facts, "offloaded_steps": scenario.total_steps - n}))
    return pd.concat(tables, ignore_index=True)


def _batches(scenario: Scenario) -> list[int]:
    """A quarter, a half and all of B_max."""
    most = scenario.max_batch
    return sorted({max(1, most // 4), max(1, most // 2), most})


def _ends_and_middle(devices: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The first, the middle and the last of some devices."""
    return [devices[i] for i in sorted({0, len(devices) // 2, len(devices) - 1})]


def draw(table: pd.DataFrame, column: str, title: str = "") -> Any:
    """Offloaded steps against alpha: colours stand for the values of a column, line styles for batch sizes.

    Args:
        table: rows of one of the two figures.
        column: "device" or "gpus".
        title: words before each value in the legend.
    """
    from matplotlib.lines import Line2D

    names, batches = list(table[column].unique()), list(table["batch"].unique())
    colours = dict(zip(names, palette(len(names)), strict=True))
    looks = {batch: _batch_look(number) for number, batch in enumerate(batches)}
    with framed(height=4.4) as (figure, axis):
        for number, ((name, batch), rows) in enumerate(table.groupby([column, "batch"], sort=False)):
            marked = (number, len(names) * len(batches))  # no two lines have a marker at one place
            axis.plot(rows["alpha"], rows["offloaded_steps"], color=colours[name], markevery=marked, **looks[batch])
        axis.set(xlabel=r"$\alpha$, s", ylabel="offloaded steps, N - n", xscale="log")
    labels = {name: drawn_text(f"{title} {name}".strip()) for name in names}
    keys = [Line2D([], [], color=colour, label=labels[name]) for name, colour in colours.items()]
    keys += [Line2D([], [], color="0.3", label=f"batch {batch}", **look) for batch, look in looks.items()]
    return legend_below(figure, handles=keys)


def _batch_look(number: int) -> dict[str, Any]:
    """Line and marker of a batch size; each is thinner than the one before, so that lines below it are seen."""
    line, marker = (("-", "o"), ("--", "s"), (":", "^"))[number]
    widths = {"linewidth": 2.4 - 0.5 * number, "markersize": 6 - number, "markerfacecolor": "none"}
    return {"linestyle": line, "marker": marker, **widths}


def judge_devices(table: pd.DataFrame) -> list[Check]:
    """No step more is offloaded anywhere on the grid where alpha or the batch is larger or the device faster."""
    slow_first = list(table["device"].unique())
    ranked = table.assign(rank=table["device"].map(slow_first.index) + 1)
    return [
        _monotone("Fewer steps are offloaded as alpha grows.", table, "alpha", ["device", "batch"]),
        _monotone("Fewer steps are offloaded as the batch grows.", table, "batch", ["device", "alpha"]),
        _monotone("Fewer steps are offloaded by a faster device.", ranked, "rank", ["batch", "alpha"]),
    ]


def judge_gpus(table: pd.DataFrame) -> list[Check]:
    """Offloaded steps rise with G everywhere; and the batch moves the split more where GPUs are few."""
    wide = table.pivot_table(index=["gpus", "alpha"], columns="batch", values="offloaded_steps")
    moved = (wide.iloc[:, 0] - wide.iloc[:, -1]).groupby("gpus").mean()
    few, many = moved.index[0], moved.index[-1]
    by_alpha = table.groupby(["gpus", "batch"])["offloaded_steps"].agg(np.ptp).groupby("gpus").mean()
    larger = judged([bool(moved[few] > moved[many] + TINY)])
    return [
        _monotone("More steps are offloaded as GPUs are added.", table, "gpus", ["batch", "alpha"], rising=True),
        Check(
            "With few GPUs the batch has the larger influence than with many.",
            larger if few < many else FINDING,
            f"from the smallest to the largest batch the split moves by {moved[few]:.1f} steps on average with G = "
            f"{few}, by {moved[many]:.1f} with G = {many}",
        ),
        Check(
            "With many GPUs alpha dominates.",
            judged([bool(by_alpha[many] > moved[many] + TINY)]),
            f"with G = {many} alpha moves the split by {by_alpha[many]:.0f} steps, the batch by {moved[many]:.1f}",
        ),
    ]


def _monotone(claim: str, table: pd.DataFrame, x: str, fixed: list[str], *, rising: bool = False) -> Check:
    """Whether offloaded steps never rise with x (or never fall), all other columns fixed."""
    steps = table.sort_values(x).groupby(fixed)["offloaded_steps"].diff().dropna()
    against = int(((steps < 0) if rising else (steps > 0)).sum())
    if steps.empty:
        return Check(claim, FINDING, f"there is one value only: {table[x].iloc[0]}")
    moved = bool((steps != 0).any())  # a flat surface supports no claim
    return Check(claim, judged([against == 0 and moved]), f"{against} of {len(steps)} neighbouring pairs go against it")


def _devices(material: Material) -> dict[str, float]:
    """L_i(1) of the devices by their names for people."""
    labels = device_labels(material.sources.devices)
    return {labels[name]: latency for name, latency in material.setup.step_latency_s.items()}


FIG7A = Exhibit(
    name="fig7a",
    title="Fig. 7a: offloaded steps, by batch and device",
    claims="Fewer steps are offloaded for a larger alpha, a larger batch, a faster device.",
    table=lambda material: splits_by_device(material.setup.scenario, _devices(material)),
    draw=partial(draw, column="device"),
    judge=judge_devices,
)
FIG7B = Exhibit(
    name="fig7b",
    title="Fig. 7b: offloaded steps, by GPUs and batch",
    claims="More GPUs mean more offloaded steps; with few of them the batch matters, with many alpha.",
    table=lambda material: splits_by_gpus(material.setup.scenario, _devices(material)),
    draw=partial(draw, column="gpus", title="G ="),
    judge=judge_gpus,
)

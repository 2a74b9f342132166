"""Fig. 3: the latency of a denoising step against the batch, measured and fitted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...common.figures import drawn_text
from ...fitting.schemas import LatencyProfile
from ..basis.checks import FINDING, Check, judged, r2_of_line
from ..basis.definitions import Exhibit
from ..basis.look import framed, legend_below, line_looks, plain_ticks

DRAWN = 5
"""Number of devices that are drawn beside the edge's GPU; the table has all of them."""
LEAST_BATCHES = 16
"""Batch up to which a fitted line is tabulated, even if fewer were measured."""
LARGE = 0.5
"""h / L(1) from which on the constant is large: it is at least what an image of the batch costs."""
LITTLE = 1.1
"""What the largest batch makes of images per second, up to which the constant is of no weight."""


def device_labels(profiles: Sequence[LatencyProfile]) -> dict[str, str]:
    """Every device for people, by its profile's name.

    That is added where several profiles are of one device, and comes first where a picture may lack letters of it.
    """
    devices = [profile.device_name for profile in profiles]
    labels = {}
    for profile, device in zip(profiles, devices, strict=True):
        labels[profile.name] = device if devices.count(device) == 1 else f"{device} ({profile.name})"
        if not device.isascii():
            labels[profile.name] = f"{profile.name} ({device})"
    return labels


def latency_table(edge: LatencyProfile, devices: Sequence[LatencyProfile]) -> pd.DataFrame:
    """Measured medians, and the fitted line at every batch up to the largest; the edge's GPU comes first."""
    rows: list[dict[str, Any]] = []
    labels, drawn = device_labels(devices), evenly(devices, DRAWN)
    labelled = [(f"{edge.device_name} (edge)", edge, True), *((labels[p.name], p, p in drawn) for p in devices)]
    for device, profile, shown in labelled:
        facts = {"device": device, "source": profile.provenance.kind, "drawn": shown}
        model, most = profile.fit.model(), max([LEAST_BATCHES, *(sample.batch for sample in profile.samples)])
        rows += [{**facts, "what": "measured", "batch": s.batch, "step_s": s.median_s} for s in profile.samples]
        rows += [
            {**facts, "what": "fit", "batch": b, "step_s": float(model.step_latency(b))} for b in range(1, most + 1)
        ]
    return pd.DataFrame(rows)


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly spaced, both ends among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def draw(table: pd.DataFrame) -> Any:
    """A line for each GPU that is marked as drawn, and its measured medians as points."""
    shown = table[table["drawn"]]
    with framed(height=4.4) as (figure, axis):
        for (device, rows), look in zip(shown.groupby("device", sort=False), line_looks(), strict=False):
            fit, points = (rows[rows["what"] == what] for what in ("fit", "measured"))
            estimated = ", estimated" if (rows["source"] == "estimated").all() else ""
            label = drawn_text(str(device)) + estimated
            axis.plot(fit["batch"], 1e3 * fit["step_s"], **{**look, "marker": ""})
            axis.plot(points["batch"], 1e3 * points["step_s"], **{**look, "linestyle": ""})
            axis.plot([], [], **(look if len(points) else look | {"marker": ""}), label=label)
        axis.set(xlabel="batch, images", ylabel="one denoising step, ms", yscale="log", xscale="log")
        plain_ticks(axis.xaxis, sorted(set(table["batch"]) & {1, 2, 4, 8, 16, 32, 64, 128}))
    return legend_below(figure)


def judge(table: pd.DataFrame) -> list[Check]:
    """Linear: R2 of the best line is 0.98 or more for most devices. Large constant: see there.

    All devices count, drawn or not, except for those whose profile is estimated.
    """
    known = table[table["source"] != "estimated"]
    points = [(str(name), rows) for name, rows in known[known["what"] == "measured"].groupby("device")]
    r2 = {name: r2_of_line(rows["batch"], rows["step_s"]) for name, rows in points if len(rows) > 2}
    lines = known[known["what"] == "fit"].groupby("device")["step_s"]
    shares = {str(name): 1 - float(step.diff().iloc[-1] / step.iloc[0]) for name, step in lines}
    return [
        _most("The latency of a step grows about linearly with the batch.", r2, 0.98, ".3f", "R2 of the best line"),
        _large(shares),
    ]


def _large(shares: dict[str, float]) -> Check:
    """How large the constant is, by what a batch can save: images per second rise by the factor L(1) / k at most.

    It is large where that is 2 or more, so that h is at least k and half of L(1), and not where it is below `LITTLE`;
    between the two the claim holds partly. Usually: in the middle of the devices.
    """
    claim = "The constant term is usually large."
    if not shares:
        return Check(claim, FINDING, "no device with measurements enough")
    median, order = float(np.median(list(shares.values()))), sorted(shares, key=shares.__getitem__)
    most = 1 / (1 - median) if median < 1 else np.inf
    large, some = (sum(share >= least for share in shares.values()) for least in (LARGE, 1 - 1 / LITTLE))
    evidence = (
        f"h / L(1): median of {len(shares)} devices {median:.0%}, from {shares[order[0]]:.0%} ({order[0]}) to "
        f"{shares[order[-1]]:.0%} ({order[-1]}); so a batch makes at most {most:.2f} times as many images a second, "
        f"where a large constant (h at least k) makes 2 times; large for {large} devices, of some weight for {some}"
    )
    return Check(claim, judged([median >= LARGE, median >= 1 - 1 / LITTLE]), evidence)


def _most(claim: str, values: dict[str, float], least: float, form: str, what: str) -> Check:
    """Whether most devices have a value of `least` or more."""
    if not values:
        return Check(claim, FINDING, f"{what}: no device with measurements enough")
    order, median = sorted(values, key=values.__getitem__), float(np.median(list(values.values())))
    ends = f"from {values[order[0]]:{form}} ({order[0]}) to {values[order[-1]]:{form}} ({order[-1]})"
    evidence = f"{what}: median of {len(values)} devices {median:{form}} (needed {least:{form}}), {ends}"
    return Check(claim, judged([median >= least]), evidence)


FIG3 = Exhibit(
    name="fig3",
    title="Fig. 3: step latency against the batch",
    claims="L(b) = k b + h fits, h being large.",
    table=lambda material: latency_table(material.sources.edge, material.sources.devices),
    draw=draw,
    judge=judge,
)

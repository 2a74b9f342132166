"""What a policy has learned, as a picture: its prices against the images in flight, beside the formula and tuned ones.

`python -m edgesplit.service.learn.picture PICTURE [POLICY]` draws docs/prices.png.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.arrays import Floats
from ...common.console import run_module, say
from ...common.figures import check_picture, save_figure
from ...optimizer.inputs.scenario import load_scenario
from ...optimizer.model.qoe import Scenario
from ..price_file import DEFAULT_REVISED, load_prices
from ..price_policy import DEFAULT_POLICY, PricePolicy, Sight, load_price_policy
from ..scheduler import added_step
from .vector_simulation import Pricing, formula_pricing, tuned_pricing

IN_FLIGHT = np.arange(0, 61)
GPUS, RATES, NEW = (8, 2), (2, 12), 4
"""GPUs of the columns, requests per second of the lines, newly granted users that the price is shown for."""
STEP_LATENCY_S = 0.1
"""Mean L_i(1) of the users, about that of the paper's."""


def counted_price(now: Scenario, pricing: Pricing, rate: float) -> Floats:
    """p(b) in multiples of k / G against the images in flight, where as many requests come in a second as of late."""
    sight = Sight(IN_FLIGHT, np.zeros(IN_FLIGHT.size), rate, rate * now.interval_s, STEP_LATENCY_S)
    return pricing(now, sight).step_price(NEW) / added_step(now)


@dataclass(frozen=True)
class Curve:
    """A line of the picture: its label, style and colour, and p(b) against `IN_FLIGHT`."""

    label: str
    style: str
    colour: str
    price: Floats


def curves(policy: PricePolicy, gpus: int) -> Iterator[Curve]:
    """The lines of one column."""
    now, tuned = load_scenario("default").with_gpus(gpus), tuned_pricing(load_prices(DEFAULT_REVISED).rule())
    yield Curve("formula", ":", "0.4", counted_price(now, formula_pricing, 0.0))
    for number, rate in enumerate(RATES):
        yield Curve(f"tuned, {rate} requests/s", "--", f"C{number}", counted_price(now, tuned, rate))
        yield Curve(f"learned, {rate} requests/s", "-", f"C{number}", counted_price(now, policy.prices, rate))


def draw(policy: PricePolicy) -> Any:
    """The picture; returns a matplotlib figure."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.0), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = figure.subplots(1, len(GPUS), sharey=True)
    for axis, gpus in zip(axes, GPUS, strict=True):
        for curve in curves(policy, gpus):
            axis.plot(IN_FLIGHT, curve.price, curve.style, color=curve.colour, label=curve.label)
        axis.set(title=f"{gpus} GPUs", xlabel="images in flight")
    axes[0].set(ylabel="images that an offloaded step pays for")
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside lower center", fontsize=8)
    return figure


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(prog="picture", description="Draw what a policy that prices rounds has learned.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("policy", nargs="?", default=DEFAULT_POLICY)
    options = parser.parse_args()
    check_picture(options.picture)
    save_figure(options.picture, draw(load_price_policy(options.policy)))
    say(f"wrote {options.picture}")


if __name__ == "__main__":
    run_module(main, "picture")

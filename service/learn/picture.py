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
from ...common.console import say
from ...common.errors import InputError
from ...common.figures import check_picture, save_figure
from ...optimizer.inputs.scenario import load_scenario
from ...optimizer.model.qoe import Scenario
from ...optimizer.model.terms import Prices
from ..price_file import load_prices
from ..price_policy import DEFAULT_POLICY, PricePolicy, Sight, load_price_policy
from ..scheduler import Load, Rule, price

IN_FLIGHT = np.arange(0, 61)
GPUS, RATES, NEW = (8, 2), (2, 12), 4
"""GPUs of the columns, requests per second of the lines, newly granted users that the price is shown for."""
STEP_LATENCY_S = 0.1
"""Mean L_i(1) of the users, about that of the paper's."""


def of_rule(now: Scenario, rule: Rule, rate: float) -> Floats:
    """p(b) of a rule in multiples of k / G, against the images in flight."""
    loads = (Load(in_flight=count, gpus=now.gpus, arrivals_per_s=rate) for count in IN_FLIGHT.tolist())
    return np.array([_counted(now, rule(now, load).prices) for load in loads]).ravel()


def of_policy(now: Scenario, policy: PricePolicy, rate: float) -> Floats:
    """The same of a policy, where as many requests come in a second as of late."""
    sight = Sight(IN_FLIGHT, np.zeros(IN_FLIGHT.size), rate, rate * now.interval_s, STEP_LATENCY_S)
    return _counted(now, policy.prices(now, sight))


def _counted(now: Scenario, prices: Prices) -> Floats:
    return prices.step_price(NEW) / (now.edge.slope_s / now.gpus)


@dataclass(frozen=True)
class Curve:
    """A line of the picture: its label, style and colour, and p(b) against `IN_FLIGHT`."""

    label: str
    style: str
    colour: str
    price: Floats


def curves(policy: PricePolicy, gpus: int) -> Iterator[Curve]:
    """The lines of one column."""
    now, tuned = load_scenario("default").with_gpus(gpus), load_prices().rule()
    yield Curve("formula", ":", "0.4", of_rule(now, price, 0.0))
    for number, rate in enumerate(RATES):
        yield Curve(f"tuned, {rate} requests/s", "--", f"C{number}", of_rule(now, tuned, rate))
        yield Curve(f"learned, {rate} requests/s", "-", f"C{number}", of_policy(now, policy, rate))


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
    try:
        main()
    except InputError as error:
        say(f"picture: {error}")
        raise SystemExit(2) from error

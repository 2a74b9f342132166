"""The numbers of rounds: the range that a policy was trained on, and whether a round lies outside it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ...common.arrays import Bools
from ..model.qoe import Scenario, Users

RangeName = Literal[
    "users", "gpus", "max_batch", "slots", "step_latency_s", "alpha_s", "request_slot", "total_steps",
    "min_local_steps", "steepness", "midpoint", "amplitude", "slope_s", "intercept_s", "floor_s", "transmit_bits",
    "bandwidth_hz", "spectral_efficiency",
]  # fmt: skip
"""Names of the numbers of a round, the keys of `range_values` and of a card's range."""
SLACK = 0.05
"""Share of a range's width by which a number may lie outside it."""


def range_values(scenario: Scenario, users: Users) -> dict[RangeName, ArrayLike]:
    """Every number of a round: one each for the scenario, and one for each user, in the users' shape."""
    pai, edge = scenario.pai, scenario.edge
    return {
        "users": users.alpha.shape[-1],
        "gpus": scenario.gpus,
        "max_batch": scenario.max_batch,
        "slots": scenario.slots,
        "step_latency_s": users.step_latency_s,
        "alpha_s": users.alpha,
        "request_slot": users.request_slot,
        "total_steps": scenario.total_steps,
        "min_local_steps": scenario.min_local_steps,
        "steepness": pai.steepness,
        "midpoint": pai.midpoint,
        "amplitude": pai.amplitude,
        "slope_s": edge.slope_s,
        "intercept_s": edge.intercept_s,
        "floor_s": edge.floor_s,
        "transmit_bits": scenario.prompt_bits + scenario.latent_bits,
        "bandwidth_hz": scenario.bandwidth_hz,
        "spectral_efficiency": scenario.spectral_efficiency,
    }


def training_range(rounds: Iterable[tuple[Scenario, Users]]) -> dict[RangeName, list[float]]:
    """The smallest and the largest value of every number of these rounds."""
    values = [range_values(scenario, users) for scenario, users in rounds]
    return {
        name: [float(min(np.min(of_round[name]) for of_round in values)),
               float(max(np.max(of_round[name]) for of_round in values))]
        for name in values[0]
    }  # fmt: skip


def beyond_range(
    trained: Mapping[RangeName, list[float]], scenario: Scenario, users: Users
) -> Iterator[tuple[str, Bools]]:
    """Every number that lies outside a range, in words, and the cells in which it does.

    Args:
        trained: smallest and largest value of every number.
        scenario: the system.
        users: users of one round, shape (users,), or of cells of equal size, shape (cells, users).
    """
    values, every = range_values(scenario, users), np.ones(users.alpha.shape[:-1], bool)
    for name, (low, high) in trained.items():
        own, slack = np.asarray(values[name]), SLACK * (high - low) + 1e-9 * max(1.0, abs(high))
        beyond = np.asarray((own < low - slack) | (own > high + slack))
        if beyond.any():
            words = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            cells = np.asarray(beyond.any(axis=-1)) if beyond.ndim else every
            yield f"{name} {own[beyond].flat[0]:g}, trained for {words}", cells

"""What the edge asks of a newly granted user: seconds of its own latency, and prices for what it costs others.

p: price of an offloaded step. f: fee of a grant. b: newly granted users. L_e: seconds per edge step.
T: seconds that one intermediate is on the radio alone. Prices steer decisions and are never part of a QoE.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ...common.arrays import Floats, Ints
from .qoe import Scenario, edge_step_latency, transmit_time
from .split import best_split, delayed_split


@dataclass(frozen=True)
class Prices:
    """Seconds that a decision is charged beyond the user's own latency; none by default.

    Attributes:
        step_s: p for an offloaded step where nobody else is granted.
        step_rise_s: rise of p with every newly granted user, >= 0.
        grant_s: f for a grant where nobody else is granted.
        grant_rise_s: rise of f with every newly granted user, >= 0.
        delay_s: charge for offloading 0, 1, ... steps, shape (most steps + 1,); None for none.
    """

    step_s: float = 0.0
    step_rise_s: float = 0.0
    grant_s: float = 0.0
    grant_rise_s: float = 0.0
    delay_s: Floats | None = None

    def step_price(self, batch: ArrayLike) -> Floats:
        """p(b), seconds; of the shape of `batch`."""
        price: Floats = self.step_s + self.step_rise_s * np.asarray(batch, float)
        return price

    def grant_fee(self, batch: ArrayLike) -> Floats:
        """f(b), seconds; of the shape of `batch`."""
        fee: Floats = self.grant_s + self.grant_rise_s * np.asarray(batch, float)
        return fee


FREE = Prices()


@dataclass(frozen=True)
class Terms:
    """A scenario, with its load, and the prices in it.

    Attributes:
        scenario: the system.
        prices: charges for what a decision costs others.
    """

    scenario: Scenario
    prices: Prices = FREE

    def step_cost(self, batch: ArrayLike) -> Floats:
        """L_e(b_0 + b) + p(b): what an offloaded step costs, seconds; of the shape of `batch`."""
        return edge_step_latency(self.scenario, batch) + self.prices.step_price(batch)

    def grant_cost(self, batch: ArrayLike) -> Floats:
        """T (q_0 + b) + f(b): what a grant costs, seconds; of the shape of `batch`."""
        return transmit_time(self.scenario, batch) + self.prices.grant_fee(batch)

    def best_split(self, alpha: Floats, step_saving_s: Floats, own_steps: Ints | None = None) -> tuple[Ints, Floats]:
        """(P2) under these terms: the best split of granted users, and its gain over all local in seconds.

        Args:
            alpha: seconds, shape (..., users).
            step_saving_s: L_i less the step's cost, seconds, broadcast against alpha.
            own_steps: steps N of every user's image, of alpha's shape; None where all have the scenario's.

        Returns:
            (n, gain), both of the broadcast shape.
        """
        if own_steps is None:
            return self._split(alpha, step_saving_s)
        alpha, saving, steps = np.broadcast_arrays(alpha, step_saving_s, own_steps)
        n, gain = np.empty(alpha.shape, np.int64), np.empty(alpha.shape)
        for total in np.unique(own_steps).tolist():
            terms, here = replace(self, scenario=with_steps(self.scenario, total)), steps == total
            n[here], gain[here] = terms._split(alpha[here], saving[here])
        return n, gain

    def _split(self, alpha: Floats, step_saving_s: Floats) -> tuple[Ints, Floats]:
        if self.prices.delay_s is None:
            return best_split(self.scenario, alpha, step_saving_s)
        return delayed_split(self.scenario, alpha, step_saving_s, self.prices.delay_s)


@lru_cache
def with_steps(scenario: Scenario, total_steps: int) -> Scenario:
    """The same system for images of another number of steps: N-hat and the PAI curve keep their share of N."""
    share = total_steps / scenario.total_steps
    least = int(np.ceil(scenario.min_local_steps * share))
    return replace(scenario, total_steps=total_steps, min_local_steps=least, pai=scenario.pai.stretched(share))

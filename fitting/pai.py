"""The Personalised Accuracy Index expected at a split point, paper section 3.4.2 and Fig. 4b.

a: steepness, 1/step. b: midpoint, steps. n: local steps. F(n) = 1 / (1 + exp(-a (n - b))).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..common.arrays import Floats


@dataclass(frozen=True)
class PaiCurve:
    """c + A F(n): the paper's sigmoid (A = 1, c = 0), or a fitted one with amplitude and offset.

    Attributes:
        steepness: a_F, 1/step.
        midpoint: b_F, steps.
        amplitude: A.
        offset: c.
    """

    steepness: float
    midpoint: float
    amplitude: float = 1.0
    offset: float = 0.0

    def sigmoid(self, n: ArrayLike) -> Floats:
        """F(n), without amplitude and offset, for local steps of any shape."""
        t = self._centred(n)
        decay = np.exp(-np.abs(t))  # never overflows
        share: Floats = np.where(t >= 0, 1.0, decay) / (1 + decay)
        return share

    def value(self, n: ArrayLike) -> Floats:
        """The PAI at n local steps: c + A F(n)."""
        return self.offset + self.amplitude * self.sigmoid(n)

    def sigmoid_derivative(self, n: ArrayLike) -> Floats:
        """F'(n) = a F (1 - F), accurate where F rounds to 0 or 1; per step."""
        decay = np.exp(-np.abs(self._centred(n)))
        slope: Floats = self.steepness * decay / (1 + decay) ** 2
        return slope

    def derivative(self, n: ArrayLike) -> Floats:
        """The slope of the PAI curve at n: A a F (1 - F), per step."""
        return self.amplitude * self.sigmoid_derivative(n)

    def inverse_derivative(self, slope: ArrayLike) -> Floats:
        """The n at or right of the midpoint where the curve's derivative has this value.

        With q = slope / (A a), F (1 - F) = q gives F = (1 + sqrt(1 - 4 q)) / 2 and, since
        F / (1 - F) = F^2 / q, n = b + (2 ln F - ln q) / a, which stays exact where F rounds to 1.

        Args:
            slope: per step, any shape; above the largest derivative A a / 4 it counts as that
                (n = midpoint), at 0 the answer is infinity.

        Raises:
            ValueError: for a flat curve (A a = 0), a falling one, or a negative slope.
        """
        if not self.amplitude * self.steepness > 0:
            raise ValueError(f"only a rising curve has an inverse derivative, not {self}")
        q = np.asarray(slope, float) / (self.amplitude * self.steepness)
        if np.any(q < 0):
            raise ValueError("the derivative of a rising curve is never negative")
        return self.midpoint + log_odds(q) / self.steepness

    def _centred(self, n: ArrayLike) -> Floats:
        return self.steepness * (np.asarray(n, float) - self.midpoint)


def log_odds(q: Floats) -> Floats:
    """ln(F / (1 - F)) of the F >= 1/2 with F (1 - F) = q; 0 where q > 1/4, infinite at q = 0."""
    f = (1 + np.sqrt(np.maximum(1 - 4 * q, 0))) / 2
    with np.errstate(divide="ignore"):
        return 2 * np.log(f) - np.log(np.minimum(q, 0.25))

"""The Personalised Accuracy Index expected at a split point, paper section 3.4.2 and Fig. 4b.

a: steepness, 1/step. b: midpoint, steps. n: local steps. F(n) = 1 / (1 + exp(-a (n - b))).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ..common.arrays import Floats

LEVEL = (0.025, 0.975)
"""Quantiles of the bootstrap draws at the ends of a 95 % interval."""
GAIN, THRESHOLD = 30.0, 0.1
"""Constants a and b of sigma_P in eq. (1). By default the interval of LPIPS-bar at N-hat must lie above b as well."""
STEEPEST = 200.0
"""Bound of a fitted |steepness| times the range of the points; a curve as steep as that is a step."""


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
        """The n at or right of the midpoint at which the curve's derivative has a value.

        With q = slope / (A a), F (1 - F) = q gives F = (1 + sqrt(1 - 4 q)) / 2 and, since F / (1 - F) = F^2 / q,
        n = b + (2 ln F - ln q) / a, which stays exact where F rounds to 1.

        Args:
            slope: wanted derivative, per step, any shape. Above the largest derivative, A a / 4, the answer is the
                midpoint; at 0 it is infinity.

        Raises:
            ValueError: for a flat curve (A a = 0), a falling one, or a negative slope.
        """
        if not self.amplitude * self.steepness > 0:
            raise ValueError(f"only a rising curve has an inverse derivative, not {self}")
        q = np.asarray(slope, float) / (self.amplitude * self.steepness)
        if np.any(q < 0):
            raise ValueError("the derivative of a rising curve is never negative")
        return self.midpoint + log_odds(q) / self.steepness

    def stretched(self, factor: float) -> "PaiCurve":
        """The curve whose PAI at n is this one's at n / factor: for images of `factor` times as many steps."""
        return replace(self, steepness=self.steepness / factor, midpoint=self.midpoint * factor)

    def _centred(self, n: ArrayLike) -> Floats:
        return self.steepness * (np.asarray(n, float) - self.midpoint)


def log_odds(q: Floats) -> Floats:
    """ln(F / (1 - F)) of the F >= 1/2 with F (1 - F) = q; 0 where q > 1/4, infinite at q = 0."""
    q = np.minimum(q, 0.25)
    f = (1 + np.sqrt(1 - 4 * q)) / 2
    with np.errstate(divide="ignore"):
        return 2 * np.log(f) - np.log(q)


@dataclass(frozen=True, kw_only=True)
class PaiFit:
    """A fitted curve and how well it describes the points.

    Attributes:
        curve: fitted curve.
        parameters: number of fitted parameters: 2 for the paper's form, 4 with amplitude and offset.
        r2: share of the variance of the points that the curve explains; None where they do not vary.
        criterion: Akaike's corrected information criterion; lower is better.
    """

    curve: PaiCurve
    parameters: int
    r2: float | None
    criterion: float


def fit_pai(local_steps: ArrayLike, pai: ArrayLike, *, two_parameter: bool = False) -> PaiFit:
    """Fit the paper's sigmoid, or one with amplitude and offset where Akaike's corrected criterion prefers that.

    Args:
        local_steps: n, steps, shape (points,), three different ones or more.
        pai: PAI at each n, finite, shape (points,).
        two_parameter: whether only the paper's form is fitted, A = 1 and c = 0.

    Raises:
        ValueError: for fewer than three different n, other shapes, or values that are not finite.
    """
    n, y = np.asarray(local_steps, float), np.asarray(pai, float)
    if n.ndim != 1 or n.shape != y.shape or np.unique(n).size < 3:
        raise ValueError("a sigmoid needs one value at each of three different local steps or more")
    if not (np.all(np.isfinite(n)) and np.all(np.isfinite(y))):
        raise ValueError("local steps and values must be finite")
    fits = [_described(fit_sigmoid(n, y, free=False), n, y, 2)]
    if not two_parameter and n.size > 6:  # with fewer points the criterion of four parameters is not defined
        fits.append(_described(fit_sigmoid(n, y, free=True), n, y, 4))
    return min(fits, key=lambda fit: fit.criterion)


def fit_draws(local_steps: ArrayLike, draws: ArrayLike, fit: PaiFit) -> list[PaiCurve]:
    """The same form fitted to every bootstrap draw of the points.

    Args:
        local_steps: n, steps, shape (points,).
        draws: PAI at each n in each draw, shape (draws, points).
        fit: fit to the points themselves; each search begins there.
    """
    n, free = np.asarray(local_steps, float), fit.parameters > 2
    return [fit_sigmoid(n, y, free=free, start=fit.curve) for y in np.asarray(draws, float)]


def fit_sigmoid(n: Floats, y: Floats, *, free: bool, start: PaiCurve | None = None) -> PaiCurve:
    """Bounded least squares of c + A F(n).

    Args:
        n: local steps, shape (points,).
        y: values at each n, shape (points,).
        free: whether A >= 0 and c are fitted too; else A = 1 and c = 0.
        start: curve at which the search begins; None to begin at the best one of a grid.
    """
    from scipy.optimize import least_squares

    first, span = float(n.min()), float(np.ptp(n))
    x = (n - first) / span
    begin = _parameters(start, first, span, free) if start else _grid_start(x, y, free)
    height = 2 * float(np.ptp(y)) + 1e-9
    low, high = [-STEEPEST, -1.0], [STEEPEST, 2.0]
    if free:
        low, high = [*low, 0.0, float(y.min()) - height], [*high, 2 * height, float(y.max())]
    begin = np.clip(begin, np.array(low) + 1e-9, np.array(high) - 1e-9)

    def residuals(parameters: Floats) -> Floats:
        return _unit_sigmoid(parameters, x) - y

    a, b, *rest = least_squares(residuals, begin, bounds=(low, high), x_scale="jac").x
    amplitude, offset = rest or (1.0, 0.0)
    return PaiCurve(float(a / span), float(first + b * span), float(amplitude), float(offset))


def _unit_sigmoid(parameters: Floats, x: Floats) -> Floats:
    """The curve of two or four parameters at x; the points range over x from 0 to 1."""
    a, b, *rest = parameters
    amplitude, offset = rest or (1.0, 0.0)
    return PaiCurve(float(a), float(b), float(amplitude), float(offset)).value(x)


def _parameters(curve: PaiCurve, first: float, span: float, free: bool) -> Floats:
    """The parameters of a curve for `_unit_sigmoid`."""
    own = [curve.steepness * span, (curve.midpoint - first) / span]
    return np.array([*own, curve.amplitude, curve.offset] if free else own)


def _grid_start(x: Floats, y: Floats, free: bool) -> Floats:
    """The best parameters of a grid of steepnesses and midpoints; A and c follow by linear least squares."""
    best, least = np.zeros(4 if free else 2), np.inf
    for a in (sign * size for sign in (1, -1) for size in (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)):
        for b in np.linspace(-0.5, 1.5, 21):
            f = PaiCurve(a, float(b)).value(x)
            linear = np.linalg.lstsq(np.column_stack([f, np.ones_like(f)]), y, rcond=None)[0] if free else (1.0, 0.0)
            error = float(np.sum((linear[0] * f + linear[1] - y) ** 2))
            if error < least and linear[0] >= 0:
                best, least = np.array([a, b, *linear] if free else [a, b]), error
    return best


def r_squared(y: Floats, fitted: Floats) -> float | None:
    """Share of the variance of points that a fit explains; None where they do not vary.

    Args:
        y: points, any shape.
        fitted: what the fit says of each, broadcast against them.
    """
    spread = float(np.sum((y - y.mean()) ** 2))
    return 1 - float(np.sum((fitted - y) ** 2)) / spread if spread > 0 else None


def _described(curve: PaiCurve, n: Floats, y: Floats, parameters: int) -> PaiFit:
    """A fitted curve and how well it describes the points."""
    fitted = curve.value(n)
    residual = float(np.sum((fitted - y) ** 2))
    free = n.size - parameters - 2  # the variance of the residuals is a parameter as well
    correction = 2 * (parameters + 1) * (parameters + 2) / free if free > 0 else np.inf
    criterion = n.size * float(np.log(max(residual / n.size, 1e-24))) + 2 * (parameters + 1) + correction
    return PaiFit(curve=curve, parameters=parameters, r2=r_squared(y, fitted), criterion=float(criterion))

"""Laws of the PAI curve; oracles: SciPy's expit and numerical derivatives."""

import numpy as np
import pytest
from scipy.special import expit

from edgesplit.fitting.pai import PaiCurve, log_odds

CURVES = [
    PaiCurve(0.0413, 71.44),
    PaiCurve(0.5, 12, 0.7, 0.1),
    PaiCurve(40.0, 100),
    PaiCurve(0.1, -5, 2.0, -0.3),
]
N = np.linspace(0, 200, 401)


@pytest.mark.parametrize("curve", CURVES)
def test_value_is_a_scaled_sigmoid(curve):
    expected = curve.offset + curve.amplitude * expit(curve.steepness * (N - curve.midpoint))
    np.testing.assert_allclose(curve.value(N), expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("curve", CURVES)
def test_derivative_is_the_slope_of_value(curve):
    step = 1e-5 / curve.steepness
    slope = (curve.value(N + step) - curve.value(N - step)) / (2 * step)
    peak = curve.amplitude * curve.steepness / 4
    np.testing.assert_allclose(curve.derivative(N), slope, atol=1e-8 * peak)
    assert curve.derivative(curve.midpoint) == pytest.approx(peak)


@pytest.mark.parametrize("curve", CURVES)
def test_inverse_derivative_undoes_derivative_right_of_the_midpoint(curve):
    n = curve.midpoint + np.linspace(0.01, 600, 200) / curve.steepness  # far beyond where F rounds to 1
    np.testing.assert_allclose(curve.inverse_derivative(curve.derivative(n)), n, rtol=1e-9, atol=1e-6)


def test_the_papers_curve_at_its_own_points():
    curve = PaiCurve(0.0413, 71.44)
    assert curve.value(71.44) == 0.5
    assert curve.value(80) == pytest.approx(0.5875, abs=1e-4)
    assert curve.value(200) == pytest.approx(0.99508, abs=1e-5)


def test_slopes_beyond_the_ends_of_the_derivative():
    curve = PaiCurve(0.0413, 71.44)
    assert curve.inverse_derivative(1.0) == 71.44
    assert curve.inverse_derivative(0.0) == np.inf
    with pytest.raises(ValueError, match="never negative"):
        curve.inverse_derivative(-0.1)
    with pytest.raises(ValueError, match="rising curve"):
        PaiCurve(0.1, 10, amplitude=0).inverse_derivative(0.1)


def test_log_odds_is_the_logit():
    f = np.array([0.5, 0.6, 0.9, 0.999])
    np.testing.assert_allclose(log_odds(f * (1 - f)), np.log(f / (1 - f)), atol=1e-9)

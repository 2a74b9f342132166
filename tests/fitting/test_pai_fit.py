"""The sigmoid's fit against known curves, without starting points."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from edgesplit.fitting.pai import PaiCurve, fit_pai

PAPER = PaiCurve(0.0413, 71.44)


def points(curve, total, count=11, noise=0.0, seed=0):
    n = np.linspace(0, total, count)
    return n, curve.value(n) + np.random.default_rng(seed).normal(0, noise, count)


def test_the_paper_s_curve_is_recovered_from_noisy_points():
    fit = fit_pai(*points(PAPER, 200, 21, noise=0.01))
    assert fit.curve.steepness == pytest.approx(0.0413, rel=0.05)
    assert fit.curve.midpoint == pytest.approx(71.44, abs=1.5)
    assert (fit.curve.amplitude, fit.curve.offset) == (1.0, 0.0)
    assert fit.r2 > 0.99


@pytest.mark.parametrize(
    ("curve", "total"),
    [
        (PAPER, 200),
        (PaiCurve(0.3, 12.0), 28),
        (PaiCurve(0.25, 21.0, 0.97, 0.03), 50),
        (PaiCurve(-0.35, 14.0, 0.24, 0.08), 28),  # falls from 0.32 to 0.08, as CLIP against SD3's split does
        (PaiCurve(0.35, 14.0, 0.24, 0.08), 28),
        (PaiCurve(0.05, 180.0), 200),
        (PaiCurve(-0.05, 20.0, 0.5, 0.4), 200),
        (PaiCurve(2.0, 25.0, 0.8, 0.1), 50),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_rising_and_falling_curves_of_any_height_are_recovered(curve, total, noise):
    n, y = points(curve, total, 15, noise * curve.amplitude)
    fit = fit_pai(n, y)
    assert fit.r2 > 0.99
    np.testing.assert_allclose(fit.curve.value(n), curve.value(n), atol=0.03 * curve.amplitude)
    if noise == 0:
        assert fit.curve.midpoint == pytest.approx(curve.midpoint, abs=1e-3 * total)
        assert fit.curve.steepness == pytest.approx(curve.steepness, rel=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_no_worse_than_scipy_from_the_true_parameters(seed):
    """`curve_fit` is started at the truth; the grid must find as good a valley."""
    n, y = points(PAPER, 200, 11, 0.03, seed)
    (a, b), _ = curve_fit(lambda x, a, b: PaiCurve(a, b).value(x), n, y, p0=[PAPER.steepness, PAPER.midpoint])
    curve = fit_pai(n, y, two_parameter=True).curve
    assert np.sum((curve.value(n) - y) ** 2) <= np.sum((PaiCurve(a, b).value(n) - y) ** 2) * (1 + 1e-6)


def test_amplitude_and_offset_are_taken_only_where_they_pay():
    free = [fit_pai(*points(PaiCurve(0.25, 21.0, 0.8, 0.1), 50, 15, 0.01, seed)).curve for seed in range(12)]
    plain = [fit_pai(*points(PaiCurve(0.25, 21.0), 50, 15, 0.01, seed)).curve for seed in range(12)]
    assert all(curve.amplitude < 0.9 for curve in free)
    assert sum(curve.amplitude == 1 for curve in plain) >= 9
    forced = fit_pai(*points(PaiCurve(0.25, 21.0, 0.8, 0.1), 50, 15), two_parameter=True).curve
    assert (forced.amplitude, forced.offset) == (1.0, 0.0)


def test_points_may_come_in_any_order():
    n, y = points(PAPER, 200, 11, 0.02)
    order = np.random.default_rng(0).permutation(11)
    one, other = fit_pai(n, y).curve, fit_pai(n[order], y[order]).curve
    assert other.steepness == pytest.approx(one.steepness, rel=1e-4)
    assert other.midpoint == pytest.approx(one.midpoint, rel=1e-4)


def test_a_level_line_has_no_share_of_variance():
    assert fit_pai([0, 10, 20, 30], [0.5] * 4).r2 is None


@pytest.mark.parametrize(
    ("n", "y"), [([0, 1], [0, 1]), ([0, 0, 1, 1], [0, 0, 1, 1]), ([0, 1, 2], [0, 1]), ([0, 1, 2], [0, np.nan, 1])]
)
def test_what_cannot_be_fitted_is_refused(n, y):
    with pytest.raises(ValueError, match=r"sigmoid needs|finite"):
        fit_pai(n, y)

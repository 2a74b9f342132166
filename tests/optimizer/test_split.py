"""Laws of the split point; oracles: SciPy's root of the derivative, and every integer."""

import numpy as np
import pytest
from oracles import make_scenario, random_scenario
from scipy.optimize import brentq

from edgesplit.fitting.pai import PaiCurve
from edgesplit.optimizer.model.qoe import edge_step_latency
from edgesplit.optimizer.model.split import (
    alpha_from_emphasis,
    alpha_of_split,
    alpha_range,
    best_split,
    split_gain,
    split_point,
)


@pytest.mark.parametrize("curve", [PaiCurve(0.0413, 71.44), PaiCurve(0.3, 90, 0.8, 0.1), PaiCurve(3.0, 60.5)])
def test_closed_form_is_the_root_that_scipy_finds(curve):
    scenario = make_scenario(min_local_steps=100, pai=curve)
    for n in np.linspace(100.5, min(199.5, 100 + 500 / curve.steepness), 40):
        alpha, saving = 7.0, 7.0 * float(curve.derivative(n))
        if not saving > 1e-290:
            continue
        root = brentq(lambda m: np.log(alpha * curve.derivative(m) / saving), 100, 200, xtol=1e-12)
        assert split_point(scenario, alpha, saving) == pytest.approx(root, abs=1e-6)
        assert root == pytest.approx(n, abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "saving", "expected"),
    [
        (5.0, -0.1, 200),  # the device is faster than the edge
        (5.0, 0.0, 200),
        (0.0, 0.0, 200),
        (0.0, 0.1, 80),  # latency is all that counts
        (1.0, 0.5, 80),  # q > 1/4
        (1e9, 0.1, 200),  # PAI is all that counts
    ],
)
def test_the_cases_of_proposition_2(alpha, saving, expected):
    assert split_point(make_scenario(), alpha, saving) == expected
    assert best_split(make_scenario(), alpha, saving)[0] == expected


def test_best_split_is_the_best_integer_and_the_larger_of_equal_ones():
    rng = np.random.default_rng(0)
    for _ in range(500):
        scenario = random_scenario(rng)
        alpha = np.append(10 ** rng.uniform(-4, 5, 20), 0.0)
        saving = rng.normal(0, 0.3, (4, 1)) * rng.choice([0, 1, 1], (4, 1))
        n, gain = best_split(scenario, alpha, saving)
        every = np.arange(scenario.min_local_steps, scenario.total_steps + 1)
        gains = split_gain(scenario, alpha, saving, every[:, None, None])
        np.testing.assert_allclose(gain, gains.max(axis=0), rtol=1e-12, atol=1e-12 * (1 + alpha.max()))
        tied = gains >= gains.max(axis=0) - 1e-14
        assert np.all(n <= np.max(np.where(tied, every[:, None, None], 0), axis=0))
        flat = alpha * scenario.pai.amplitude + 0 * saving == 0
        larger = np.where(saving > 0, scenario.min_local_steps, scenario.total_steps) + 0 * alpha
        np.testing.assert_array_equal(n[flat], larger.astype(int)[flat])


def test_offloaded_steps_fall_with_alpha_with_batch_and_with_a_faster_device():
    scenario = make_scenario()
    alpha, latency = np.linspace(0, 60, 40), np.array([0.05, 0.2, 0.8])
    edge = edge_step_latency(scenario, np.array([1, 10, 20]))
    n, _ = best_split(scenario, alpha[:, None, None], latency[:, None] - edge)  # (alphas, devices, batches)
    assert np.all(np.diff(n, axis=0) >= 0)
    assert np.all(np.diff(n, axis=1) <= 0)
    assert np.all(np.diff(n, axis=2) >= 0)


def test_emphasis_is_the_place_of_the_split_between_the_ends():
    scenario, latency = make_scenario(), np.array([0.1, 0.5, 2.0])
    saving = latency - edge_step_latency(scenario, scenario.reference_batch)
    for emphasis in (0.0, 0.1, 0.25, 0.9, 1.0):
        alpha = alpha_from_emphasis(scenario, latency, emphasis)
        np.testing.assert_allclose(split_point(scenario, alpha, saving), 80 + emphasis * 120, rtol=1e-9)


def test_remark_1_bounds_alpha_between_latency_only_and_pai_only():
    scenario, latency = make_scenario(), np.array([0.1, 0.5, 2.0])
    low, high = alpha_range(scenario, latency)
    np.testing.assert_array_equal([low, high], [alpha_from_emphasis(scenario, latency, e) for e in (0, 1)])
    saving = latency - edge_step_latency(scenario, scenario.reference_batch)
    np.testing.assert_array_equal(split_point(scenario, 0.99 * low, saving), 80)
    np.testing.assert_array_equal(split_point(scenario, 1.01 * high, saving), 200)
    a, f = 0.0413, 1 / (1 + np.exp(-0.0413 * (80 - 71.44)))
    np.testing.assert_allclose(low, saving / (a * f * (1 - f)))  # as printed in the paper


def test_alpha_of_a_device_faster_than_the_edge_is_positive():
    assert alpha_from_emphasis(make_scenario(), 0.001, 0.5) > 0


def test_papers_random_users_have_emphasis_from_0_to_035():
    scenario = make_scenario()
    _, high = alpha_range(scenario, 0.5)
    assert alpha_from_emphasis(scenario, 0.5, 0.35) == pytest.approx(0.05 * high, rel=0.05)


def test_alpha_of_a_flat_place_is_infinite_and_of_an_equal_device_0():
    flat = make_scenario(pai=PaiCurve(50.0, 20))
    assert alpha_of_split(flat, 1.0, 200) == np.inf
    equal = float(edge_step_latency(flat, 20))
    assert alpha_of_split(flat, equal, 200) == 0

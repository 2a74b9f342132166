"""The step latency that a server plans with: what the last ticks took, whatever sizes they had."""

import numpy as np
import pytest

from edgesplit.fitting.latency import LatencyModel
from edgesplit.service.estimates import FEWEST_TICKS, RECENT_TICKS, WINDOW_TICKS, LatencyEstimate

PROFILE = LatencyModel(0.002, 0.01, 0.0)


def estimate_of(ticks, gpus=1):
    estimate = LatencyEstimate(PROFILE, gpus)
    for batch, seconds in ticks:
        estimate.note(batch, seconds)
    return estimate.model()


def noisy(true, batches, seed=0):
    """Ticks of some sizes, each a little off, and every twentieth ten times as long."""
    rng = np.random.default_rng(seed)
    seconds = true.step_latency(np.asarray(batches, float)) * rng.normal(1.0, 0.03, len(batches))
    seconds[::20] *= 10
    return list(zip(batches, seconds.tolist(), strict=True))


def test_few_ticks_leave_the_profile():
    assert estimate_of([(4, 1.0)] * (FEWEST_TICKS - 1)) == PROFILE


def test_one_size_scales_the_profile():
    found = estimate_of(noisy(LatencyModel(0.004, 0.02, 0.0), [8] * 100))
    assert found.slope_s / PROFILE.slope_s == pytest.approx(2.0, rel=0.03)
    assert found.intercept_s / PROFILE.intercept_s == pytest.approx(2.0, rel=0.03)


def test_a_batch_that_grows_without_a_size_that_comes_often_is_followed():
    """Each size once: what a tick of 400 takes is known, though the profile is three times off there."""
    true = LatencyModel(0.0007, 0.02, 0.0)
    found = estimate_of(noisy(true, list(range(1, WINDOW_TICKS + 1))))
    for batch in (50, 200, 400):
        assert found.step_latency(batch) == pytest.approx(true.step_latency(batch), rel=0.1)


def test_a_machine_that_becomes_slower_is_followed_before_the_window_has_passed():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 30, WINDOW_TICKS).tolist()
    slower = LatencyModel(3 * PROFILE.slope_s, 3 * PROFILE.intercept_s, 0.0)
    found = estimate_of(noisy(PROFILE, sizes) + noisy(slower, sizes[:RECENT_TICKS]))
    assert found.step_latency(15) == pytest.approx(slower.step_latency(15), rel=0.1)


def test_gpus_share_a_tick():
    true = LatencyModel(0.001, 0.01, 0.0)
    ticks = [(batch, float(true.step_latency(batch / 4))) for batch in list(range(4, 84, 4)) * 10]
    assert estimate_of(ticks, gpus=4).step_latency(10) == pytest.approx(true.step_latency(10), rel=0.02)

"""Laws of L(b) and of its fit."""

import csv

import numpy as np
import pytest
from scipy.optimize import minimize, nnls

from edgesplit import data
from edgesplit.fitting.latency import LatencyModel, fit_latency, fit_line, fit_lines, fit_samples
from edgesplit.fitting.published import CARDS, PREFERENCE, all_profiles, best_rows, read_rows

BATCHES = np.array([1.0, 2, 4, 8, 16])


def test_latency_is_a_line_with_a_floor():
    model = LatencyModel(0.5, 1.0, 3.0)
    np.testing.assert_array_equal(model.step_latency([0.5, 1, 4, 5, 8]), [3, 3, 3, 3.5, 5])


@pytest.mark.parametrize(("k", "h"), [(0.02, 0.01), (0.0, 0.3), (0.3, 0.0), (1e-6, 5.0)])
def test_fit_recovers_a_known_line(k, h):
    fit = fit_latency(BATCHES, k * BATCHES + h)
    assert fit.model.slope_s == pytest.approx(k, abs=1e-12)
    assert fit.model.intercept_s == pytest.approx(h, abs=1e-12)
    assert fit.model.floor_s == 0
    assert fit.max_relative_residual < 1e-9
    assert fit.held_out_error < 1e-9


def test_fit_recovers_a_known_floor():
    truth = LatencyModel(0.01, 0.002, 0.03)
    fit = fit_latency([1, 2, 4, 8, 16, 32], truth.step_latency([1, 2, 4, 8, 16, 32]))
    assert (fit.model.slope_s, fit.model.intercept_s) == pytest.approx((0.01, 0.002))
    assert fit.model.floor_s == pytest.approx(0.03)


def test_fit_minimises_the_relative_residual_under_weights_and_bounds():
    rng = np.random.default_rng(0)
    for _ in range(20):
        y = (0.02 * BATCHES + rng.uniform(-0.02, 0.02)) * np.exp(rng.normal(0, 0.2, 5))
        y, w = np.abs(y) + 1e-3, rng.uniform(0.1, 10, 5)
        line = fit_line(BATCHES, y, w)

        def loss(kh, y=y, w=w):
            return np.sum(w * ((kh[0] * BATCHES + kh[1]) / y - 1) ** 2)

        best = minimize(loss, [0.02, 0.01], bounds=[(0, None)] * 2, tol=1e-14).fun
        assert loss((line.slope_s, line.intercept_s)) <= best * (1 + 1e-9)


@pytest.mark.parametrize(
    "fit", [fit_latency, lambda b, y: fit_samples({int(x): [[s]] for x, s in zip(b, y, strict=True)})]
)
def test_the_flat_h200_takes_the_floor_model(fit):
    medians = [0.0249, 0.0261, 0.0388, 0.0709, 0.1272]
    assert 0.0249 < fit(BATCHES, medians).model.floor_s < 0.0261


def test_three_batch_sizes_never_take_the_floor_model():
    assert fit_latency([1, 2, 16], [0.02, 0.02, 0.1]).model.floor_s == 0


@pytest.mark.parametrize(
    ("batches", "latencies", "weights", "says"),
    [
        ([1], [1.0], None, "two different"),
        ([2, 2], [1.0, 1.1], None, "two different"),
        ([1, 2], [1.0], None, "one latency"),
        ([1, 2], [1.0, np.nan], None, "latencies must be finite"),
        ([1, 2], [1.0, 0.0], None, "latencies must be finite"),
        ([0, 2], [1.0, 2.0], None, "batch sizes must be finite"),
        ([1, 2], [1.0, 2.0], [1.0, -1.0], "weights must be finite"),
    ],
)
def test_bad_points_are_refused_in_words(batches, latencies, weights, says):
    with pytest.raises(ValueError, match=says):
        fit_latency(batches, latencies, weights)


def test_every_card_takes_its_preferred_source():
    rows = read_rows(data.sample("published/step_latency.csv"))
    for card in CARDS:
        taken = best_rows(card, rows)[0].source
        better = list(PREFERENCE)[: list(PREFERENCE).index(taken)]
        named_in = {row.source for row in rows if row.gpu == card and row.dtype == "fp16"}
        assert not named_in & set(better) or card == "H200"


def test_points_beyond_gpu_memory_are_left_out():
    rows = read_rows(data.sample("published/step_latency.csv"))
    assert [row.batch for row in best_rows("GTX 1060 6GB", rows)] == [1, 2, 4]  # 12.9 s at 8, 43 s at 16


def test_profiles_agree_with_fits_record_by_record():
    """The slope per card against the median over single records: same source, other statistics."""
    published = {"RTX 3080": 0.05514, "RTX 4080": 0.03436, "RTX 2080 Ti": 0.06780, "RTX 3070": 0.07548}
    slopes = {profile.device: profile.fit.slope_s for profile in all_profiles()}
    for card, slope in published.items():
        assert slopes[card] / 0.87 == pytest.approx(slope, rel=0.15)


def test_published_points_carry_source_and_count():
    with open(data.sample("published/step_latency.csv"), encoding="utf-8") as handle:
        assert {row["source"] for row in csv.DictReader(handle)} == {*PREFERENCE}


def noisy_samples(rng, model, noise=0.02, count=40):
    noisy = {int(b): model.step_latency(b) * np.exp(rng.normal(0, noise, count)) for b in BATCHES}
    return {b: durations[:, None] for b, durations in noisy.items()}


@pytest.mark.parametrize(("runs", "least"), [(120, 0.85), pytest.param(500, 0.9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("truth", [LatencyModel(0.01, 0.02), LatencyModel(0.01, 0.005, 0.03)])
def test_intervals_cover_the_truth_at_their_rate_and_only_a_floor_takes_the_floor_model(truth, runs, least):
    """The intervals cover k and h at 93 %; three standard errors of a share of 120 runs are 7 %."""
    rng, hits, floors = np.random.default_rng(0), np.zeros(2), 0
    for _ in range(runs):
        fit = fit_samples(noisy_samples(rng, truth))
        hits += [
            fit.slope_ci_s[0] <= truth.slope_s <= fit.slope_ci_s[1],
            fit.intercept_ci_s[0] <= truth.intercept_s <= fit.intercept_ci_s[1],
        ]
        floors += fit.model.floor_s > 0
    assert np.all(hits >= least * runs), hits / runs
    assert floors == runs if truth.floor_s else floors < 0.1 * runs


@pytest.mark.parametrize(("runs", "least"), [(100, 0.75), pytest.param(300, 0.8, marks=pytest.mark.slow)])
def test_intervals_cover_the_truth_though_the_machine_wanders(runs, least):
    """All batch sizes share a speed that moves by 5 % over a tenth of the run; intervals that took them for
    independent would cover k in less than half of the runs."""
    truth, rng, hits, visits = LatencyModel(0.01, 0.02), np.random.default_rng(4), 0, 60
    for _ in range(runs):
        innovations = rng.normal(0, 0.05 * np.sqrt(1 - np.exp(-2 / 6)), visits)
        wander = np.zeros(visits)
        wander[0] = rng.normal(0, 0.05)
        for i in range(1, visits):
            wander[i] = np.exp(-1 / 6) * wander[i - 1] + innovations[i]
        samples = {b: (truth.step_latency(b) * np.exp(wander + rng.normal(0, 0.02, visits)))[:, None] for b in BATCHES}
        low, high = fit_samples(samples).slope_ci_s
        hits += low <= truth.slope_s <= high
    assert hits >= least * runs, hits / runs


def test_many_lines_at_once_are_the_non_negative_least_squares_of_scipy():
    rng = np.random.default_rng(2)
    truth = np.stack([0.02 * BATCHES, 0.05 + 0.01 * BATCHES, 0.5 - 0.02 * BATCHES]).repeat(100, axis=0)
    y = truth * np.exp(rng.normal(0, 0.2, (300, 5)))
    w = rng.uniform(0.1, 10, 5)
    slopes, intercepts = fit_lines(BATCHES, y, w)
    for row, k, h in zip(y, slopes, intercepts, strict=True):
        design = np.column_stack([BATCHES / row, 1 / row]) * np.sqrt(w)[:, None]
        np.testing.assert_allclose((k, h), nnls(design, np.sqrt(w))[0], atol=1e-9)
    assert np.any(slopes == 0)
    assert np.any(intercepts == 0)


def test_a_poor_line_is_said_in_words_with_the_batch_where_it_fails():
    fit = fit_latency([1, 2, 4, 8], [0.02, 0.03, 0.05, 0.2])
    assert f"at batch {fit.worst_batch:g} it is {fit.max_relative_residual:.1%} off" in fit.warning()
    assert fit_latency([1, 2, 4], [0.02, 0.03, 0.05]).warning() is None


def test_intervals_of_a_floor_model_are_numbers_even_where_the_line_starts_on_the_floor():
    rng = np.random.default_rng(3)
    truth = LatencyModel(0.01, 0.0, 0.0405)
    for _ in range(20):
        samples = {b: truth.step_latency(b) * np.exp(rng.normal(0, 0.01, (20, 1))) for b in (1, 2, 4, 8)}
        fit = fit_samples(samples)
        assert np.all(np.isfinite([*fit.slope_ci_s, *fit.intercept_ci_s, *(fit.floor_ci_s or ())]))


def test_few_visits_give_no_interval():
    samples = {b: [[0.01 * b, 0.011 * b]] * 3 for b in (1, 2, 4)}
    assert fit_samples(samples).slope_ci_s is None

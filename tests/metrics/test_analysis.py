"""Points, intervals, N-hat and fit, against known truths."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from edgesplit.common.errors import InputError
from edgesplit.fitting.pai import LEVEL, PaiCurve
from edgesplit.metrics.analysis import (
    GroupScores,
    analyse,
    bootstrap,
    draw_weights,
    min_local_steps,
    over_seeds,
    scores_of,
)
from edgesplit.metrics.figures import draw_curve
from edgesplit.metrics.pai import PaiConstants, pai

PAPER = PaiCurve(0.0413, 71.44)
N = np.arange(0, 201, 20)
FLAT = PaiConstants(kappa=1.0, gain=1e6, threshold=-1.0)
"""With these PAI = CLIP, so that the truth behind noisy scores is known."""


def scores(rng, prompts=60, seeds=1, noise=0.15, curve=PAPER):
    """Prompts that lie above or below the curve as a whole; on top of that their groups at each split."""
    prompt = np.repeat(np.arange(prompts), seeds)
    shift = rng.normal(0, noise, (prompts, 1))[prompt] + rng.normal(0, noise / 3, (prompt.size, N.size))
    return GroupScores(N, curve.value(N) + shift, np.broadcast_to(N / 500, shift.shape), prompt, 3)


def even_scores(clip=0.25):
    """Four equal groups whose CLIP is the same at every split."""
    return GroupScores(N, np.full((4, 11), clip), np.tile(N / 100.0, (4, 1)), np.arange(4), 2)


def covered(truth, ends):
    return ends[0] <= truth <= ends[1]


@pytest.mark.parametrize(("runs", "draws"), [(60, 50), pytest.param(200, 100, marks=pytest.mark.slow)])
def test_intervals_of_a_f_and_b_f_cover_at_their_rate_and_are_no_wider_than_that_takes(runs, draws):
    """An interval of few draws is narrower than one of many: its ends are order statistics of the draws."""
    records = [
        analyse(scores(np.random.default_rng(seed)), 200, FLAT, two_parameter=True, draws=draws).fit_record()
        for seed in range(runs)
    ]
    outside = (1 + LEVEL[0] * (draws - 1)) / (draws + 1)  # expected share of a tail that starts at this order statistic
    rate, four_errors = 1 - 2 * outside, 4 / np.sqrt(2 * runs)
    for truth, estimates, ends in (
        (0.0413, [record.steepness for record in records], np.array([record.steepness_ci for record in records])),
        (71.44, [record.midpoint for record in records], np.array([record.midpoint_ci for record in records])),
    ):
        hits = np.mean([covered(truth, pair) for pair in ends])
        assert hits >= rate - 4 * np.sqrt(rate * (1 - rate) / runs)
        width = np.mean(ends[:, 1] - ends[:, 0])
        assert width == pytest.approx(2 * norm.isf(outside) * np.std(estimates), rel=four_errors)


@pytest.mark.parametrize(("prompts", "seeds"), [(60, 1), (40, 5)])
def test_intervals_of_the_points_cover_at_their_rate_whatever_the_number_of_seeds(prompts, seeds):
    """Seeds of one prompt share what is the prompt's own, so that five times as many are no five times the evidence."""
    hits = []
    for number in range(300):
        drawn = scores(np.random.default_rng(number), prompts, seeds)
        ends = np.quantile(bootstrap({"pai": over_seeds(drawn, drawn.clip)}, 300, 0)["pai"], LEVEL, axis=0)
        hits.append((ends[0] <= PAPER.value(N)) & (PAPER.value(N) <= ends[1]))
    assert abs(np.mean(hits) - 0.95) < 0.03


def test_where_prompts_vary_as_in_the_toy_world_intervals_over_pairs_are_far_too_narrow():
    """The docs' figures: standard deviations of prompts, seeds and the rest of the shipped measurements at n = 25."""
    rng, hits = np.random.default_rng(0), {"prompts": [], "pairs": []}
    for _ in range(1000):
        pairs = rng.normal(0, 0.208, (10, 1)) + rng.normal(0, 0.044, (1, 20)) + rng.normal(0, 0.143, (10, 20))
        for name, units in (("prompts", pairs.mean(axis=1)), ("pairs", pairs.ravel())):
            hits[name].append(covered(0, np.quantile(bootstrap({"pai": units}, 200, 0)["pai"], LEVEL)))
    assert np.mean(hits["prompts"]) == pytest.approx(0.9, abs=0.03)
    assert np.mean(hits["pairs"]) == pytest.approx(0.39, abs=0.05)


def test_seeds_that_differ_in_nothing_are_no_evidence():
    one = scores(np.random.default_rng(0), 12)
    copies = np.repeat(np.arange(12), 20)
    many = GroupScores(N, one.clip[copies], one.lpips[copies], copies, 3)
    np.testing.assert_allclose(*(analyse(drawn, 200, draws=30).intervals["pai"] for drawn in (one, many)))


def test_a_single_prompt_has_intervals_over_its_seeds_and_says_so():
    drawn = scores(np.random.default_rng(0), 20, 1)
    result = analyse(GroupScores(N, drawn.clip, drawn.lpips, np.zeros(20, int), 3), 200, FLAT, personal=0.19, draws=30)
    np.testing.assert_allclose(result.intervals["pai"], analyse(drawn, 200, FLAT, draws=30).intervals["pai"])
    assert ["over its seeds" in line for line in result.warnings()] == [True]
    few = analyse(scores(np.random.default_rng(0), 4, 5, noise=0.01), 200, FLAT, personal=0.19, draws=30)
    assert ["4 prompts show little" in line for line in few.warnings()] == [True]


MEASURED = ("prompt", "seed", "local_steps", "user", "clip", "lpips")


def measurements(rng, seeds_of, lpips=None):
    """A table of two users' pictures at n = 0, 5, 10 in random order, for a number of seeds of every prompt."""
    rows = [
        (prompt, seed, n, user, rng.uniform(0.2, 0.5), rng.uniform(0, 0.3) if lpips is None else lpips[n])
        for prompt, seeds in seeds_of.items()
        for seed in range(seeds)
        for n in (0, 5, 10)
        for user in ("a", "b")
    ]
    frame = pd.DataFrame(rows, columns=MEASURED).sample(frac=1, random_state=0)
    return frame.to_dict("list"), rows


def plain_pai(rows, constants):
    """The points of Fig. 4b in plain loops: eq. (1) of every prompt, seed and split, then the mean over the seeds."""
    points = {}
    for prompt in dict.fromkeys(row[0] for row in rows):
        for n in (0, 5, 10):
            values = []
            for seed in {row[1] for row in rows if row[0] == prompt}:
                pictures = [row for row in rows if row[:3] == (prompt, seed, n)]
                clip = sum(row[4] for row in pictures) / len(pictures)
                lpips = sum(row[5] for row in pictures) / len(pictures)
                sigma = 1 / (1 + math.exp(-constants.gain * (lpips - constants.threshold)))
                values.append(constants.kappa * clip * sigma)
            points[prompt, n] = sum(values) / len(values)
    return points


def test_pai_is_equation_1_of_every_prompt_and_seed_and_the_means_follow():
    """Prompts count alike, whatever the number of their seeds."""
    table, rows = measurements(np.random.default_rng(3), {"q": 4, "p": 2, "r": 3})
    result = analyse(scores_of(table), 10, PaiConstants(kappa=2.5))
    plain = plain_pai(rows, result.constants)
    order = list(dict.fromkeys(table["prompt"]))
    for i, n in enumerate((0, 5, 10)):
        own = [plain[prompt, n] for prompt in order]
        point = result.points()[i]
        assert point.prompt_pai == pytest.approx(own)
        assert point.pai == pytest.approx(sum(own) / 3)
    flat = np.array([[plain[prompt, n] for n in (0, 5, 10)] for prompt in order])
    left = flat - result.fit.curve.value([0, 5, 10])
    assert result.prompt_r2 == pytest.approx(1 - (left**2).sum() / ((flat - flat.mean()) ** 2).sum())


def test_the_draws_compute_pai_in_the_same_order():
    """Every draw of the prompts is the mean of their own points, so that its extremes are one prompt's."""
    table, rows = measurements(np.random.default_rng(5), {"p": 3, "q": 3})
    result = analyse(scores_of(table), 10, PaiConstants())
    plain = plain_pai(rows, result.constants)
    ends = np.sort([[plain[prompt, n] for n in (0, 5, 10)] for prompt in ("p", "q")], axis=0)
    np.testing.assert_allclose(result.intervals["pai"], ends)  # a quarter of the draws are one prompt alone


def test_where_lpips_is_the_same_for_all_seeds_the_order_does_not_matter():
    table, _ = measurements(np.random.default_rng(4), {"p": 3, "q": 3}, lpips={0: 0.0, 5: 0.11, 10: 0.2})
    result = analyse(scores_of(table), 10, draws=2)
    of_means = pai(result.means["clip"], result.means["lpips"], PaiConstants())
    np.testing.assert_allclose(result.means["pai"], of_means, rtol=1e-12)
    mixed, _ = measurements(np.random.default_rng(4), {"p": 3, "q": 3})
    other = analyse(scores_of(mixed), 10, draws=2)
    assert np.abs(other.means["pai"] - pai(other.means["clip"], other.means["lpips"], PaiConstants())).max() > 0.01


def test_a_table_without_a_picture_is_refused():
    table, _ = measurements(np.random.default_rng(3), {"p": 2})
    gone = {name: values[1:] for name, values in table.items()}
    missing = f"prompt 'p', seed {table['seed'][0]}: found no row for local_steps {table['local_steps'][0]} and user "
    with pytest.raises(InputError, match=f"{missing}'{table['user'][0]}', accepted: one row"):
        scores_of(gone)


def test_draws_weigh_whole_units_and_are_repeatable():
    weights = draw_weights(7, 50, seed=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights * 7, np.round(weights * 7), atol=1e-12)
    np.testing.assert_array_equal(weights, draw_weights(7, 50, seed=1))
    assert bootstrap({"pai": np.ones((1, 3))}, 50, 0) == {}


@pytest.mark.parametrize(
    ("low", "expected"), [([0.0, 0.09, 0.11, 0.3], 20), ([0.2] * 4, 0), ([0.0] * 4, 50), ([0, 0.1, 0.1, 0.1], 50)]
)
def test_n_hat_is_the_smallest_n_above_the_threshold_else_all_steps(low, expected):
    assert min_local_steps(np.array([0, 10, 20, 30]), np.array(low), 0.1, 50) == expected


def test_an_own_kappa_makes_the_last_point_one():
    result = analyse(even_scores(), 200, own_kappa=True)
    assert result.constants.kappa == pytest.approx(4)
    assert result.means["pai"][-1] == pytest.approx(1, abs=1e-6)


def test_gain_and_threshold_count_beside_an_own_kappa():
    constants = PaiConstants(gain=5.0, threshold=0.5)
    result = analyse(even_scores(), 200, constants, own_kappa=True)
    np.testing.assert_allclose(result.means["pai"], 1 / (1 + np.exp(-5 * (N / 100 - 0.5))))


def test_a_clip_without_a_score_has_no_own_kappa():
    with pytest.raises(InputError, match="--kappa: found CLIP = 0 at n = N"):
        analyse(even_scores(clip=0.0), 200, own_kappa=True)


def test_one_group_has_no_intervals_and_says_so():
    result = analyse(scores(np.random.default_rng(0), prompts=1, noise=0.01), 200, FLAT, personal=0.19)
    assert (result.draws, result.intervals, result.min_local_steps) == ([], {}, 100)
    assert {point.pai_ci for point in result.points()} == {None}
    record = result.fit_record()
    assert (record.steepness_ci, record.midpoint_ci, record.draws) == (None, None, None)
    assert ["no intervals" in line for line in result.warnings()] == [True]
    draw_curve(result)


@pytest.mark.parametrize("prompts", [2, 3, 60])
def test_intervals_hold_the_estimate(prompts):
    result = analyse(scores(np.random.default_rng(1), prompts), 200, FLAT, draws=100).fit_record()
    assert covered(result.steepness, result.steepness_ci)
    assert covered(result.midpoint, result.midpoint_ci)


def test_warnings_say_what_plan_will_not_like():
    falling = scores(np.random.default_rng(0), curve=PaiCurve(-0.0413, 100.0))
    assert ["plan refuses" in line for line in analyse(falling, 200, FLAT, draws=20).warnings()] == [True]
    early = analyse(scores(np.random.default_rng(0)), 200, FLAT, personal=0.02, draws=20)
    assert early.min_local_steps == 20
    assert any("F(N-hat) = 0.1" in line and "< 1/2" in line for line in early.warnings())
    assert list(analyse(scores(np.random.default_rng(0)), 200, FLAT, personal=0.19, draws=20).warnings()) == []

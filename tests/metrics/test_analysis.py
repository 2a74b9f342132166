"""Points, intervals, N-hat and fit, against known truths."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from edgesplit.common.errors import InputError
from edgesplit.fitting.pai import LEVEL, PaiCurve
from edgesplit.metrics.analysis import GroupScores, analyse, bootstrap, group_weights, min_local_steps, scores_of
from edgesplit.metrics.figures import draw_curve
from edgesplit.metrics.pai import PaiConstants, pai

PAPER = PaiCurve(0.0413, 71.44)
N = np.arange(0, 201, 20)
FLAT = PaiConstants(kappa=1.0, gain=1e6, threshold=-1.0)
"""With these PAI = CLIP, so that the truth behind noisy scores is known."""


def scores(rng, groups=60, noise=0.15, curve=PAPER):
    """Groups that lie above or below the curve as a whole, and at each split on top of that."""
    shift = rng.normal(0, noise, (groups, 1)) + rng.normal(0, noise / 3, (groups, N.size))
    return GroupScores(N, curve.value(N) + shift, np.broadcast_to(N / 500, shift.shape), 3)


def even_scores(clip=0.25):
    """Four equal groups whose CLIP is the same at every split."""
    return GroupScores(N, np.full((4, 11), clip), np.tile(N / 100.0, (4, 1)), 2)


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


def test_intervals_of_the_points_cover_at_their_rate():
    hits = []
    for seed in range(300):
        ends = np.quantile(bootstrap(scores(np.random.default_rng(seed)), FLAT, 300, 0)["pai"], LEVEL, axis=0)
        hits.append((ends[0] <= PAPER.value(N)) & (PAPER.value(N) <= ends[1]))
    assert abs(np.mean(hits) - 0.95) < 0.03


def test_intervals_respect_that_a_group_s_pictures_go_together():
    """Twenty copies of each group are no more evidence than one of them."""
    few = scores(np.random.default_rng(0), groups=12)
    widths = []
    for copies in (1, 20):
        table = {name: [] for name in ("prompt", "seed", "local_steps", "user", "clip", "lpips")}
        for group in range(12):
            for column, n in enumerate(N):
                for user in range(2 * copies):
                    row = ("p", group, n, user, few.clip[group, column], few.lpips[group, column])
                    for name, value in zip(table, row, strict=True):
                        table[name].append(value)
        low, high = np.quantile(bootstrap(scores_of(table), FLAT, 100, 0)["clip"], LEVEL, axis=0)
        widths.append(high - low)
    np.testing.assert_allclose(*widths)


def test_the_mean_of_the_scores_is_what_a_plain_group_mean_gives():
    rng = np.random.default_rng(3)
    index = pd.MultiIndex.from_product([["p", "q"], range(3), [0, 5, 10], ["a", "b"]])
    frame = pd.DataFrame(rng.random((len(index), 2)), index, ["clip", "lpips"]).reset_index()
    frame.columns = ["prompt", "seed", "local_steps", "user", "clip", "lpips"]
    result = scores_of(frame.sample(frac=1, random_state=0).to_dict("list"))
    np.testing.assert_allclose(result.clip.mean(axis=0), frame.groupby("local_steps")["clip"].mean())
    np.testing.assert_allclose(result.lpips.mean(axis=0), frame.groupby("local_steps")["lpips"].mean())
    assert (result.users, result.clip.shape) == (2, (6, 3))
    analysis = analyse(result, 10, PaiConstants())
    means = frame.groupby("local_steps")[["clip", "lpips"]].mean()
    np.testing.assert_allclose(analysis.means["pai"], pai(means["clip"], means["lpips"], PaiConstants()))
    with pytest.raises(
        InputError, match="prompt 'p', seed 0: found no row for local_steps 0 and user 'a', accepted: one row"
    ):
        scores_of(frame.iloc[1:].to_dict("list"))


def test_draws_weigh_whole_groups_and_are_repeatable():
    weights = group_weights(7, 50, seed=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights * 7, np.round(weights * 7), atol=1e-12)
    np.testing.assert_array_equal(weights, group_weights(7, 50, seed=1))


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
    result = analyse(scores(np.random.default_rng(0), groups=1, noise=0.01), 200, FLAT, personal=0.19)
    assert (result.draws, result.intervals, result.min_local_steps) == ([], {}, 100)
    assert {point.pai_ci for point in result.points()} == {None}
    record = result.fit_record()
    assert (record.steepness_ci, record.midpoint_ci, record.draws) == (None, None, None)
    assert ["no intervals" in line for line in result.warnings()] == [True]
    draw_curve(result)


@pytest.mark.parametrize("groups", [2, 3, 60])
def test_intervals_hold_the_estimate(groups):
    result = analyse(scores(np.random.default_rng(1), groups), 200, FLAT, draws=100).fit_record()
    assert covered(result.steepness, result.steepness_ci)
    assert covered(result.midpoint, result.midpoint_ci)


def test_warnings_say_what_plan_will_not_like():
    falling = scores(np.random.default_rng(0), curve=PaiCurve(-0.0413, 100.0))
    assert ["plan refuses" in line for line in analyse(falling, 200, FLAT, draws=20).warnings()] == [True]
    early = analyse(scores(np.random.default_rng(0)), 200, FLAT, personal=0.02, draws=20)
    assert early.min_local_steps == 20
    assert any("F(N-hat) = 0.1" in line and "< 1/2" in line for line in early.warnings())
    assert list(analyse(scores(np.random.default_rng(0)), 200, FLAT, personal=0.19, draws=20).warnings()) == []

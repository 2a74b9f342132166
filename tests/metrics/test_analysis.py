"""Points, intervals, N-hat and fit, against known truths."""

import numpy as np
import pandas as pd
import pytest

from edgesplit.common.errors import InputError
from edgesplit.fitting.pai import LEVEL, PaiCurve
from edgesplit.metrics.analysis import Scores, analyse, bootstrap, cluster_weights, min_local_steps, scores_of
from edgesplit.metrics.figures import draw_curve
from edgesplit.metrics.pai import PaiConstants, pai

PAPER = PaiCurve(0.0413, 71.44)
N = np.arange(0, 201, 20)
FLAT = PaiConstants(kappa=1.0, gain=1e6, threshold=-1.0)
"""With these PAI = CLIP, so that the truth behind noisy scores is known."""


def scores(rng, clusters=60, noise=0.15, curve=PAPER):
    """Clusters that lie above or below the curve as a whole, and at each split on top of that."""
    shift = rng.normal(0, noise, (clusters, 1)) + rng.normal(0, noise / 3, (clusters, N.size))
    return Scores(N, curve.value(N) + shift, np.broadcast_to(N / 500, shift.shape), 3)


def covered(truth, ends):
    return ends[0] <= truth <= ends[1]


def test_intervals_of_a_f_and_b_f_cover_at_their_rate_and_are_no_wider_than_that_takes():
    runs = [
        analyse(scores(np.random.default_rng(seed)), 200, FLAT, two_parameter=True, draws=100).fit_record()
        for seed in range(100)
    ]
    for truth, found, ends in (
        (0.0413, [run.steepness for run in runs], np.array([run.steepness_ci for run in runs])),
        (71.44, [run.midpoint for run in runs], np.array([run.midpoint_ci for run in runs])),
    ):
        assert np.mean([covered(truth, pair) for pair in ends]) >= 0.87  # 0.95 less four standard errors
        width = np.mean(ends[:, 1] - ends[:, 0])
        assert width == pytest.approx(2 * 1.96 * np.std(found), rel=0.3)  # four standard errors of the deviation


def test_intervals_of_the_points_cover_at_their_rate():
    hits = []
    for seed in range(300):
        ends = np.quantile(bootstrap(scores(np.random.default_rng(seed)), FLAT, 300, 0)["pai"], LEVEL, axis=0)
        hits.append((ends[0] <= PAPER.value(N)) & (PAPER.value(N) <= ends[1]))
    assert abs(np.mean(hits) - 0.95) < 0.03


def test_intervals_respect_that_a_cluster_s_pictures_go_together():
    """Twenty copies of each cluster are no more evidence than one of them."""
    few = scores(np.random.default_rng(0), clusters=12)
    widths = []
    for copies in (1, 20):
        table = {name: [] for name in ("prompt", "seed", "local_steps", "user", "clip", "lpips")}
        for cluster in range(12):
            for column, n in enumerate(N):
                for user in range(2 * copies):
                    row = ("p", cluster, n, user, few.clip[cluster, column], few.lpips[cluster, column])
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
    found = scores_of(frame.sample(frac=1, random_state=0).to_dict("list"))
    np.testing.assert_allclose(found.clip.mean(axis=0), frame.groupby("local_steps")["clip"].mean())
    assert (found.users, found.clip.shape) == (2, (6, 3))
    analysis = analyse(found, 10, PaiConstants())
    means = frame.groupby("local_steps")[["clip", "lpips"]].mean()
    np.testing.assert_allclose(analysis.means["pai"], pai(means["clip"], means["lpips"], PaiConstants()))
    with pytest.raises(InputError, match="without some of the splits or users"):
        scores_of(frame.iloc[1:].to_dict("list"))


def test_draws_weigh_whole_clusters_and_are_repeatable():
    weights = cluster_weights(7, 50, seed=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights * 7, np.round(weights * 7), atol=1e-12)
    np.testing.assert_array_equal(weights, cluster_weights(7, 50, seed=1))


@pytest.mark.parametrize(
    ("low", "expected"), [([0.0, 0.09, 0.11, 0.3], 20), ([0.2] * 4, 0), ([0.0] * 4, 50), ([0, 0.1, 0.1, 0.1], 50)]
)
def test_n_hat_is_the_smallest_n_above_the_threshold_else_all_steps(low, expected):
    assert min_local_steps(np.array([0, 10, 20, 30]), np.array(low), 0.1, 50) == expected


def test_an_own_kappa_makes_the_last_point_one():
    found = analyse(Scores(N, np.full((4, 11), 0.25), np.tile(N / 100.0, (4, 1)), 2), 200, own_kappa=True)
    assert found.constants.kappa == pytest.approx(4)
    assert found.means["pai"][-1] == pytest.approx(1, abs=1e-6)


def test_gain_and_threshold_count_beside_an_own_kappa():
    given = PaiConstants(gain=5.0, threshold=0.5)
    found = analyse(Scores(N, np.full((4, 11), 0.25), np.tile(N / 100.0, (4, 1)), 2), 200, given, own_kappa=True)
    np.testing.assert_allclose(found.means["pai"], 1 / (1 + np.exp(-5 * (N / 100 - 0.5))))


def test_a_clip_without_a_score_has_no_own_kappa():
    with pytest.raises(InputError, match="--kappa: found CLIP = 0 at n = N"):
        analyse(Scores(N, np.zeros((4, 11)), np.tile(N / 100.0, (4, 1)), 2), 200, own_kappa=True)


def test_one_cluster_has_no_intervals_and_says_so():
    found = analyse(scores(np.random.default_rng(0), clusters=1, noise=0.01), 200, FLAT, personal=0.19)
    assert (found.draws, found.intervals, found.min_local_steps) == ([], {}, 100)
    assert {point.pai_ci for point in found.points()} == {None}
    record = found.fit_record()
    assert (record.steepness_ci, record.midpoint_ci, record.draws) == (None, None, None)
    assert ["no intervals" in line for line in found.warnings()] == [True]
    draw_curve(found)


@pytest.mark.parametrize("clusters", [2, 3, 60])
def test_intervals_hold_the_estimate(clusters):
    found = analyse(scores(np.random.default_rng(1), clusters), 200, FLAT).fit_record()
    assert covered(found.steepness, found.steepness_ci)
    assert covered(found.midpoint, found.midpoint_ci)


def test_warnings_say_what_plan_will_not_like():
    falling = scores(np.random.default_rng(0), curve=PaiCurve(-0.0413, 100.0))
    assert ["plan refuses" in line for line in analyse(falling, 200, FLAT).warnings()] == [True]
    early = analyse(scores(np.random.default_rng(0)), 200, FLAT, personal=0.02)
    assert early.min_local_steps == 20
    assert any("F(N-hat) = 0.1" in line and "< 1/2" in line for line in early.warnings())
    assert analyse(scores(np.random.default_rng(0)), 200, FLAT, personal=0.19).warnings() == []

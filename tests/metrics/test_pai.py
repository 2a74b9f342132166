"""Equation (1) and its parts."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesplit.metrics.pai import PaiConstants, kappa_of, lpips_bar, pai, sigma_p

PAPER = PaiConstants()


@given(clip=st.floats(0, 1), lpips=st.floats(0, 2))
def test_it_is_equation_1_as_printed(clip, lpips):
    printed = 3 * clip / (1 + math.exp(-30 * (lpips - 0.1)))
    assert pai(clip, lpips, PAPER) == pytest.approx(printed, rel=1e-12)


def test_it_grows_with_both_parts_and_is_half_at_the_threshold():
    grid = np.linspace(0, 1, 50)
    assert np.all(np.diff(pai(0.3, grid[:15], PAPER)) > 0)
    assert np.all(np.diff(pai(grid, 0.3, PAPER)) > 0)
    assert pai(0.3, 0.1, PAPER) == pytest.approx(0.45)
    assert sigma_p(5.0, PAPER) == 1


def test_extreme_differences_do_not_overflow():
    assert np.all(np.isfinite(sigma_p([-1e6, 1e6], PAPER)))


def test_kappa_makes_all_local_pictures_one():
    constants = PaiConstants(kappa=kappa_of(0.8))
    assert pai(0.8, 0.4, constants) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("users", [2, 3, 5])
def test_lpips_bar_is_the_mean_over_all_pairs_of_users(users):
    rng = np.random.default_rng(users)
    distance = np.zeros((users, users))
    pairs = list(combinations(range(users), 2))
    for i, j in pairs:
        distance[i, j] = distance[j, i] = rng.random()
    to_others = distance.sum(axis=1) / (users - 1)
    assert lpips_bar(to_others) == pytest.approx(np.mean([distance[pair] for pair in pairs]))

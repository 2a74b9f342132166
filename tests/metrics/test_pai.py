"""Equation (1)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesplit.metrics.pai import PaiConstants, difference_share, kappa_of, pai

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
    assert difference_share(5.0, PAPER) == 1


def test_extreme_differences_do_not_overflow():
    assert np.all(np.isfinite(difference_share([-1e6, 1e6], PAPER)))


def test_kappa_makes_all_local_pictures_one():
    constants = PaiConstants(kappa=kappa_of(0.8))
    assert pai(0.8, 0.4, constants) == pytest.approx(1, abs=1e-3)

"""Prioritised replay samples as its probabilities say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from edgesplit.optimizer.learn.replay import Experience, Replay, SumTree, experiences
from edgesplit.optimizer.learn.tables import OrderedRounds

EXPONENT, IMPORTANCE, OFFSET = 0.7, 0.3, 0.1


def steps_of(which, last):
    """One first step each of episodes of 1 or 2 steps; `which` are their instances."""
    which, count = np.asarray(which), len(which)
    order, steps = np.tile(np.arange(3), (count, 1)), np.where(last, 1, 2)
    return Experience(which, order, np.zeros((count, 3), bool), steps, np.zeros(count, int), which * 1.0)


def filled(capacity, last):
    """A memory of one experience per slot, `which` its number."""
    memory = Replay(capacity, 3, exponent=EXPONENT, importance=IMPORTANCE, offset=OFFSET)
    memory.add(steps_of(np.arange(len(last)), last))
    return memory


def test_the_steps_of_an_episode():
    """Two episodes of 3 and 1 steps in orders of their own: every state, action and end, by hand."""
    order = np.array([[2, 0, 1], [1, 0, 2]])
    granted = np.array([[True, False, True], [False, False, False]])
    rewards = np.array([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
    seen = experiences(OrderedRounds(np.array([7, 8]), order), granted, np.array([3, 1]), rewards)
    assert seen.which.tolist() == [7, 7, 7, 8]
    assert seen.rounds.order.tolist() == [[2, 0, 1]] * 3 + [[1, 0, 2]]
    assert seen.t.tolist() == [0, 1, 2, 0]
    assert seen.action.tolist() == [1, 0, 1, 0]
    assert seen.last.tolist() == [False, False, True, True]
    assert seen.reward.tolist() == [1, 2, 3, 4]
    nobody, first = [False, False, False], [True, False, False]
    assert seen.granted_before(seen.t).tolist() == [nobody, first, first, nobody]


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 10)), st.randoms(use_true_random=False))
def test_tree_finds_what_a_cumulative_sum_finds(priorities, random):
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), priorities)
    assert tree.total == pytest.approx(priorities.sum())
    if tree.total == 0:
        return
    masses = np.array([random.random() * tree.total for _ in range(30)])
    ends = np.cumsum(priorities)
    near_an_end = np.abs(masses[:, None] - ends).min(axis=1) < 1e-9
    found = tree.find(masses)
    assert np.all(priorities[found] > 0)
    assert np.array_equal(found[~near_an_end], np.searchsorted(ends, masses, side="right")[~near_an_end])


def test_sampling_frequencies_match_the_probabilities():
    rng = np.random.default_rng(0)
    last = np.arange(60) % 4 == 0
    memory = filled(64, last)
    errors = rng.exponential(1.0, 60)
    memory.update(np.arange(60), errors)
    drawn = np.concatenate([memory.sample(64, rng).slots for _ in range(3000)])
    for kind, share in ((True, 1 / 8), (False, 7 / 8)):
        own = np.flatnonzero(last == kind)
        weights = (np.abs(errors[own]) + OFFSET) ** EXPONENT
        seen = np.bincount(drawn, minlength=60)[own]
        assert seen.sum() == share * len(drawn)
        assert chisquare(seen, seen.sum() * weights / weights.sum()).pvalue > 1e-3


@pytest.mark.parametrize("count", [8, 64, 128])
def test_an_eighth_of_every_batch_is_terminal(count):
    memory, rng = filled(32, [False] * 31 + [True]), np.random.default_rng(0)
    for _ in range(20):
        assert memory.sample(count, rng).experience.last.sum() == count / 8


def test_weights_undo_the_priorities():
    """Importance 1 makes every experience's probability times weight the same; here to the power of importance."""
    rng, last = np.random.default_rng(1), np.arange(40) % 8 == 0
    memory = filled(40, last)
    errors = rng.exponential(1.0, 40)
    memory.update(np.arange(40), errors)
    sample = memory.sample(128, rng)
    weights = (errors + OFFSET) ** EXPONENT
    share = np.where(last, 1 / 8 / weights[last].sum(), 7 / 8 / weights[~last].sum())
    expected = (40 * weights * share)[sample.slots] ** -IMPORTANCE
    assert sample.weights == pytest.approx(expected / expected.max())


def test_the_oldest_make_room():
    memory, rng = filled(8, [False] * 7 + [True]), np.random.default_rng(0)
    newer = np.arange(100, 106)
    memory.add(steps_of(newer, np.zeros(6, bool)))
    assert sorted(memory.rows.which) == [6, 7, *newer]
    assert set(memory.sample(80, rng).experience.which) == {6, 7, *newer}


def test_new_experiences_come_with_the_largest_priority():
    memory = filled(8, [True, False, False])
    memory.update(np.array([0, 1]), np.array([50.0, 3.0]))
    memory.add(steps_of([9], [False]))
    assert memory.trees[False].priorities(np.array([3]))[0] == pytest.approx((50 + OFFSET) ** EXPONENT)

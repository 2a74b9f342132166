"""The MDP as pure functions: what the paper's section 5.3.1 says of states, ends and rewards."""

import numpy as np
import pytest
from oracles import make_scenario, make_users

from edgesplit.optimizer.agent.instances import broad_instance, paper_instance
from edgesplit.optimizer.agent.names import DENY, GRANT
from edgesplit.optimizer.learn.mdp import (
    episode_ended,
    gain_reward,
    hindsight_rewards,
    n_step_returns,
    reward_at_once,
    transition,
)
from edgesplit.optimizer.learn.paper_tables import paper_tables
from edgesplit.optimizer.learn.rewards import PaperReward
from edgesplit.optimizer.model.qoe import evaluate, objective
from edgesplit.optimizer.model.split import split_granted


def test_the_transition_grants_or_denies_the_current_user_and_moves_on():
    granted, t = np.array([[True, False, False], [False, False, False]]), np.array([1, 2])
    after, following = transition(granted, t, np.array([DENY, GRANT]))
    assert after.tolist() == [[True, False, False], [False, False, True]]
    assert following.tolist() == [2, 3]
    assert granted.tolist() == [[True, False, False], [False, False, False]]  # the state before stays


def test_an_episode_ends_when_nobody_is_pending_or_the_batch_is_full():
    granted = np.array([[True, False, False], [True, True, False], [False, False, False], [False, True, False]])
    ended = episode_ended(granted, np.array([1, 2, 3, 2]), users=np.full(4, 3), max_batch=np.full(4, 2))
    assert ended.tolist() == [False, True, True, False]


def final_episode(instance, steps, rng):
    """Who is granted in an episode of so many steps, and what its users get at the final batch."""
    granted = (rng.random(len(instance.users)) < 0.4) & (np.arange(len(instance.users)) < steps)
    scenario, users = instance.scenario, instance.users
    return evaluate(scenario, users, split_granted(scenario, users, granted))


def test_hindsight_rewards_are_equation_21_and_add_up_to_the_objective():
    """1,000 random episodes: every reward but the last is alpha_t F(n_t*) at the final batch; none is missing."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        instance = broad_instance(rng, (1, 30))
        users, steps = instance.users, int(rng.integers(1, len(instance.users) + 1))
        final = final_episode(instance, steps, rng)
        worth = users.alpha * final.pai
        (rewards,) = hindsight_rewards(worth[None], final.latency_s.sum()[None], np.array([steps]))
        assert np.array_equal(rewards[: steps - 1], worth[: steps - 1])  # alpha_t F(n_t*) at the final batch
        assert rewards[steps - 1] == pytest.approx(sum(worth[steps - 1 :]) - sum(final.latency_s), rel=1e-9)
        assert not rewards[steps:].any()
        value = objective(users, final)[0]
        assert rewards.sum() == pytest.approx(value, rel=1e-9, abs=1e-9 * max(1, worth.sum()))


def test_the_learner_is_credited_with_hindsight_rewards_in_any_order():
    """`PaperReward.settle` of random episodes in random orders, against the plan evaluator user by user."""
    rng = np.random.default_rng(1)
    instances = [paper_instance(rng) for _ in range(40)]
    tables = paper_tables(instances)
    rounds = tables.rounds(np.arange(40), "random", rng)
    steps = np.array([rng.integers(1, len(instance.users) + 1) for instance in instances])
    place = np.arange(tables.places)
    granted = (rng.random((40, tables.places)) < 0.4) & (place < steps[:, None])
    settled = PaperReward(tables).settle(rounds, granted, steps, np.zeros(granted.shape))
    for k, instance in enumerate(instances):
        users, order = instance.users, rounds.order[k, : len(instance.users)]
        chosen = np.zeros(len(users), bool)
        chosen[order] = granted[k, : len(users)]
        final = evaluate(instance.scenario, users, split_granted(instance.scenario, users, chosen))
        worth = (users.alpha * final.pai)[order]
        assert settled[k, : steps[k] - 1] == pytest.approx(worth[: steps[k] - 1], rel=1e-12)
        assert settled[k].sum() == pytest.approx(objective(users, final)[0], rel=1e-9, abs=1e-9 * worth.sum())


def test_n_step_returns_by_hand():
    rewards = np.array([[1.0, 2.0, 4.0, 0.0]])
    assert n_step_returns(rewards, 1, 0.5).tolist() == rewards.tolist()
    assert n_step_returns(rewards, 2, 0.5).tolist() == [[2, 4, 4, 0]]
    assert n_step_returns(rewards, 10**6, 1.0).tolist() == [[7, 6, 4, 0]]


def test_paid_at_once_the_rewards_differ_from_hindsight_where_later_grants_move_a_split():
    """One asymmetric case: the second grant makes the batch larger, so the first user's split moves."""
    scenario, users = make_scenario(gpus=1), make_users([0.5, 0.5], 200.0)
    alone, both = (
        evaluate(scenario, users, split_granted(scenario, users, np.array(granted)))
        for granted in ([True, False], [True, True])
    )
    value = objective(users, both)
    paid = reward_at_once(users.alpha[:1] * alone.pai[:1], value, np.zeros(1), np.array([False]))
    last = reward_at_once(users.alpha[1:] * both.pai[1:], value, paid, np.array([True]))
    (hindsight,) = hindsight_rewards((users.alpha * both.pai)[None], both.latency_s.sum()[None], np.array([2]))
    assert paid + last == pytest.approx(value)
    assert hindsight.sum() == pytest.approx(value[0])
    assert paid[0] != pytest.approx(hindsight[0], rel=1e-3)


def test_our_rewards_are_rises():
    assert gain_reward(np.array([1.0, 5.0]), np.array([4.0, 3.0])).tolist() == [3, -2]

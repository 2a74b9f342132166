"""The MDP of the paper, section 5.3.1, as pure functions: transition rule, end of an episode, and rewards.

M: number of episodes side by side. P: number of places for users. t: number of the current user, from 0. n*: best
split at the batch in question; N for a denied user. Users stand in the order in which the agent takes them.
"""

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..agent.names import GRANT


def transition(granted: Bools, t: Ints, action: Ints) -> tuple[Bools, Ints]:
    """The transition rule: the current user is granted or denied, and the next user is the current one.

    Args:
        granted: whether each user has been granted, shape (M, P).
        t: number of the current user, shape (M,).
        action: grant or deny, shape (M,).

    Returns:
        the same two of the next state.
    """
    after = granted.copy()
    after[np.arange(len(t)), t] = action == GRANT
    return after, t + 1


def episode_ended(granted: Bools, t: Ints, users: Ints, max_batch: Ints) -> Bools:
    """The end of an episode: nobody is pending, or B_max users are granted; those still pending are then denied.

    Args:
        granted: whether each user has been granted, shape (M, P).
        t: number of the current user, shape (M,).
        users: number of users, shape (M,).
        max_batch: B_max, shape (M,).
    """
    ended: Bools = (t == users) | (granted.sum(axis=1) == max_batch)
    return ended


def hindsight_rewards(worth: Floats, latency_s: Floats, steps: Ints) -> Floats:
    """r_t of eq. (21) as the paper computes it, after the episode ("reward backpropagation").

    Each step pays alpha_t F(n_t*), and the last one sum_{i >= t} alpha_i F(n_i*) - sum_i L_i, with every n* and L at
    the final batch. So the rewards of an episode add up to the objective of (P1).

    Args:
        worth: alpha_i F(n_i*) of every user at the final batch, 0 at empty places; seconds, shape (M, P).
        latency_s: sum of all L_i at the final batch, seconds, shape (M,).
        steps: number of steps of each episode, shape (M,).

    Returns:
        seconds, shape (M, P); 0 after the last step.
    """
    last, place = (steps - 1)[:, None], np.arange(worth.shape[1])
    rest = np.where(place >= last, worth, 0.0).sum(axis=1)
    return np.where(place < last, worth, 0.0) + np.where(place == last, (rest - latency_s)[:, None], 0.0)


def reward_at_once(worth: Floats, objective: Floats, paid: Floats, ended: Bools) -> Floats:
    """r_t of eq. (21) for an environment that must pay at every step, when the final batch is not known yet.

    A step pays alpha_t F(n_t*) with n_t* at the batch so far, and the last one what is missing to the objective. So
    these rewards, too, add up to the objective of (P1), but the single ones differ from `hindsight_rewards` where later
    grants move the splits.

    Args:
        worth: alpha_t F(n_t*) of the user just handled at the batch so far, seconds, shape (M,).
        objective: objective of (P1) if everybody still pending is denied, seconds, shape (M,).
        paid: sum of the rewards before this step, seconds, shape (M,).
        ended: whether the episode ends with this step, shape (M,).
    """
    return np.where(ended, objective - paid, worth)


def gain_reward(before: Floats, after: Floats) -> Floats:
    """Our reward: the rise of the objective at this step; the rewards of an episode add up to the gain over all local.

    Args:
        before: objective over all local before the step, seconds, shape (M,).
        after: objective over all local after the step, seconds, shape (M,).
    """
    return after - before


def n_step_returns(rewards: Floats, n: int, discount: float) -> Floats:
    """sum_{j < n} gamma^j r_{t + j} at every step; with n = 1 the rewards, with n = P Monte-Carlo returns.

    Args:
        rewards: r_t, 0 after the last step, shape (M, P).
        n: number of steps that are summed.
        discount: gamma.
    """
    returns = np.zeros_like(rewards)
    for j in range(min(n, rewards.shape[1])):
        returns[:, : rewards.shape[1] - j] += discount**j * rewards[:, j:]
    return returns

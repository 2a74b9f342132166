"""PER-DQN, paper section 5.3.2: learn whom to grant. Many episodes run side by side; one that has ended is credited.

q: Q of deny and grant. s, a, r: state, action, reward. y: target. theta_c, theta_t: weights of the current and of the
target network. M: number of episodes side by side. Q is in units of `Reward.unit`.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss
from torch.nn.utils import clip_grad_norm_

from ...common.arrays import Floats, Ints
from ..agent.names import DENY, GRANT, OrderName
from .mdp import n_step_returns
from .presets import Preset
from .replay import Experience, Replay, experiences
from .rewards import GainReward, Reward, make_reward
from .tables import OrderedRounds, Tables
from .trainees import TRAINEES, tensors
from .vector_env import VectorEnv

LARGEST_NORM = 10.0
"""Norm that gradients are clipped at."""


class DivergedError(ArithmeticError):
    """The loss, its gradient or a weight is not a finite number any more."""


def loss_target(reward: Tensor, goes_on: Tensor, q_target: Tensor, q_current: Tensor | None, discount: float) -> Tensor:
    """y_t of eq. (23): r_t + gamma max_a Q(s_{t+1}, a; theta_t), and r_t alone where the episode has ended.

    With n-step returns r_t is the sum of n rewards, s_{t+1} the state after them, and gamma its n-th power.

    Args:
        reward: r_t, shape (M,).
        goes_on: whether the episode went on, shape (M,).
        q_target: Q(s_{t+1}, .; theta_t), shape (M, 2).
        q_current: Q(s_{t+1}, .; theta_c), shape (M, 2), whose better action is then valued by the target network
            (double DQN); None for the target network's own maximum, as in the paper.
        discount: gamma.
    """
    best = (q_target if q_current is None else q_current).argmax(dim=1)
    future: Tensor = q_target.gather(1, best[:, None])[:, 0] * goes_on
    return reward + discount * future


def weighted_loss(error: Tensor, weights: Tensor, *, robust: bool) -> Tensor:
    """The loss of eq. (23): the mean of (y_t - Q(s_t, a_t; theta_c))^2, weighted by importance.

    The equation as printed has max_a Q(s_t, a; theta_c), which would pull both actions towards one target; the value of
    the action that was taken is meant.

    Args:
        error: Q(s_t, a_t; theta_c) - y_t, shape (batch,).
        weights: importance weights, shape (batch,).
        robust: whether large errors count linearly (Huber's loss) instead of squared.
    """
    each = huber_loss(error, torch.zeros_like(error), reduction="none") if robust else error.square()
    return (weights * each).mean()


@dataclass
class Learner:
    """An agent in training.

    Attributes:
        tables: the training instances.
        preset: hyper-parameters.
        steps: number of learning steps in all.
        seed: random seed of the first weights, of the order of instances, of exploration and of sampling.
        done: number of learning steps so far.
        current: network that acts and learns, theta_c.
        target: network that values the next states, theta_t.
        policy: network that becomes the policy: the running mean of the current one.
        memory: experiences to learn from.
        reward: what the steps of an episode pay.
        env: episodes under way.
    """

    tables: Tables
    preset: Preset
    steps: int
    seed: int
    done: int = 0
    current: nn.Module = field(init=False)
    target: nn.Module = field(init=False)
    policy: nn.Module = field(init=False)
    memory: Replay = field(init=False)
    reward: Reward = field(init=False)
    env: VectorEnv = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        p, trainee = self.preset, TRAINEES[self.preset.network]
        self.current, self.target, self.policy = (trainee.make_network(self.tables) for _ in range(3))
        for copy in (self.target, self.policy):
            copy.load_state_dict(self.current.state_dict())
        self.optimizer = torch.optim.Adam(self.current.parameters(), lr=p.learning_rate)
        self.memory = Replay(
            p.memory, self.tables.places, exponent=p.exponent, importance=p.importance, offset=p.offset
        )
        self.rng = np.random.default_rng(self.seed)
        self.reward = make_reward(p.reward, self.tables)
        self.env = VectorEnv.start(self.tables, self._draw(p.episodes), self.reward)

    @property
    def epsilon(self) -> float:
        """The chance to explore now."""
        return _linear(*self.preset.epsilon, self.done / self.steps)

    @property
    def temperature(self) -> float:
        """The temperature of Boltzmann exploration now."""
        return _linear(*self.preset.temperature, self.done / self.steps)

    @property
    def learning_rate(self) -> float:
        """The learning rate now."""
        return _linear(self.preset.learning_rate, self.preset.last_learning_rate, self.done / self.steps)

    def turn(self) -> tuple[float, list[tuple[int, float]]]:
        """One step of every episode, and the learning steps that belong to it.

        Returns:
            the mean loss (0 before the memory has both kinds of experience), and (instance, return) of episodes that
            ended.

        Raises:
            DivergedError: for a loss or a gradient that is not finite; the weights are as before then.
        """
        ended = self._act()
        losses = [self._update() for _ in range(self.preset.updates)]
        return float(np.mean(losses)), ended

    def _act(self) -> list[tuple[int, float]]:
        """One step of every episode; those that ended go into the memory. Returns their instances and returns."""
        env = self.env
        with torch.no_grad():
            q = self._q(self.current, env.rounds, env.granted, env.t).double().numpy()
        _, ends = env.step(explore(q * self.reward.temperature_unit, self.epsilon, self.temperature, self.rng))
        rows = np.flatnonzero(ends)
        self.memory.add(self._experiences(env.select(ends)))
        ended = list(zip(env.rounds.which[rows].tolist(), env.returns[rows].tolist(), strict=True))
        env.restart(rows, self._draw(rows.size))
        return ended

    def _experiences(self, env: VectorEnv) -> Experience:
        """The steps of episodes that have ended, credited with their n-step returns."""
        rewards = self.reward.settle(env.rounds, env.granted, env.t, env.paid)
        units = rewards / self.reward.unit(env.rounds.which)[:, None]
        returns = n_step_returns(units, self.preset.n_step, self.preset.discount)
        return experiences(env.rounds, env.granted, env.t, returns)

    def _update(self) -> float:
        """One learning step, once the memory has both kinds of experience; returns the loss."""
        loss = self._learn() if self.memory.ready else 0.0
        self.done += 1
        if self.done % self.preset.target_every == 0:
            self.target.load_state_dict(self.current.state_dict())
        self._average()
        return loss

    @torch.no_grad()
    def _average(self) -> None:
        """Move the policy's weights towards the current ones: at first quickly, as there is no past worth keeping."""
        past = min(self.preset.averaging, self.done / (self.done + 10))
        for mean, value in zip(self.policy.parameters(), self.current.parameters(), strict=True):
            mean.lerp_(value, 1 - past)

    def _learn(self) -> float:
        """One step down the gradient of eq. (23) on a mini-batch; returns the loss."""
        sample = self.memory.sample(self.preset.batch, self.rng)
        s, action = sample.experience, torch.from_numpy(sample.experience.action)
        y = self._targets(s)
        error = self._q(self.current, s.rounds, s.granted_before(s.t), s.t).gather(1, action[:, None])[:, 0] - y
        loss = weighted_loss(error, torch.from_numpy(sample.weights).float(), robust=self.preset.robust)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise DivergedError(f"the loss is {value} after {self.done} learning steps")
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(clip_grad_norm_(self.current.parameters(), LARGEST_NORM))
        if not np.isfinite(norm):
            raise DivergedError(f"the gradient is {norm} after {self.done} learning steps")
        self.optimizer.step()
        self.memory.update(sample.slots, error.detach().numpy())
        return value

    @torch.no_grad()
    def _targets(self, s: Experience) -> Tensor:
        """`loss_target` of these experiences."""
        n, reward = self.preset.n_step, torch.from_numpy(s.reward).float()
        goes_on = s.t + n < s.steps
        if not goes_on.any():  # Monte-Carlo returns: no state is valued
            return reward
        t = np.minimum(s.t + n, s.steps)
        q_target = self._q(self.target, s.rounds, s.granted_before(t), t)
        q_current = self._q(self.current, s.rounds, s.granted_before(t), t) if self.preset.double else None
        return loss_target(reward, torch.from_numpy(goes_on), q_target, q_current, self.preset.discount**n)

    def _q(self, network: nn.Module, rounds: OrderedRounds, granted: np.ndarray, t: Ints) -> Tensor:
        """Q of deny and grant in these states, shape (M, 2)."""
        q: Tensor = network(tensors(self.tables.state(rounds, granted, t)))
        return q

    def _draw(self, count: int) -> OrderedRounds:
        """OrderedRounds, at random."""
        which = self.rng.integers(0, len(self.tables), count)
        return self.tables.rounds(which, self.preset.order, self.rng)


def explore(q: Floats, epsilon: float, temperature: float, rng: np.random.Generator) -> Ints:
    """With chance epsilon an action drawn with Boltzmann's probabilities, else the better one; q (M, 2)."""
    advantage = q[:, GRANT] - q[:, DENY]
    grant = 1 / (1 + np.exp(np.clip(-advantage / temperature, -500, 500)))
    drawn = rng.random(len(q)) < grant
    actions: Ints = np.where(rng.random(len(q)) < epsilon, drawn, advantage > 0).astype(np.int64)
    return actions


@torch.no_grad()
def roll_out(network: nn.Module, tables: Tables, order: OrderName = "file", at_once: int = 256) -> Floats:
    """The gain over all local, seconds, that a network reaches on every instance; shape (instances,)."""
    gains, rng = np.zeros(len(tables)), np.random.default_rng(0)
    for start in range(0, len(tables), at_once):
        which = np.arange(start, min(start + at_once, len(tables)))
        env = VectorEnv.start(tables, tables.rounds(which, order, rng), GainReward(tables))
        while len(env.t):
            q = network(tensors(tables.state(env.rounds, env.granted, env.t))).numpy()
            _, ended = env.step((q[:, GRANT] > q[:, DENY]).astype(np.int64))
            gains[env.rounds.which[ended]] = env.returns[ended]
            env = env.select(~ended)
    return gains


def _linear(first: float, last: float, share: float) -> float:
    """The number that lies at this share of the way from the first to the last."""
    return first + (last - first) * min(1.0, share)

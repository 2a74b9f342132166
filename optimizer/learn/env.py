"""The MDP of the paper, section 5.3.1: a Gymnasium environment, and a twin that steps many instances at once.

Users are handled one after another; each is granted or denied. All that a plan is worth lies in a few tables
(`Tables`): what user i is worth when b users are granted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..agent.instances import Instance, paper_instance
from ..agent.state import DENIED, PENDING, flat_state, gains_in_turn, paper_fixed, paper_local, set_features
from ..model.qoe import all_local, edge_step_latency, evaluate, transmit_time
from ..model.split import best_split

PLACES = 30
"""Users that the flat state has room for."""
DENY, GRANT = 0, 1
PER_USER = ("present", "gain", "worth", "local", "gains")
"""The tables with a row for each user."""
Reward = Literal["paper", "gain"]


@dataclass(frozen=True)
class Tables:
    """Instances as arrays; M instances, P places, b from 0 to B.

    Attributes:
        present: where there is a user, (M, P).
        users: how many decisions an episode has at most, (M,).
        max_batch: B_max; for canonical tables `most_granted`, at least 1; (M,).
        gain: u_i(b), what granting user i at batch b is worth over denying, transmission apart; seconds, (M, B + 1, P).
        worth: alpha_i F(n_i) at the best split for batch b, (M, P, B + 1); at b = 0 that of a denied user; empty for
            canonical tables, whose rewards are gains.
        all_local: the objective with all denied, (M,).
        transmit_s: T, of one granted user when one is granted, (M,).
        scale: what rewards are learned in: the largest u_i(1), or T if more; for canonical tables, of `SetFeatures`;
            seconds, (M,).
        local: alpha, L_i(1), k_i, (M, P, 3).
        fixed: B_max, k_e/G, h_e, (M, 3).
        gains: features of the `set` network, (M, P, knots); empty, as the next, for others.
        set_fixed: the same, (M, 4).
    """

    present: Bools
    users: Ints
    max_batch: Ints
    gain: Floats
    worth: Floats
    all_local: Floats
    transmit_s: Floats
    scale: Floats
    local: Floats
    fixed: Floats
    gains: Floats
    set_fixed: Floats

    def __len__(self) -> int:
        return len(self.users)

    def value(self, which: Ints, granted: Bools) -> Floats:
        """V: the objective of (P1) less that of all denied, seconds; which (M',), granted (M', P)."""
        b = granted.sum(axis=1)
        value: Floats = (self.gain[which, b] * granted).sum(axis=1) - self.transmit_s[which] * b**2
        return value

    def rise(self, which: Ints, granted: Bools, t: Ints) -> Floats:
        """What granting user t now would add to the value; 0 where B_max are granted, (M',)."""
        more = granted.copy()
        more[np.arange(len(t)), t] = granted.sum(axis=1) < self.max_batch[which]
        return self.value(which, more) - self.value(which, granted)


def make_tables(instances: Sequence[Instance], places: int | None = None, canonical: bool = False) -> Tables:
    """The tables of instances.

    Args:
        instances: at least one.
        places: P; None for as many as needed.
        canonical: the shortlist of the `set` network in its order; else all users in file order.
    """
    rows = [_canonical_row(instance) if canonical else _file_row(instance) for instance in instances]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    stacked = {name: _stacked(values, places if name in PER_USER else None) for name, values in columns.items()}
    return Tables(**stacked | {"gain": np.ascontiguousarray(stacked["gain"].transpose(0, 2, 1))})


def _stacked(rows: Sequence[Any], places: int | None) -> np.ndarray:
    """Arrays of different shapes as one, zeros where they have nothing; the first axis of each gets `places`."""
    shape = np.max([np.shape(row) for row in rows], axis=0).astype(int)
    if places is not None:
        shape[0] = places
    stacked = np.zeros((len(rows), *shape), np.asarray(rows[0]).dtype)
    for number, row in enumerate(rows):
        part: tuple[Any, ...] = number, *(slice(length) for length in np.shape(row))
        stacked[part] = row
    return stacked


def _file_row(instance: Instance) -> dict[str, np.ndarray]:
    """An instance as the flat network meets it."""
    scenario, users = instance.scenario, instance.users
    counts = np.arange(1, min(scenario.max_batch, len(users)) + 1)
    saving = users.step_latency_s[:, None] - edge_step_latency(scenario, counts)
    n, gain = best_split(scenario, users.alpha[:, None], saving)  # (users, counts)
    denied = users.alpha * scenario.pai.value(scenario.total_steps)
    worth = np.concatenate([denied[:, None], users.alpha[:, None] * scenario.pai.value(n)], axis=1)
    own = {"max_batch": scenario.max_batch, "worth": worth, "local": paper_local(users)}
    scale = max(gain[:, 0].max(), transmit_time(scenario, 1), 1e-9)
    return _common(instance, gain) | own | {"scale": scale, "gains": np.zeros((0, 0)), "set_fixed": np.zeros(0)}


def _canonical_row(instance: Instance) -> dict[str, np.ndarray]:
    """An instance as the `set` network meets it."""
    users = instance.users
    seen = set_features(instance.scenario, users.step_latency_s[None], users.alpha[None], users.request_slot[None])
    listed, most = users.take(seen.order), max(1, int(seen.most[0]))
    gain = np.concatenate(list(gains_in_turn(instance.scenario, listed.step_latency_s, listed.alpha, most)))
    own = {"max_batch": most, "worth": np.zeros((0, 0)), "local": np.zeros((0, 0))}
    features = {"scale": seen.scale[0], "gains": seen.gains[0].astype(np.float32), "set_fixed": seen.fixed[0]}
    return _common(instance, gain) | own | features


def _common(instance: Instance, gain: Floats) -> dict[str, Any]:
    """What both meet; gain (users, counts)."""
    scenario, users = instance.scenario, instance.users
    return {
        "present": np.ones(len(gain), bool),
        "users": len(gain),
        "gain": np.concatenate([np.zeros((len(gain), 1)), gain], axis=1),
        "all_local": evaluate(scenario, users, all_local(scenario, users)).qoe.sum(),
        "transmit_s": float(transmit_time(scenario, 1)),
        "fixed": paper_fixed(scenario),
    }


@dataclass
class VectorEnv:
    """Many episodes side by side, each over one instance of the tables.

    The same MDP as `OffloadingEnv`, step for step. Rewards are the paper's (see there), or with "gain" the rise of the
    objective over all denied at each step, whose sum over an episode is the objective less that of all denied.

    Attributes:
        tables: of all instances.
        reward: which of the two.
        which: instance of each episode, (M,).
        granted: (M, P).
        t: number of the current user, (M,).
        paid: rewards so far, (M,).
    """

    tables: Tables
    reward: Reward
    which: Ints
    granted: Bools
    t: Ints
    paid: Floats

    @classmethod
    def start(cls, tables: Tables, which: Ints, reward: Reward = "paper") -> "VectorEnv":
        """Episodes over these instances, at their beginning."""
        granted = np.zeros((len(which), tables.present.shape[1]), bool)
        return cls(tables, reward, which.copy(), granted, np.zeros(len(which), np.int64), np.zeros(len(which)))

    def step(self, actions: Ints) -> tuple[Floats, Bools]:
        """Grant or deny the current user of every episode; returns rewards and which episodes have ended."""
        tables, which, rows = self.tables, self.which, np.arange(len(self.which))
        before = tables.value(which, self.granted) if self.reward == "gain" else None
        self.granted[rows, self.t] = actions == GRANT
        b = self.granted.sum(axis=1)
        done = (self.t + 1 == tables.users[which]) | (b == tables.max_batch[which])
        value = tables.value(which, self.granted)
        if before is not None:
            rewards = value - before
        else:
            now = tables.worth[which, self.t, np.where(actions == GRANT, b, 0)]
            rewards = np.where(done, tables.all_local[which] + value - self.paid, now)
        self.paid += rewards
        self.t += 1
        return rewards, done

    def restart(self, rows: Ints, which: Ints) -> None:
        """Begin new episodes in these rows."""
        self.which[rows], self.t[rows], self.paid[rows], self.granted[rows] = which, 0, 0.0, False


class OffloadingEnv(gymnasium.Env[np.ndarray, int]):
    """Grant or deny the offloading requests of one round, one after another (paper, section 5.3.1).

    **Observation**, float32, shape (126,): for each of 30 places [alpha_i, L_i(1), k_i, o_i], cyclically shifted so
    that the current user comes first, then [B_max, k_e/G, h_e, pending, granted, denied]. alpha_i, L_i(1), k_e and h_e
    in seconds, k_i a slot from 1; o_i is 0 pending, 1 current, 2 granted, 3 denied. Places without a user are
    0, 0, 0, 3. Values are not scaled.

    **Actions**: 0 deny, 1 grant.

    **Reward**: alpha_t F(n_t), n_t the best split for as many granted users as there are so far, this one included (N
    if denied); at the last step the objective of (P1) less what was paid before. So the return with gamma = 1 *is* the
    objective, in seconds. (Eq. (21) as printed does not add up to it where later grants move n_t.) With
    `reward="gain"`: the rise of the objective over all denied, whose sum is the objective less that of all denied.

    **Start**: `reset(seed=)` draws an instance of section 6.1.1, or one from `instances`;
    `reset(options={"instance": Instance})` takes that one.

    **End**: when nobody is pending, or B_max users are granted; those still pending are denied then. Never truncated.

    `info` holds `objective` and `all_local_objective` at the end.

    Args:
        instances: draws an instance; None for those of the paper with 5 to 30 users and 1 to 16 GPUs.
        reward: "paper" or "gain".
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self, instances: Callable[[np.random.Generator], Instance] | None = None, reward: Reward = "paper"
    ) -> None:
        self._draw, self._reward, self._ended = instances or paper_instance, reward, True
        most = float(np.finfo(np.float32).max)
        highs = [*[most, most, most, float(DENIED)] * PLACES, *[most] * 6]
        low = np.full(len(highs), float(PENDING), np.float32)
        self.observation_space = gymnasium.spaces.Box(low, np.array(highs, np.float32))
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode.

        Raises:
            ValueError: for an instance without users or with more than there are places.
        """
        super().reset(seed=seed)
        self.instance = (options or {}).get("instance") or self._draw(self.np_random)
        if not 1 <= len(self.instance.users) <= PLACES:
            raise ValueError(f"instance: found {len(self.instance.users)} users, accepted: 1 to {PLACES}")
        self._episode = VectorEnv.start(make_tables([self.instance], PLACES), np.zeros(1, np.int64), self._reward)
        self._ended = False
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Decide for the current user.

        Raises:
            ValueError: for another action than 0 and 1.
            gymnasium.error.ResetNeeded: before the first `reset`, and after the end of an episode.
        """
        if action not in {DENY, GRANT}:
            raise ValueError(f"action: found {action!r}, accepted: {DENY} (deny) or {GRANT} (grant)")
        if self._ended:
            raise gymnasium.error.ResetNeeded("the episode has not begun or is over: call reset()")
        (reward,), (done,) = self._episode.step(np.array([action]))
        self._ended = bool(done)
        return self._observation(), float(reward), bool(done), False, self._totals() if done else {}

    @property
    def granted(self) -> Bools:
        """Who is granted so far, shape (users,)."""
        return self._episode.granted[0, : len(self.instance.users)]

    def _totals(self) -> dict[str, float]:
        episode, tables = self._episode, self._episode.tables
        local = float(tables.all_local[0])
        value = float(tables.value(episode.which, episode.granted)[0])
        return {"objective": local + value, "all_local_objective": local}

    def _observation(self) -> np.ndarray:
        episode, tables = self._episode, self._episode.tables
        local, status, fixed = flat_state(
            tables.local, tables.fixed, tables.present, episode.granted, episode.t, scaled=False
        )
        rows = np.concatenate([local, status[:, :, None]], axis=2)
        return np.concatenate([rows.reshape(-1), fixed.reshape(-1)]).astype(np.float32)


ENV_ID = "edgesplit/Offloading-v0"
"""For `gymnasium.make`, after an import of this module or with "edgesplit.optimizer.learn.env:" in front: since
version 1, Gymnasium does not look for the environments of installed packages."""
if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="edgesplit.optimizer.learn.env:OffloadingEnv")

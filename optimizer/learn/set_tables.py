"""Training instances as our agent meets them: the shortlist of users in canonical order, free of units."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..agent.instances import Instance
from ..agent.set_agent import SetFeatures, gains_in_turn, round_features, set_features
from .tables import OrderedRounds, State, Tables, common_tables, stacked


@dataclass(frozen=True, kw_only=True)
class SetTables(Tables):
    """The instances of our agent, users in canonical order; `max_batch` is `most_granted`, `scale` as in `SetFeatures`.

    Attributes:
        features: features of the users, shape (instances, P, knots).
        fixed: features of the rounds that no decision changes, shape (instances, 4).
    """

    features: Floats
    fixed: Floats

    def state(self, rounds: OrderedRounds, granted: Bools, t: Ints) -> State:
        """The inputs of `SetNetwork`."""
        which, place = rounds.which, np.arange(self.places)
        gains, current = self.features[which], np.minimum(t, self.places - 1)
        b = granted.sum(axis=1)
        return {
            "gains": gains,
            "pending": self.present(which) & (place > t[:, None]),
            "granted": granted,
            "current": gains[np.arange(len(t)), current],
            "rise": self.rise(rounds, granted, current) / self.scale[which],
            "features": round_features(self.fixed[which], self.max_batch[which], self.users[which], b, t),
        }


def set_tables(instances: Sequence[Instance]) -> SetTables:
    """The tables of one or more instances."""
    seen = [set_features(i.scenario, i.users.take(np.arange(len(i.users))[None])) for i in instances]
    gains = [_gains(instance, features) for instance, features in zip(instances, seen, strict=True)]
    return SetTables(
        **common_tables(instances, gains, None),
        max_batch=np.array([max(1, int(features.most[0])) for features in seen]),
        scale=np.array([features.scale[0] for features in seen]),
        features=stacked([features.gains[0].astype(np.float32) for features in seen]),
        fixed=stacked([features.fixed[0] for features in seen]),
    )


def _gains(instance: Instance, features: SetFeatures) -> Floats:
    """u_i(b) of the shortlisted users, b from 1 to the most that can be granted; seconds, shape (P, B)."""
    listed, most = instance.users.take(features.order), max(1, int(features.most[0]))
    return np.concatenate(list(gains_in_turn(instance.scenario, listed.step_latency_s, listed.alpha, most)))

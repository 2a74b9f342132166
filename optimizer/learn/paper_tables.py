"""Training instances as the paper's agent meets them: all users, in file order, in units of seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ...common.errors import InputError
from ..agent.instances import Instance
from ..agent.names import OrderName
from ..agent.orders import order_of
from ..agent.paper_agent import PLACES, PaperState, paper_state, static_global, static_local
from ..model.qoe import edge_step_latency, transmit_time
from ..model.split import best_split
from .tables import OrderedRounds, State, Tables, common_tables, stacked

MOST_ALPHA_S = 1e5
"""Largest alpha, in seconds, that the paper's network can tell from a larger one: its inputs are alpha / 30."""


@dataclass(frozen=True, kw_only=True)
class PaperTables(Tables):
    """The instances of the paper's agent; `max_batch` is B_max, `scale` the largest u_i(1), or T where that is more.

    Attributes:
        worth: alpha_i F(n_i*) with n_i* the best split at batch b, at b = 0 that of a denied user; seconds, shape
            (instances, P, B + 1).
        local: static local sub-states [alpha_i, L_i(1), k_i], shape (instances, P, 3).
        system: static global sub-states [B_max, k_e / G, h_e], shape (instances, 3).
    """

    worth: Floats
    local: Floats
    system: Floats

    def rounds(self, which: Ints, order: OrderName, rng: np.random.Generator) -> OrderedRounds:
        """These instances, with the users of each in an order of this name; arguments as in `Tables.rounds`."""
        alpha, latency, _ = self.local[which].transpose(2, 0, 1)
        return OrderedRounds(which, order_of(order, latency, alpha, self.present(which), rng))

    def paper_state(self, rounds: OrderedRounds, granted: Bools, t: Ints) -> PaperState:
        """The state of section 5.3.1; arguments as in `state`."""
        local = self.local[rounds.which[:, None], rounds.order]
        return paper_state(local, self.system[rounds.which], self.present(rounds.which), granted, t)

    def state(self, rounds: OrderedRounds, granted: Bools, t: Ints) -> State:
        """The same state in the network's units, as the inputs of `PaperNetwork`."""
        scaled = self.paper_state(rounds, granted, t).scaled()
        return {"users": scaled.users, "status": scaled.status, "system": scaled.system}

    def worth_of(self, rounds: OrderedRounds, granted: Bools) -> Floats:
        """alpha_i F(n_i*) of every user at the batch of those granted, in the order of the rounds; seconds, (M, P)."""
        b = np.where(granted, granted.sum(axis=1)[:, None], 0)
        worth: Floats = self.worth[rounds.which[:, None], rounds.order, b]
        return worth


def paper_tables(instances: Sequence[Instance], places: int = PLACES) -> PaperTables:
    """The tables of one or more instances.

    Args:
        instances: the instances.
        places: number of places for users, P; no instance has more users.
    """
    splits = [_best_splits(instance) for instance in instances]
    scales = [
        max(gain[:, 0].max(), transmit_time(instance.scenario, 1), 1e-9)
        for instance, (_, gain) in zip(instances, splits, strict=True)
    ]
    worth = [_worth(instance, n) for instance, (n, _) in zip(instances, splits, strict=True)]
    return PaperTables(
        **common_tables(instances, [gain for _, gain in splits], places),
        max_batch=np.array([instance.scenario.max_batch for instance in instances]),
        scale=np.array(scales),
        worth=stacked(worth, places),
        local=stacked([static_local(instance.users) for instance in instances], places),
        system=stacked([static_global(instance.scenario) for instance in instances]),
    )


def _best_splits(instance: Instance) -> tuple[Ints, Floats]:
    """The best split of every user at b = 1..B, and its gain u_i(b) in seconds, both of shape (users, B)."""
    scenario, users = instance.scenario, instance.users
    batch = np.arange(1, min(scenario.max_batch, len(users)) + 1)
    saving = users.step_latency_s[:, None] - edge_step_latency(scenario, batch)
    return best_split(scenario, users.alpha[:, None], saving)


def _worth(instance: Instance, n: Ints) -> Floats:
    """alpha_i F(n) of a denied user and at the splits n of shape (users, B); seconds, shape (users, B + 1)."""
    alpha, scenario = instance.users.alpha, instance.scenario
    denied = alpha * scenario.pai.value(scenario.total_steps)
    return np.concatenate([denied[:, None], alpha[:, None] * scenario.pai.value(n)], axis=1)


def paper_training_tables(instances: Sequence[Instance]) -> PaperTables:
    """The tables of instances that the paper's network can learn from; errors as in `check_instances`."""
    check_instances(instances)
    return paper_tables(instances)


def check_instances(instances: Sequence[Instance]) -> None:
    """Refuse instances that the paper's network cannot learn from.

    Raises:
        InputError: for more users than it has places, or an alpha that it cannot tell from a larger one.
    """
    most = max(len(instance.users) for instance in instances)
    if most > PLACES:
        raise InputError(f"found {most} users, accepted: {PLACES} at most; or --preset set")
    alpha = max(float(instance.users.alpha.max()) for instance in instances)
    if alpha > MOST_ALPHA_S:
        raise InputError(
            f"found alpha {alpha:g} s (a PAI curve that is flat at some steps), accepted: {MOST_ALPHA_S:g} s at most; "
            "or --preset set"
        )

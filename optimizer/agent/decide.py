"""DRL-convex, paper section 5: a policy decides who is granted, the closed form of (P2) every split. NumPy alone."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ...common.errors import counted
from ..methods.counts import BLOCK_RATINGS, cells_by_size
from ..methods.exact import optimum
from ..model.qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from ..model.split import best_split, split_granted
from .names import OrderName
from .orders import order_of
from .policies import Policy, load_policy
from .ranges import beyond_range
from .set_agent import SetAgent

EXACTLY = "planned exactly instead"
"""How the note of a plan ends that a policy leaves to the exact optimum."""
CELLS_AT_ONCE = 2048
"""Number of cells of equal size that are decided together, with one network call for each of their users."""


@cache
def default_policy() -> Policy:
    """The policy that `plan` decides with by default, read once; its network is ours, not the paper's."""
    return load_policy()


def drl_convex(scenario: Scenario, users: Users, policy: Policy | None = None, orders: int = 1) -> Plan:
    """Plan every cell with a policy.

    A cell out of the policy's range is planned exactly. A plan that is worth less than all local becomes all local.

    Args:
        scenario: the system.
        users: users of one or more cells.
        policy: the policy; None for `default_policy`.
        orders: number of orders in which the users of a cell are decided on, `decide`; the best plan is kept.
    """
    policy = policy or default_policy()
    granted = np.zeros(len(users), bool)
    for places in cells_by_size(users.cell):
        outside = _outside(policy, scenario, users.take(places))
        granted[places[outside]] = _optimally(scenario, users.take(places[outside]))
        inside = places[~outside]
        at_once = max(1, min(CELLS_AT_ONCE, BLOCK_RATINGS // max(1, places.shape[1])) // orders)
        for start in range(0, len(inside), at_once):
            part = inside[start : start + at_once]
            own = users.take(part)
            granted[part] = _guarded(scenario, own, decide(policy, scenario, own, orders))
    searched = [f"the best plan of {orders} orders of the users"] if orders > 1 else []
    return split_granted(scenario, users, granted, note="; ".join([*searched, *fall_backs(policy, scenario, users)]))


def greedy(scenario: Scenario, users: Users) -> Plan:
    """Grant while the objective rises, in the canonical order of our agent: no network, and nothing learned.

    That is what our agent does when all weights of its network are 0.
    """
    agent = SetAgent()
    weights = {name: np.zeros(shape) for name, shape in agent.shapes().items()}
    granted = np.zeros(len(users), bool)
    for places in cells_by_size(users.cell):
        granted[places] = agent.decide(weights, scenario, users.take(places))
    return split_granted(scenario, users, granted)


def decide(policy: Policy, scenario: Scenario, users: Users, orders: int = 1) -> Bools:
    """Whom a policy grants; users of cells of equal size, arrays and result (cells, users).

    What the paper's agent answers depends on the order in which it takes the users. With more than one order, the first
    is the card's and the others are random; of these plans the one with the largest objective is kept. That is a search
    on top of the policy, and no part of the paper's method.
    """
    agent = policy.card.agent
    if agent.own_order:
        return agent.decide(policy.weights, scenario, users)
    tried = np.zeros((orders, *users.alpha.shape), bool)
    for order, granted in zip(_orders(policy.card.order, users, orders), tried, strict=True):
        np.put_along_axis(granted, order, agent.decide(policy.weights, scenario, _in_order(users, order)), axis=1)
    best = np.argmax([_value(scenario, users, granted) for granted in tried], axis=0) if orders > 1 else 0
    chosen: Bools = tried[best, np.arange(len(users.alpha))]
    return chosen


def _orders(first: OrderName, users: Users, orders: int) -> Iterator[Ints]:
    """An order by its name, and then random ones; each of shape (cells, users).

    The random ones depend on the number of users alone, so that the plan of a cell does not on what others there are.
    """
    rng, (cells, count) = np.random.default_rng(0), users.alpha.shape
    yield order_of(first, users.step_latency_s, users.alpha, np.ones((cells, count), bool), rng)
    for _ in range(orders - 1):
        yield np.tile(rng.permutation(count), (cells, 1))


def _in_order(users: Users, order: Ints) -> Users:
    """The users of every cell in another order, of shape (cells, users)."""
    row = np.arange(len(order))[:, None]
    latency, alpha, slot = users.step_latency_s[row, order], users.alpha[row, order], users.request_slot[row, order]
    return Users(latency, alpha, slot, users.cell[row, order])


def _guarded(scenario: Scenario, users: Users, granted: Bools) -> Bools:
    """The same decisions, but nobody granted in cells where all local is worth as much; arrays (cells, users)."""
    kept: Bools = granted & (_value(scenario, users, granted) > 0)[:, None]
    return kept


def _value(scenario: Scenario, users: Users, granted: Bools) -> Floats:
    """What decisions are worth over all local, seconds, shape (cells,); arrays (cells, users)."""
    b = granted.sum(axis=1)
    saving = users.step_latency_s - edge_step_latency(scenario, b)[:, None]
    _, gain = best_split(scenario, users.alpha, saving)
    value: Floats = (gain * granted).sum(axis=1) - b * transmit_time(scenario, b)
    return value


def _optimally(scenario: Scenario, users: Users) -> Bools:
    """Whom the exact optimum grants; arrays and result (cells, users)."""
    cells, count = users.alpha.shape
    cell = np.repeat(np.arange(cells), count)
    flat = Users(users.step_latency_s.ravel(), users.alpha.ravel(), users.request_slot.ravel(), cell)
    return optimum(scenario, flat).granted.reshape(cells, count)


def fall_backs(policy: Policy, scenario: Scenario, users: Users) -> Iterator[str]:
    """Why cells are planned exactly instead of by the policy, one sentence for all cells of one size."""
    for places in cells_by_size(users.cell):
        part = users.take(places)
        reason = out_of_range(policy, scenario, part)
        if reason is not None:
            cells = f"{_outside(policy, scenario, part).sum()} of {users.cells} cells " if users.cells > 1 else ""
            yield f"policy {policy.card.name}: {reason}; {cells}{EXACTLY}"


def out_of_range(policy: Policy, scenario: Scenario, users: Users) -> str | None:
    """The first reason why a policy cannot plan all of these cells; None if it can.

    Args:
        policy: the policy.
        scenario: the system.
        users: users of one round, shape (users,), or of cells of equal size, shape (cells, users).
    """
    return next((reason for reason, _ in _reasons(policy, scenario, users)), None)


def _outside(policy: Policy, scenario: Scenario, users: Users) -> Bools:
    """Whether a policy cannot plan a cell; users (cells, users), result (cells,)."""
    outside = np.zeros(len(users.alpha), bool)
    for _, cells in _reasons(policy, scenario, users):
        outside |= cells
    return outside


def _reasons(policy: Policy, scenario: Scenario, users: Users) -> Iterator[tuple[str, Bools]]:
    """Every reason why a policy cannot plan cells, and the cells that it holds for; users as in `out_of_range`."""
    card, every = policy.card, np.ones(users.alpha.shape[:-1], bool)
    if card.places is not None and users.alpha.shape[-1] > card.places:
        yield f"{users.alpha.shape[-1]} users, trained for {card.places} at most", every
    if card.gpus is not None and scenario.gpus not in card.gpus:
        yield f"{counted(scenario.gpus, 'GPU')}, trained for {', '.join(map(str, card.gpus))}", every
    if card.case and card.case.users:
        other = ~_same_round(users, card.case.users.users())
        if other.any():
            yield "other users than the one round it was trained for", other
    if card.agent.needs_range:
        yield from beyond_range(card.range, scenario, users)


def _same_round(users: Users, own: Users) -> Bools:
    """Whether a cell holds the users of a policy's own round, to nine digits; users as in `out_of_range`."""
    if users.alpha.shape[-1] != len(own):
        return np.zeros(users.alpha.shape[:-1], bool)
    pairs = (
        (users.step_latency_s, own.step_latency_s), (users.alpha, own.alpha), (users.request_slot, own.request_slot),
    )  # fmt: skip
    same = np.all([np.isclose(cell, of_round, rtol=1e-9, atol=0) for cell, of_round in pairs], axis=0)
    return np.asarray(same.all(axis=-1))

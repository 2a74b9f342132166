"""DRL-convex, paper section 5: a policy decides who is granted, the closed form of (P2) every split. NumPy alone."""

import hashlib
from collections.abc import Iterator
from functools import cache

import numpy as np

from ..common.arrays import Bools
from .counts import cells_by_size
from .exact import optimum
from .policies import Policy, flat_q, load_policy, set_encoding, set_q
from .qoe import Plan, Scenario, Users, edge_step_latency
from .split import best_split
from .state import flat_state, paper_fixed, set_features, set_globals

CELLS_AT_ONCE = 2048
"""Cells of equal size decided together, one network call per user of a cell."""


@cache
def default_policy() -> Policy:
    """The shipped general one, read once."""
    return load_policy()


def drl_convex(scenario: Scenario, users: Users, policy: Policy | None = None) -> Plan:
    """Plan every cell with a policy, None for the default; cells out of its range are planned exactly."""
    policy = policy or default_policy()
    granted = np.zeros(len(users), bool)
    for places in cells_by_size(users.cell):
        if out_of_range(policy, scenario, users.take(places)) is None:
            for start in range(0, len(places), CELLS_AT_ONCE):
                part = places[start : start + CELLS_AT_ONCE]
                granted[part] = decide(policy, scenario, users.take(part))
        else:
            granted[places] = _exactly(scenario, users.take(places))
    return split_granted(scenario, users, granted)


def split_granted(scenario: Scenario, users: Users, granted: Bools) -> Plan:
    """The plan that grants these users, each with its best split (P2); granted (users,)."""
    chosen, cell = np.flatnonzero(granted), users.cell[granted]
    b = np.bincount(cell, minlength=users.cells)[cell]
    saving = users.step_latency_s[chosen] - edge_step_latency(scenario, b)
    local_steps = np.full(len(users), scenario.total_steps)
    local_steps[chosen], _ = best_split(scenario, users.alpha[chosen], saving)
    return Plan(granted, local_steps)


def decide(policy: Policy, scenario: Scenario, users: Users) -> Bools:
    """Whom a policy grants; users of cells of equal size, arrays and result (cells, users)."""
    return (decide_flat if policy.card.network == "flat" else decide_set)(policy, scenario, users)


def decide_flat(policy: Policy, scenario: Scenario, users: Users) -> Bools:
    """Whom a flat policy grants, users in file order; at most as many as it has places."""
    (cells, count), places = users.alpha.shape, policy.card.places or 0
    local = np.zeros((cells, places, 3))
    local[:, :count] = np.stack([users.alpha, users.step_latency_s, users.request_slot], axis=2)
    present = np.broadcast_to(np.arange(places) < count, (cells, places))
    fixed = np.broadcast_to(paper_fixed(scenario), (cells, 3))
    granted = np.zeros((cells, places), bool)
    for t in range(count):
        q = flat_q(policy.weights, *flat_state(local, fixed, present, granted, np.full(cells, t)))
        granted[:, t] = (q[:, 1] > q[:, 0]) & (granted.sum(axis=1) < scenario.max_batch)
    return granted[:, :count]


def decide_set(policy: Policy, scenario: Scenario, users: Users) -> Bools:
    """Whom the `set` policy grants; in canonical order, so that the file's order does not matter.

    The shortlist is encoded once; a decision moves a user from the pool of those pending to that of those granted.
    """
    seen = set_features(scenario, users.step_latency_s, users.alpha, users.request_slot)
    encoded = set_encoding(policy.weights, seen.gains)
    cells, count, width = encoded.shape
    pending, given = encoded.sum(axis=1), np.zeros((cells, width))
    chosen, b = np.zeros((cells, count), bool), np.zeros(cells, np.int64)
    for t in range(count):
        pending = pending - encoded[:, t]
        pools = pending / max(count - t - 1, 1), given / np.maximum(b, 1)[:, None]
        fixed = set_globals(seen.fixed, seen.most, count, b, t)
        q = set_q(policy.weights, seen.gains[:, t], *pools, fixed)
        chosen[:, t] = (q[:, 1] > q[:, 0]) & (b < scenario.max_batch)
        given, b = given + encoded[:, t] * chosen[:, t, None], b + chosen[:, t]
    granted = np.zeros(users.alpha.shape, bool)
    np.put_along_axis(granted, seen.order, chosen, axis=1)
    return granted


def fall_backs(policy: Policy, scenario: Scenario, users: Users) -> Iterator[str]:
    """Why cells are planned exactly instead, one reason for all cells of a size."""
    for places in cells_by_size(users.cell):
        reason = out_of_range(policy, scenario, users.take(places))
        if reason is not None:
            yield reason


def out_of_range(policy: Policy, scenario: Scenario, users: Users) -> str | None:
    """Why a flat policy cannot plan cells of this size, (cells, users); None where it can, as `set` policies always."""
    card, count = policy.card, users.alpha.shape[-1]
    if card.network == "set":
        return None
    if card.places is not None and count > card.places:
        return f"{count} users, trained for {card.places} at most"
    if card.gpus is not None and scenario.gpus not in card.gpus:
        return f"{scenario.gpus} GPUs, trained for {', '.join(map(str, card.gpus))}"
    if card.instance is not None and instance_key(users) != card.instance:
        return "other users than the one instance it was trained for"
    now = fixed_numbers(scenario)
    for name, value in (card.scenario or {}).items():
        if abs(now[name] - value) > 1e-9 * max(1.0, abs(value)):
            return f"{name} {now[name]:g}, trained for {value:g}"
    return None


def instance_key(users: Users) -> str:
    """What identifies the users of an instance, in their order, to nine digits."""
    rows = np.stack([users.step_latency_s, users.alpha, users.request_slot]).reshape(3, -1)
    text = " ".join(f"{value:.9g}" for value in rows.ravel())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fixed_numbers(scenario: Scenario) -> dict[str, float]:
    """What a flat policy cannot see, and so must find as in training."""
    pai, edge = scenario.pai, scenario.edge
    return {
        "total_steps": scenario.total_steps,
        "min_local_steps": scenario.min_local_steps,
        "steepness": pai.steepness,
        "midpoint": pai.midpoint,
        "amplitude": pai.amplitude,
        "slope_s": edge.slope_s,
        "intercept_s": edge.intercept_s,
        "floor_s": edge.floor_s,
        "transmit_bits": scenario.prompt_bits + scenario.latent_bits,
        "bandwidth_hz": scenario.bandwidth_hz,
        "spectral_efficiency": scenario.spectral_efficiency,
        "max_batch": scenario.max_batch,
    }


def _exactly(scenario: Scenario, users: Users) -> Bools:
    """Whom the exact optimum grants; arrays and result (cells, users)."""
    cells, count = users.alpha.shape
    cell = np.repeat(np.arange(cells), count)
    flat = Users(users.step_latency_s.ravel(), users.alpha.ravel(), users.request_slot.ravel(), cell)
    return optimum(scenario, flat).granted.reshape(cells, count)

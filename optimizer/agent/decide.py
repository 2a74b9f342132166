"""DRL-convex, paper section 5: a policy decides who is granted, the closed form of (P2) every split. NumPy alone."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np

from ...common.arrays import Bools
from ..methods.counts import BLOCK_RATINGS, cells_by_size
from ..methods.exact import optimum
from ..model.qoe import Plan, Scenario, Users, edge_step_latency, transmit_time
from ..model.split import best_split, split_granted
from .policies import Policy, RangeName, Weights, flat_q, load_policy, set_encoding, set_q, shapes
from .state import flat_state, gains_in_turn, paper_fixed, set_features, set_globals

CELLS_AT_ONCE = 2048
"""Cells of equal size decided together, one network call per user of a cell."""
RANGE_SLACK = 0.05
"""Share of the width of a trained range by which a round may lie outside it."""


@cache
def default_policy() -> Policy:
    """The shipped general one, read once."""
    return load_policy()


def drl_convex(scenario: Scenario, users: Users, policy: Policy | None = None) -> Plan:
    """Plan every cell with a policy, None for the default; cells out of its range are planned exactly.

    A plan that is worth less than all local becomes all local.
    """
    policy = policy or default_policy()
    granted = np.zeros(len(users), bool)
    for places in cells_by_size(users.cell):
        outside = _outside(policy, scenario, users.take(places))
        granted[places[outside]] = _exactly(scenario, users.take(places[outside]))
        inside = places[~outside]
        at_once = max(1, min(CELLS_AT_ONCE, BLOCK_RATINGS // max(1, places.shape[1])))
        for start in range(0, len(inside), at_once):
            part = inside[start : start + at_once]
            granted[part] = _guarded(scenario, users.take(part), decide(policy, scenario, users.take(part)))
    return split_granted(scenario, users, granted, note="; ".join(fall_backs(policy, scenario, users)))


def greedy(scenario: Scenario, users: Users) -> Plan:
    """What the `set` network starts from: grant while the objective rises, in its canonical order."""
    weights = {name: np.zeros(shape) for name, shape in shapes("set", None).items()}
    granted = np.zeros(len(users), bool)
    for places in cells_by_size(users.cell):
        granted[places] = decide_set(weights, scenario, users.take(places))
    return split_granted(scenario, users, granted)


def decide(policy: Policy, scenario: Scenario, users: Users) -> Bools:
    """Whom a policy grants; users of cells of equal size, arrays and result (cells, users)."""
    if policy.card.network == "flat":
        return decide_flat(policy, scenario, users)
    return decide_set(policy.weights, scenario, users)


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


def decide_set(weights: Weights, scenario: Scenario, users: Users) -> Bools:
    """Whom the `set` network grants; in canonical order, so that the file's order does not matter.

    The shortlist is encoded once; a decision moves a user from the pool of those pending to that of those granted.
    """
    seen = set_features(scenario, users.step_latency_s, users.alpha, users.request_slot)
    encoded = set_encoding(weights, seen.gains) * seen.present[:, :, None]
    cells, count, width = encoded.shape
    pending, given = encoded.sum(axis=1), np.zeros((cells, width))
    chosen, b, value = np.zeros((cells, count), bool), np.zeros(cells, np.int64), np.zeros(cells)
    rows, limit = np.arange(cells), np.maximum(seen.most, 1)
    latency, alpha = (np.take_along_axis(x, seen.order, axis=1) for x in (users.step_latency_s, users.alpha))
    sums = np.zeros((cells, int(limit.max())))  # of the gains of those granted, at every batch
    for t, gain in enumerate(gains_in_turn(scenario, latency, alpha, sums.shape[1])):
        pending = pending - encoded[:, t]
        pools = pending / np.maximum(seen.listed - t - 1, 1)[:, None], given / np.maximum(b, 1)[:, None]
        fixed = set_globals(seen.fixed, limit, seen.listed, b, t)
        at = rows, np.minimum(b, limit - 1)  # the column of batch b + 1
        after = sums[at] + gain[at] - seen.sending_s * (b + 1) ** 2
        q = set_q(weights, seen.gains[:, t], (after - value) / seen.scale, *pools, fixed)
        chosen[:, t] = grant = seen.present[:, t] & (b < seen.most) & (q[:, 1] > q[:, 0])
        given, b, value = given + encoded[:, t] * grant[:, None], b + grant, np.where(grant, after, value)
        sums += gain * grant[:, None]
    granted = np.zeros(users.alpha.shape, bool)
    np.put_along_axis(granted, seen.order, chosen, axis=1)
    return granted


def _guarded(scenario: Scenario, users: Users, granted: Bools) -> Bools:
    """Nobody granted in cells where all local is worth as much; arrays (cells, users)."""
    b = granted.sum(axis=1)
    saving = users.step_latency_s - edge_step_latency(scenario, b)[:, None]
    _, gain = best_split(scenario, users.alpha, saving)
    value = (gain * granted).sum(axis=1) - b * transmit_time(scenario, b)
    kept: Bools = granted & (value > 0)[:, None]
    return kept


def fall_backs(policy: Policy, scenario: Scenario, users: Users) -> Iterator[str]:
    """Why cells are planned exactly instead, one line for all cells of a size."""
    for places in cells_by_size(users.cell):
        part = users.take(places)
        reason = out_of_range(policy, scenario, part)
        if reason is not None:
            cells = f"{_outside(policy, scenario, part).sum()} of {users.cells} cells " if users.cells > 1 else ""
            yield f"policy {policy.card.name}: {reason}; {cells}planned exactly instead"


def out_of_range(policy: Policy, scenario: Scenario, users: Users) -> str | None:
    """The first reason why a policy cannot plan all cells of this size, (users,) or (cells, users); None if it can."""
    return next((reason for reason, _ in _reasons(policy, scenario, users)), None)


def _outside(policy: Policy, scenario: Scenario, users: Users) -> Bools:
    """Which cells a policy cannot plan; users (cells, users)."""
    outside = np.zeros(len(users.alpha), bool)
    for _, cells in _reasons(policy, scenario, users):
        outside |= cells
    return outside


def _reasons(policy: Policy, scenario: Scenario, users: Users) -> Iterator[tuple[str, Bools]]:
    """Why a policy cannot plan cells, and which."""
    card, every = policy.card, np.ones(users.alpha.shape[:-1], bool)
    if card.places is not None and users.alpha.shape[-1] > card.places:
        yield f"{users.alpha.shape[-1]} users, trained for {card.places} at most", every
    if card.gpus is not None and scenario.gpus not in card.gpus:
        yield f"{scenario.gpus} GPUs, trained for {', '.join(map(str, card.gpus))}", every
    if card.case and card.case.users:
        other = ~_same_round(users, card.case.users.users())
        if other.any():
            yield "other users than the one round it was trained for", other
    if card.network == "flat":
        yield from _beyond(card.range, numbers(scenario, users), every)


def _beyond(trained: Any, found: dict[RangeName, Any], every: Bools) -> Iterator[tuple[str, Bools]]:
    for name, (low, high) in trained.items():
        values, slack = np.asarray(found[name]), RANGE_SLACK * (high - low) + 1e-9 * max(1.0, abs(high))
        beyond = (values < low - slack) | (values > high + slack)
        if beyond.any():
            words = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            cells = beyond.any(axis=-1) if beyond.ndim else every
            yield f"{name} {values[beyond].flat[0]:g}, trained for {words}", cells


def _same_round(users: Users, own: Users) -> Bools:
    """Which cells are this round, to nine digits; users (users,) or (cells, users)."""
    if users.alpha.shape[-1] != len(own):
        return np.zeros(users.alpha.shape[:-1], bool)
    pairs = ((getattr(users, name), getattr(own, name)) for name in ("step_latency_s", "alpha", "request_slot"))
    same = np.all([np.isclose(a, b, rtol=1e-9, atol=0) for a, b in pairs], axis=0)
    return np.asarray(same.all(axis=-1))


def numbers(scenario: Scenario, users: Users) -> dict[RangeName, Any]:
    """What `policies.RangeName` names: numbers of the scenario, and of users in their shape."""
    pai, edge = scenario.pai, scenario.edge
    return {
        "users": users.alpha.shape[-1],
        "gpus": scenario.gpus,
        "max_batch": scenario.max_batch,
        "slots": scenario.slots,
        "step_latency_s": users.step_latency_s,
        "alpha_s": users.alpha,
        "request_slot": users.request_slot,
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
    }


def trained_range(rounds: Iterable[tuple[Scenario, Users]]) -> dict[RangeName, list[float]]:
    """The least and the most of every number of these rounds."""
    found = [numbers(scenario, users) for scenario, users in rounds]
    return {
        name: [float(min(np.min(n[name]) for n in found)), float(max(np.max(n[name]) for n in found))]
        for name in found[0]
    }


def _exactly(scenario: Scenario, users: Users) -> Bools:
    """Whom the exact optimum grants; arrays and result (cells, users)."""
    cells, count = users.alpha.shape
    cell = np.repeat(np.arange(cells), count)
    flat = Users(users.step_latency_s.ravel(), users.alpha.ravel(), users.request_slot.ravel(), cell)
    return optimum(scenario, flat).granted.reshape(cells, count)

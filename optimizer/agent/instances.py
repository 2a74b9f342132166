"""Random instances of the planning problem: the paper's (section 6.1.1), and of every kind that a policy may meet."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ...fitting.latency import LatencyModel
from ...fitting.library import load_profile
from ...fitting.pai import PaiCurve
from ..inputs.scenario import load_scenario
from ..methods.counts import most_granted
from ..model.qoe import Scenario, Users
from ..model.split import alpha_from_emphasis, alpha_range

DEVICES = (
    "rtx-2060", "rtx-2070", "rtx-2080", "rtx-2080-ti", "gtx-1070", "gtx-1080", "gtx-1080-ti", "rtx-3050", "rtx-3060",
    "rtx-3070", "rtx-3080", "rtx-3090", "rtx-4060", "rtx-4070", "rtx-4080", "rtx-4090",
)  # fmt: skip
"""Users' GPUs: the paper names "RTX 2060, GTX 1080, ..., RTX 4090"."""
LARGEST_ALPHA_S = 1e9
"""Remark 1's bounds are infinite where a PAI curve is flat; with this much, only PAI counts."""
LATENCY_BOUND = 0.05
"""The paper's kappa of section 6.1.1: users care for latency, so alpha stays far below Remark 1's upper bound."""


@dataclass(frozen=True)
class Instance:
    """One round: a scenario and its users, all of one cell."""

    scenario: Scenario
    users: Users


@dataclass(frozen=True, kw_only=True)
class Range:
    """What paper instances are drawn from.

    Attributes:
        users: fewest and most.
        gpus: numbers of edge GPUs, each equally likely.
        step_latency_s: L_i(1) of the devices that users may have; None for those of `DEVICES`.
    """

    users: tuple[int, int] = (5, 30)
    gpus: tuple[int, ...] = tuple(range(1, 17))
    step_latency_s: tuple[float, ...] | None = None


def paper_instance(rng: np.random.Generator, choices: Range | None = None, base: Scenario | None = None) -> Instance:
    """Users with random GPUs, alpha uniform in [lo, 0.05 hi] of Remark 1, and request slots, section 6.1.1.

    Args:
        rng: source of all randomness.
        choices: numbers of users and GPUs.
        base: what stays fixed; None for the shipped scenario.
    """
    choices = choices or Range()
    scenario = replace(base or default_scenario(), gpus=int(rng.choice(choices.gpus)))
    devices = device_latencies() if choices.step_latency_s is None else np.array(choices.step_latency_s)
    latency = rng.choice(devices, int(rng.integers(choices.users[0], choices.users[1] + 1)))
    low, high = np.minimum(alpha_range(scenario, latency), LARGEST_ALPHA_S)
    alpha = rng.uniform(low, np.maximum(low, LATENCY_BOUND * high))
    return Instance(scenario, make_users(scenario, latency, alpha, rng))


def broad_instance(rng: np.random.Generator, users: tuple[int, int] = (1, 60)) -> Instance:
    """Anything that `plan` may meet and in which something can be gained: any scenario, users alike or different."""
    while True:
        base = default_scenario() if rng.random() < 0.4 else random_scenario(rng)
        instance = _clustered(rng, users, base)
        if _gainful(instance):
            return instance


def clustered_instance(rng: np.random.Generator, users: tuple[int, int] = (1, 60)) -> Instance:
    """The same in the shipped scenario."""
    while True:
        instance = _clustered(rng, users, default_scenario())
        if _gainful(instance):
            return instance


def _clustered(rng: np.random.Generator, users: tuple[int, int], base: Scenario) -> Instance:
    """Users of 1, 2, 3, 5 or many kinds of device, each up to 20 % off its kind, and any emphasis, alike or not.

    Half of the time alpha is drawn for another number of GPUs than the plan is made for. The logarithm of the number
    of users is uniform.
    """
    scenario = replace(base, gpus=int(rng.integers(1, 17)))
    for_alpha = replace(base, gpus=int(rng.integers(1, 17))) if rng.random() < 0.5 else scenario
    latency = _clustered_latency(rng, int(_log_uniform(rng, users[0], users[1] + 1)))
    alpha = np.minimum(alpha_from_emphasis(for_alpha, latency, _emphasis(rng, latency.size)), LARGEST_ALPHA_S)
    return Instance(scenario, make_users(scenario, latency, alpha, rng))


def _clustered_latency(rng: np.random.Generator, count: int) -> np.ndarray:
    kinds = int(rng.choice([1, 1, 2, 3, 5, count]))
    known = device_latencies(rng, kinds) if rng.random() < 0.7 else _log_uniform(rng, 1e-3, 10.0, kinds)
    latency: np.ndarray = rng.choice(known, count) * (1 + rng.choice([0.0, 0.05, 0.2]) * rng.uniform(-1, 1, count))
    if rng.random() < 0.1:  # one unlike all others
        latency[rng.integers(count)] *= _log_uniform(rng, 0.01, 100.0)
    return latency


def _emphasis(rng: np.random.Generator, count: int) -> np.ndarray:
    """All equal, from any part of [0, 1], or mostly for latency as in the paper."""
    low, high = sorted(rng.uniform(0, 1, 2))
    one = rng.choice([0.0, 1.0, low, high])
    draws = (np.full(count, one), rng.uniform(low, high, count), rng.uniform(0, 1, count), rng.beta(1, 2, count))
    return draws[rng.integers(len(draws))]


def random_scenario(rng: np.random.Generator) -> Scenario:
    """Another edge, radio, round, number of steps and PAI curve, over decades each; gpus is 1."""
    total = int(_log_uniform(rng, 4, 1000))
    slope, intercept = _log_uniform(rng, 0.0005, 0.1, 2)
    floor = slope + intercept if rng.random() < 0.5 else 0.0
    return replace(
        default_scenario(),
        edge=LatencyModel(slope, intercept, floor * float(rng.uniform(0.8, 2.0))),
        gpus=1,
        max_batch=int(_log_uniform(rng, 1, 1001)),
        bandwidth_hz=_log_uniform(rng, 5e4, 1e8),
        latent_bits=float(rng.choice([0.0, 36_864.0, 262_144.0, 4.4e6])),
        interval_s=_log_uniform(rng, 0.1, 10.0),
        slots=int(rng.integers(1, 21)),
        reference_batch=int(rng.integers(1, 31)),
        total_steps=total,
        min_local_steps=int(rng.uniform(0, 0.8) * total),
        pai=PaiCurve(
            steepness=_log_uniform(rng, 0.1, 200.0) / total,
            midpoint=float(rng.uniform(0.0, 0.8)) * total,
            amplitude=float(rng.uniform(0.3, 1.0)),
            offset=float(rng.uniform(0.0, 0.2)),
        ),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float, count: int | None = None) -> Any:
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def _gainful(instance: Instance) -> bool:
    users = instance.users
    return bool(most_granted(instance.scenario, users.step_latency_s[None], users.alpha[None])[0])


@cache
def default_scenario() -> Scenario:
    """The shipped one."""
    return load_scenario("default")


def device_latencies(rng: np.random.Generator | None = None, count: int = 0) -> np.ndarray:
    """L_i(1) of the shipped devices; or of as many users, up to a half faster or slower than one of them."""
    known = _known_latencies()
    if rng is None:
        return known
    return rng.choice(known, count) * np.exp(rng.uniform(-0.5, 0.5, count))


@cache
def _known_latencies() -> np.ndarray:
    return np.array([float(load_profile(name).fit.model().step_latency(1)) for name in DEVICES])


def make_users(scenario: Scenario, latency: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> Users:
    """Users of one cell with random request slots."""
    slots = rng.integers(1, scenario.slots + 1, latency.size)
    return Users(latency, alpha, slots, np.zeros(latency.size, np.int64))

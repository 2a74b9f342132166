"""Random instances of the planning problem: the paper's (section 6.1.1), and of every kind that a policy may meet."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ..fitting.latency import LatencyModel
from ..fitting.library import load_profile
from ..fitting.pai import PaiCurve
from .qoe import Scenario, Users
from .scenario import load_scenario
from .split import alpha_from_emphasis, alpha_range

DEVICES = (
    "rtx-2060", "rtx-2070", "rtx-2080", "rtx-2080-ti", "gtx-1070", "gtx-1080", "gtx-1080-ti", "rtx-3050", "rtx-3060",
    "rtx-3070", "rtx-3080", "rtx-3090", "rtx-4060", "rtx-4070", "rtx-4080", "rtx-4090",
)  # fmt: skip
"""Users' GPUs: the paper names "RTX 2060, GTX 1080, ..., RTX 4090"."""
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
    low, high = alpha_range(scenario, latency)
    alpha = rng.uniform(low, np.maximum(low, LATENCY_BOUND * high))
    return Instance(scenario, make_users(scenario, latency, alpha, rng))


def broad_instance(rng: np.random.Generator, users: tuple[int, int] = (1, 60)) -> Instance:
    """Anything that `plan` may meet: other curves, radios, profiles, floors, limits; any emphasis, at any G.

    Half of the time alpha is drawn for another number of GPUs than the plan is made for.
    """
    base = default_scenario() if rng.random() < 0.3 else random_scenario(rng)
    scenario = replace(base, gpus=int(rng.integers(1, 17)))
    for_alpha = replace(base, gpus=int(rng.integers(1, 17))) if rng.random() < 0.5 else scenario
    count = int(np.exp(rng.uniform(np.log(users[0]), np.log(users[1] + 1))))
    latency = device_latencies(rng, count)
    emphasis = np.clip(rng.beta(1, 2, count) if rng.random() < 0.5 else rng.uniform(0, 1, count), 0, 1)
    alpha = np.minimum(alpha_from_emphasis(for_alpha, latency, emphasis), 1e9)
    return Instance(scenario, make_users(scenario, latency, alpha, rng))


def random_scenario(rng: np.random.Generator) -> Scenario:
    """Another edge, radio, round, number of steps and PAI curve; gpus is 1."""
    total = int(rng.choice([20, 28, 50, 100, 200]))
    slope = float(np.exp(rng.uniform(np.log(0.002), np.log(0.05))))
    intercept = float(np.exp(rng.uniform(np.log(0.002), np.log(0.05))))
    floor = slope + intercept if rng.random() < 0.5 else 0.0
    return replace(
        default_scenario(),
        edge=LatencyModel(slope, intercept, floor * float(rng.uniform(0.8, 2.0))),
        gpus=1,
        max_batch=int(rng.integers(1, 65)),
        bandwidth_hz=float(np.exp(rng.uniform(np.log(0.2e6), np.log(20e6)))),
        latent_bits=float(rng.choice([262_144.0, 4.4e6])),
        reference_batch=int(rng.integers(5, 31)),
        total_steps=total,
        min_local_steps=int(rng.uniform(0, 0.6) * total),
        pai=PaiCurve(
            steepness=float(rng.uniform(4, 16)) / total,
            midpoint=float(rng.uniform(0.2, 0.6)) * total,
            amplitude=float(rng.uniform(0.5, 1.0)),
            offset=float(rng.uniform(0.0, 0.2)),
        ),
    )


@cache
def default_scenario() -> Scenario:
    """The shipped one."""
    return load_scenario("default").scenario


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

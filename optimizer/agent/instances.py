"""Random instances of the planning problem: the paper's (section 6.1.1), and of every kind that a policy may meet."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...common.arrays import Floats
from ...common.errors import InputError, shown
from ...fitting.latency import LatencyModel
from ...fitting.library import load_profile
from ...fitting.pai import PaiCurve
from ..inputs.scenario import Resolved, load_scenario
from ..inputs.users import read_users
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

Alpha = tuple[float, float] | Callable[[np.random.Generator, Floats], Floats]
"""The alphas of users: the ends of an interval in seconds, or a function of a generator and L_i(1), shape (users,)."""


@dataclass(frozen=True)
class Instance:
    """One round of the planning problem.

    Attributes:
        scenario: the system.
        users: users of the round, all of one cell.
    """

    scenario: Scenario
    users: Users


@dataclass(frozen=True, kw_only=True)
class Range:
    """What paper instances are drawn from.

    Attributes:
        users: smallest and largest number of users.
        gpus: numbers of edge GPUs, each equally likely.
        step_latency_s: L_i(1) of the devices that users may have, seconds; None for those of `DEVICES`.
        alpha: alphas of the users; None for section 6.1.1's interval, [lo, 0.05 hi] of Remark 1.
    """

    users: tuple[int, int] = (5, 30)
    gpus: tuple[int, ...] = tuple(range(1, 17))
    step_latency_s: tuple[float, ...] | None = None
    alpha: Alpha | None = None


def draw_instances(
    count: int,
    *,
    seed: int = 0,
    users: tuple[int, int] = (5, 30),
    gpus: Iterable[int] = range(1, 17),
    devices: Sequence[str | Path | float] | None = None,
    alpha: Alpha | None = None,
    scenario: Scenario | None = None,
) -> list[Instance]:
    """Random rounds with the paper's distribution, section 6.1.1, or with parts of it replaced.

    A round has a number of users and a number of edge GPUs, both uniform. Every user has a device, an alpha and a
    request slot of their own. Instance number i depends on the seed and on i alone.

    Args:
        count: number of instances.
        seed: random seed, 0 or more.
        users: smallest and largest number of users of a round.
        gpus: numbers of edge GPUs, G, each equally likely.
        devices: devices that users may have, each equally likely: names or paths of latency profiles, or L_i(1) in
            seconds; None for the paper's GPUs, `DEVICES`.
        alpha: the users' alphas, seconds of latency that a PAI of 1 is worth: both ends of an interval, or a function
            of a NumPy generator and of L_i(1) in seconds, shape (users,), that returns as many alphas; None for the
            paper's interval, from Remark 1's lower bound to 0.05 times its upper bound.
        scenario: system of which everything but G stays as it is; None for the shipped scenario.

    Raises:
        InputError: for a number out of its bounds, an unknown device, or alphas that are none.
    """
    own_alpha = alpha if alpha is None or callable(alpha) else (float(alpha[0]), float(alpha[1]))
    choices = Range(users=users, gpus=tuple(gpus), step_latency_s=_latencies(devices), alpha=own_alpha)
    _check_range(count, seed, choices)
    return [paper_instance(np.random.default_rng([seed, number]), choices, scenario) for number in range(count)]


def _latencies(devices: Sequence[str | Path | float] | None) -> tuple[float, ...] | None:
    """L_i(1) in seconds of devices that are known by a profile or by their seconds."""
    if devices is None:
        return None
    return tuple(
        _profile_latency(str(device)) if isinstance(device, str | Path) else float(device) for device in devices
    )


def _check_range(count: int, seed: int, choices: Range) -> None:
    fewest, most = choices.users
    checks: dict[str, tuple[object, bool, str]] = {
        "count": (count, count >= 0, "0 or more"),
        "seed": (seed, seed >= 0, "0 or more"),
        "users": (choices.users, 1 <= fewest <= most, "the smallest number, 1 or more, and the largest"),
        "gpus": (choices.gpus, min(choices.gpus, default=0) >= 1, "at least one number, each 1 or more"),
    }
    if choices.step_latency_s is not None:
        good = len(choices.step_latency_s) > 0 and all(0 < s < np.inf for s in choices.step_latency_s)
        checks["devices"] = choices.step_latency_s, good, "at least one device, its seconds finite and above 0"
    if isinstance(choices.alpha, tuple):
        good = 0 <= choices.alpha[0] <= choices.alpha[1] < np.inf
        checks["alpha"] = choices.alpha, good, "the smallest and the largest alpha in seconds, 0 or more"
    for name, (value, good, accepted) in checks.items():
        if not good:
            raise InputError(f"{name}: found {shown(value)}, accepted: {accepted}")


def paper_instance(rng: np.random.Generator, choices: Range | None = None, base: Scenario | None = None) -> Instance:
    """A round with random GPUs, users' devices, alphas and request slots, section 6.1.1.

    Args:
        rng: source of all randomness.
        choices: what the round is drawn from; None for the paper's choices.
        base: system of which everything but G stays as it is; None for the shipped scenario.
    """
    choices = choices or Range()
    scenario = replace(base or default_scenario(), gpus=int(rng.choice(choices.gpus)))
    devices = device_latencies() if choices.step_latency_s is None else np.array(choices.step_latency_s)
    latency = rng.choice(devices, int(rng.integers(choices.users[0], choices.users[1] + 1)))
    return Instance(scenario, make_users(scenario, latency, _alphas(rng, choices.alpha, scenario, latency), rng))


def _alphas(rng: np.random.Generator, alpha: Alpha | None, scenario: Scenario, latency: Floats) -> Floats:
    """The alphas of users with these L_i(1), seconds, shape (users,)."""
    if callable(alpha):
        return _checked_alphas(alpha(rng, latency), latency)
    low, high = alpha or _paper_interval(scenario, latency)
    own: Floats = rng.uniform(low, high, latency.size)
    return own


def _paper_interval(scenario: Scenario, latency: Floats) -> tuple[Floats, Floats]:
    """Section 6.1.1's interval of alpha for every user, [lo, 0.05 hi] of Remark 1, or lo alone where that is more."""
    low, high = np.minimum(alpha_range(scenario, latency), LARGEST_ALPHA_S)
    return low, np.maximum(low, LATENCY_BOUND * high)


def _checked_alphas(alpha: ArrayLike, latency: Floats) -> Floats:
    """What an own function of alphas returned, checked."""
    own = np.asarray(alpha, float)
    if own.shape != latency.shape or not np.all((own >= 0) & np.isfinite(own)):
        raise InputError(f"alpha: found {shown(own.tolist())}, accepted: {latency.size} finite seconds, 0 or more")
    return own


def shipped_instance(gpus: int = 8) -> Instance:
    """The round of the specific policies, `data/policies/specific-users.csv`: drawn at 8 GPUs, kept for other G."""
    drawn = paper_instance(np.random.default_rng(20241124), Range(users=(20, 20), gpus=(8,)))
    return Instance(replace(drawn.scenario, gpus=gpus), drawn.users)


def read_instance(path: Path, resolved: Resolved) -> Instance:
    """The round of a users file in a scenario.

    Raises:
        InputError: for a file that cannot be read, and for users of several cells.
    """
    users = read_users(path, resolved.for_alpha)
    if users.cells > 1:
        raise InputError(f"{path}: found {users.cells} cells, accepted: one")
    return Instance(resolved.scenario, users)


def broad_instance(rng: np.random.Generator, users: tuple[int, int] = (1, 60)) -> Instance:
    """Anything that `plan` may meet and in which something can be gained: any scenario, users alike or different.

    Args:
        rng: source of all randomness.
        users: smallest and largest number of users.
    """
    while True:
        base = default_scenario() if rng.random() < 0.4 else random_scenario(rng)
        instance = _grouped(rng, users, base)
        if _gainful(instance):
            return instance


def grouped_instance(rng: np.random.Generator, users: tuple[int, int] = (1, 60)) -> Instance:
    """The same in the shipped scenario; arguments as in `broad_instance`."""
    while True:
        instance = _grouped(rng, users, default_scenario())
        if _gainful(instance):
            return instance


def _grouped(rng: np.random.Generator, users: tuple[int, int], base: Scenario) -> Instance:
    """Users of 1, 2, 3, 5 or many kinds of device, each up to 20 % off its kind, and any emphasis, alike or not.

    Half of the time alpha is drawn for another number of GPUs than the plan is made for. The logarithm of the number
    of users is uniform.
    """
    scenario = replace(base, gpus=int(rng.integers(1, 17)))
    for_alpha = replace(base, gpus=int(rng.integers(1, 17))) if rng.random() < 0.5 else scenario
    latency = _grouped_latencies(rng, int(_log_uniform(rng, users[0], users[1] + 1)))
    alpha = np.minimum(alpha_from_emphasis(for_alpha, latency, _emphasis(rng, latency.size)), LARGEST_ALPHA_S)
    return Instance(scenario, make_users(scenario, latency, alpha, rng))


def _grouped_latencies(rng: np.random.Generator, count: int) -> Floats:
    kinds = int(rng.choice([1, 1, 2, 3, 5, count]))
    known = varied_latencies(rng, kinds) if rng.random() < 0.7 else _log_uniform(rng, 1e-3, 10.0, kinds)
    latency: Floats = rng.choice(known, count) * (1 + rng.choice([0.0, 0.05, 0.2]) * rng.uniform(-1, 1, count))
    if rng.random() < 0.1:  # one device unlike all others
        latency[rng.integers(count)] *= _log_uniform(rng, 0.01, 100.0)
    return latency


def _emphasis(rng: np.random.Generator, count: int) -> Floats:
    """The emphasis of users: equal for all, from any part of [0, 1], or mostly on latency as in the paper."""
    low, high = sorted(rng.uniform(0, 1, 2))
    one = rng.choice([0.0, 1.0, low, high])
    draws = (np.full(count, one), rng.uniform(low, high, count), rng.uniform(0, 1, count), rng.beta(1, 2, count))
    return draws[rng.integers(len(draws))]


def random_scenario(rng: np.random.Generator) -> Scenario:
    """A system with one edge GPU and its own edge, radio, round, number of steps and PAI curve, over decades each."""
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
    """A number between low and high whose logarithm is uniform, or an array of `count` such numbers."""
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def _gainful(instance: Instance) -> bool:
    """Whether offloading can gain anything."""
    users = instance.users
    return bool(most_granted(instance.scenario, users.step_latency_s[None], users.alpha[None])[0])


@cache
def default_scenario() -> Scenario:
    """The shipped scenario, read once."""
    return load_scenario("default")


@cache
def device_latencies() -> Floats:
    """L_i(1) of the paper's devices, `DEVICES`, in seconds; read once."""
    return np.array([_profile_latency(name) for name in DEVICES])


def varied_latencies(rng: np.random.Generator, count: int) -> Floats:
    """L_i(1) of `count` devices, each faster or slower than one of the paper's by a factor of up to e^0.5; seconds."""
    return rng.choice(device_latencies(), count) * np.exp(rng.uniform(-0.5, 0.5, count))


def _profile_latency(reference: str) -> float:
    """L_i(1) of a latency profile, by name or path; seconds."""
    return float(load_profile(reference).fit.model().step_latency(1))


def make_users(scenario: Scenario, latency: Floats, alpha: Floats, rng: np.random.Generator) -> Users:
    """Users of one cell with random request slots.

    Args:
        scenario: system whose number of slots bounds the request slots.
        latency: L_i(1) of every user, seconds, shape (users,).
        alpha: alpha of every user, seconds, shape (users,).
        rng: source of all randomness.
    """
    slots = rng.integers(1, scenario.slots + 1, latency.size)
    return Users(latency, alpha, slots, np.zeros(latency.size, np.int64))

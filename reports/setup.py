"""What a reproduction is made from: every number that its tables depend on."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np

from ..common.errors import InputError
from ..fitting.library import load_curve, load_profile
from ..fitting.schemas import LatencyProfile, PaiCurveFile
from ..optimizer.agent.instances import DEVICES, Instance, Range, paper_instance
from ..optimizer.agent.policies import Policy, find_policy, load_policy
from ..optimizer.inputs.scenario import Overrides, resolve_scenario
from ..optimizer.methods.genetic import GENERATIONS, POPULATION
from ..optimizer.methods.ilp import TIME_LIMIT_S
from ..optimizer.model.qoe import Scenario

MEASURED_CURVE = "toyworld"
"""Drawn as Fig. 4 where the scenario's own curve has no measured points, as the paper's has none."""
ASSUMED = 0.1
"""Half width of the interval of a parameter whose file has none."""
FROM_FILE, NOT_IN_FILE = "95 % interval", f"assumed, {100 * ASSUMED:g} %"
AXES = ("steepness", "midpoint", "slope_s", "intercept_s")
"""a_F, b_F, k_e, h_e: what the plan's sensitivity is told for, and"""
OWN = "step_latency_s"
"""the users' own L_i(1) = k_i + h_i."""
SCOPES: dict[str, Callable[[int], str]] = {
    "general (set network)": lambda _: "set-general",
    "general (paper's network)": lambda _: "paper-general",
    "GPU-constrained": lambda gpus: f"gpu-{gpus}",
    "specific": lambda gpus: "specific" if gpus == 8 else f"specific-{gpus}",
}
"""Fig. 9: the policy of each scope; all but the first have the paper's network."""
SCOPE_GPUS = (1, 2, 4, 8)

Interval = tuple[float, float, str]
"""Both ends, and who says so."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is computed.

    Attributes:
        cases: random cases per point.
        slow_cases: of the methods that take seconds, and of the searches.
        users: of Figs. 10a and 11.
        gpus: of Fig. 10b.
        wanted_gpus: of the GPUs needed for a wanted latency.
        timed_users: of Table 1.
    """

    cases: int
    slow_cases: int
    users: tuple[int, ...] = (5, 10, 15, 20, 25, 30)
    gpus: tuple[int, ...] = tuple(range(1, 11))
    wanted_gpus: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    timed_users: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500, 1000)


FULL = Size(cases=100, slow_cases=100)
QUICK = Size(cases=20, slow_cases=2, timed_users=(5, 20, 200))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that the tables depend on; equal setups give equal tables, but for measured times.

    Attributes:
        scenario: the system; its G is that of Fig. 10a.
        step_latency_s: L_i(1) of the devices that users may have, by name.
        intervals: of each of `AXES`.
        device_intervals: of L_i(1), by name of the device.
        policy: that DRL-convex decides with, a name or a path.
        seed: of everything random.
        size: how much is computed.
        time_limit_s: of integer programs.
        population: P of the genetic algorithms.
        generations: M of them.
    """

    scenario: Scenario
    step_latency_s: dict[str, float]
    intervals: dict[str, Interval]
    device_intervals: dict[str, Interval]
    policy: str
    seed: int
    size: Size
    time_limit_s: float = TIME_LIMIT_S
    population: int = POPULATION
    generations: int = GENERATIONS

    @property
    def options(self) -> dict[str, Any]:
        """The further arguments of methods."""
        return {
            "policy": policy(self.policy),
            "time_limit_s": self.time_limit_s,
            "population": self.population,
            "generations": self.generations,
            "seed": self.seed,
        }

    def case(self, users: int, number: int) -> Instance:
        """Random case `number` with so many users, drawn at the scenario's G, section 6.1.1."""
        choices = Range(
            users=(users, users), gpus=(self.scenario.gpus,), step_latency_s=tuple(self.step_latency_s.values())
        )
        return paper_instance(np.random.default_rng([self.seed, users, number]), choices, self.scenario)

    def at_end(self, drawn: Instance, name: str, end: int) -> Instance:
        """The same round with one of `AXES`, or `OWN`, at the low (0) or high (1) end of its interval; alpha stays."""
        if name == OWN:
            ends = dict(zip(self.step_latency_s.values(), self.device_intervals.values(), strict=True))
            own = np.array([ends[latency][:2][end] for latency in drawn.users.step_latency_s.tolist()])
            return replace(drawn, users=replace(drawn.users, step_latency_s=own))
        return replace(drawn, scenario=moved(drawn.scenario, name, self.intervals[name][:2][end]))

    def interval_kind(self, name: str) -> str:
        """Whether files gave the ends or `ASSUMED` did."""
        if name != OWN:
            return self.intervals[name][2]
        kinds = [interval[2] for interval in self.device_intervals.values()]
        known = kinds.count(FROM_FILE)
        return kinds[0] if known in (0, len(kinds)) else f"{FROM_FILE} of {known} devices, else {NOT_IN_FILE}"

    def facts(self) -> dict[str, Any]:
        """For the record beside the results, which go on only where these are equal; more cases may be added."""
        used = {self.policy, *(name(gpus) for name in SCOPES.values() for gpus in SCOPE_GPUS)}
        weights = {name: sha256(find_policy(name).read_bytes()).hexdigest() for name in sorted(used)}
        kept = {name: value for name, value in asdict(self).items() if name != "size"}
        return {**kept, "policies_sha256": weights, "edgesplit": version("edgesplit")}


@cache
def policy(name: str) -> Policy:
    """A policy, read once per process."""
    return load_policy(name)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The parameter files, for Figs. 3 and 4.

    Attributes:
        edge: the edge GPU's.
        devices: the users', from slow to fast.
        curve: with measured points.
        curve_name: for people.
    """

    edge: LatencyProfile
    devices: list[LatencyProfile]
    curve: PaiCurveFile
    curve_name: str


def make_setup(
    scenario: str, options: Overrides, devices: list[str] | None, size: Size, **others: Any
) -> tuple[Setup, Sources]:
    """Read all files.

    Args:
        scenario: name or file.
        options: that replace fields of it.
        devices: profiles that users may have; None for the paper's.
        size: how much is computed.
        others: further fields of the setup.

    Raises:
        InputError: one line naming the file or option.
    """
    resolved = resolve_scenario(scenario, options)
    profiles = sorted((load_profile(name) for name in devices or DEVICES), key=_step_latency, reverse=True)
    _check_names(profiles)
    setup = Setup(
        scenario=resolved.scenario,
        step_latency_s={profile.name: _step_latency(profile) for profile in profiles},
        intervals=parameter_intervals(resolved.edge, resolved.curve),
        device_intervals={profile.name: device_interval(profile) for profile in profiles},
        size=size,
        **others,
    )
    policy(setup.policy)  # an unknown one is refused before anything is written
    own = bool(resolved.curve.points)
    curve = resolved.curve if own else load_curve(MEASURED_CURVE)
    name = (options.pai or "the scenario's curve") if own else MEASURED_CURVE
    return setup, Sources(edge=resolved.edge, devices=profiles, curve=curve, curve_name=name)


def _check_names(profiles: list[LatencyProfile]) -> None:
    """Tables know a device by the name in its profile."""
    names = [profile.name for profile in profiles]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--devices: found {names.count(name)} profiles named '{name}', accepted: each name once")


def parameter_intervals(edge: LatencyProfile, curve: PaiCurveFile) -> dict[str, Interval]:
    """95 % intervals of a_F, b_F, k_e and h_e as the files have them, else `ASSUMED` around the value."""
    known = {
        "steepness": (curve.fit.steepness, curve.fit.steepness_ci),
        "midpoint": (curve.fit.midpoint, curve.fit.midpoint_ci),
        "slope_s": (edge.fit.slope_s, edge.fit.slope_ci_s),
        "intercept_s": (edge.fit.intercept_s, edge.fit.intercept_ci_s),
    }
    return {name: _interval(*found) for name, found in known.items()}


def device_interval(profile: LatencyProfile) -> Interval:
    """Of L_i(1): k and h both at an end of their 95 % intervals, where the file has them."""
    fit = profile.fit
    if fit.slope_ci_s is None or fit.intercept_ci_s is None:
        return _interval(_step_latency(profile), None)
    ends = [max(fit.floor_s or 0.0, k + h) for k, h in zip(fit.slope_ci_s, fit.intercept_ci_s, strict=True)]
    return _interval(_step_latency(profile), ends)


def _interval(value: float, ends: list[float] | None) -> Interval:
    if ends is not None:
        return ends[0], ends[1], FROM_FILE
    return (1 - ASSUMED) * value, (1 + ASSUMED) * value, NOT_IN_FILE


def moved(scenario: Scenario, name: str, value: float) -> Scenario:
    """The scenario with another a_F, b_F, k_e or h_e."""
    if name in ("steepness", "midpoint"):
        return replace(scenario, pai=replace(scenario.pai, **{name: value}))
    return replace(scenario, edge=replace(scenario.edge, **{name: max(value, 0.0)}))


def _step_latency(profile: LatencyProfile) -> float:
    return float(profile.fit.model().step_latency(1))

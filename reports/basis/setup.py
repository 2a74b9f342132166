"""What a reproduction is made from: every number that its tables depend on."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import InputError, counted
from ...fitting.library import load_curve, load_profile
from ...fitting.schemas import LatencyProfile, PaiCurveFile
from ...optimizer.agent.decide import EXACTLY
from ...optimizer.agent.instances import DEVICES, Instance, Range, paper_instance
from ...optimizer.inputs.scenario import NO_OVERRIDES, Overrides, resolve_scenario
from ...optimizer.methods.genetic import GENERATIONS, POPULATION
from ...optimizer.methods.registry import BUILT_IN, DEFAULT_METHOD, entry_of, find_method
from ...optimizer.model.qoe import Scenario
from ...service.price_file import load_prices
from .intervals import ParameterInterval, device_interval, own_latency, parameter_intervals
from .policies import PAPERS, policy, policy_digests

MEASURED_CURVE = "toyworld"
"""The curve of Fig. 4 where the scenario's own has no measured points, as the paper's has none."""
ROUND_USERS = 20
"""Users of a round wherever their number is not on an axis, as in Fig. 10b."""
TIME_LIMIT_S = 20.0
"""Seconds that an integer program may take for a plan."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is computed.

    Attributes:
        cases: random cases per point.
        slow_cases: random cases per point where a case takes seconds.
        users: numbers of users in Figs. 9, 10a and 11.
        gpus: numbers of edge GPUs in Fig. 10b.
        wanted_gpus: numbers of edge GPUs that may give a wanted latency.
        timed_users: numbers of users in Table 1.
        timed_cases: cases that each time in Table 1 is the median of.
        program_users: most users in Table 1 for the branch and bound that the paper cites, which takes long for more.
        arrivals: requests per second where rounds overlap.
        worlds: worlds at each of these rates.
        servers: numbers of edge servers where there are several.
        memory_servers: numbers of edge servers where their memory is swept.
    """

    cases: int
    slow_cases: int
    users: tuple[int, ...] = (5, 10, 15, 20, 25, 30)
    gpus: tuple[int, ...] = tuple(range(1, 11))
    wanted_gpus: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    timed_users: tuple[int, ...] = (5, 10, 20, 30, 50, 100, 200, 500, 1000)
    timed_cases: int = 3
    program_users: int = 200
    arrivals: tuple[int, ...] = (1, 2, 4, 8, 12)
    worlds: int = 8
    servers: tuple[int, ...] = (2, 4, 6)
    memory_servers: tuple[int, ...] = (1, 3)


FULL = Size(cases=100, slow_cases=100)
QUICK = Size(
    cases=20,
    slow_cases=2,
    timed_users=(5, 20, 30, 200),
    timed_cases=1,
    program_users=30,
    arrivals=(1, 4),
    worlds=1,
)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The methods of a reproduction, and what they run with.

    Attributes:
        proposed: method that stands as the proposed one, a name or package.module:function.
        policy: policy of the proposed method where that is drl, a name or a path.
        seed: random seed of the cases and of the genetic algorithms.
        time_limit_s: seconds that an integer program may take for a plan.
        population: population of the genetic algorithms, P.
        generations: number of generations of the genetic algorithms, M.
    """

    proposed: str = DEFAULT_METHOD
    policy: str = PAPERS
    seed: int = 0
    time_limit_s: float = TIME_LIMIT_S
    population: int = POPULATION
    generations: int = GENERATIONS

    def options_of(self, *methods: str) -> dict[str, Any]:
        """The further arguments of these methods, by name."""
        values = {
            "policy": policy(self.policy),
            "seed": self.seed,
            "time_limit_s": self.time_limit_s,
            "population": self.population,
            "generations": self.generations,
        }
        taken = {option for name in methods for option in entry_of(name).options}
        return {name: value for name, value in values.items() if name in taken}


STANDARD = Choices()


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that the tables depend on; equal setups give equal tables, measured times apart.

    Attributes:
        scenario: the system; its number of edge GPUs is that of Fig. 10a.
        step_latency_s: L_i(1) of the devices that users may have, by name and from slow to fast.
        intervals: interval of each parameter that all users share.
        device_intervals: interval of L_i(1) of each device, in the order of `step_latency_s`.
        size: how much is computed.
        choices: methods and randomness.
    """

    scenario: Scenario
    step_latency_s: dict[str, float]
    intervals: dict[str, ParameterInterval]
    device_intervals: dict[str, ParameterInterval]
    size: Size
    choices: Choices = STANDARD

    def case(self, users: int, number: int, gpus: int | None = None) -> Instance:
        """The random case of a number, with so many users, drawn as in section 6.1.1.

        It is drawn at this number of GPUs, or else at the scenario's, on which the interval of alpha depends; users of
        one number have the same devices and slots whatever G is.
        """
        choices = Range(
            users=(users, users),
            gpus=(gpus or self.scenario.gpus,),
            step_latency_s=tuple(self.step_latency_s.values()),
        )
        return paper_instance(np.random.default_rng([self.choices.seed, users, number]), choices, self.scenario)

    def facts(self) -> dict[str, Any]:
        """The record beside the results, which go on only where it is equal.

        It leaves out the size, so that a folder takes more cases later.
        """
        fields = asdict(self)
        kept = {name: value for name, value in fields.items() if name not in ("size", "choices")}
        digests = {"policies_sha256": policy_digests(*self._own_policies()), "prices": asdict(load_prices().rule())}
        own_code = {"proposed_sha256": _code_digest(self.choices.proposed), "cases_out_of_range": EXACTLY}
        return {**kept, **fields["choices"], **digests, **own_code, "edgesplit": version("edgesplit")}

    def _own_policies(self) -> Sequence[str]:
        return [self.choices.policy] if self.choices.proposed == DEFAULT_METHOD else []


def _code_digest(method: str) -> str | None:
    """The SHA-256 of the file that an own method stands in; None for a built-in one, which has our version."""
    if method in BUILT_IN:
        return None
    find_method(method)  # imports its module
    module = sys.modules[entry_of(method).target.partition(":")[0]]
    file = vars(module).get("__file__")
    return sha256(Path(file).read_bytes()).hexdigest() if file else None


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The parameter files, for Figs. 3 and 4.

    Attributes:
        edge: latency profile of the edge GPU.
        devices: latency profiles of the users' devices, from slow to fast.
        curve: PAI curve with measured points.
        curve_name: name of that curve for people.
    """

    edge: LatencyProfile
    devices: list[LatencyProfile]
    curve: PaiCurveFile
    curve_name: str


def make_setup(
    scenario: str = "default",
    changes: Overrides = NO_OVERRIDES,
    devices: Sequence[str] | None = None,
    size: Size = FULL,
    choices: Choices = STANDARD,
) -> tuple[Setup, Sources]:
    """Read all files.

    Args:
        scenario: name or file of the scenario.
        changes: options that replace fields of the scenario.
        devices: profiles that users may have, names or files; None for the paper's devices.
        size: how much is computed.
        choices: methods and randomness.

    Raises:
        InputError: one line naming the file, method or option.
    """
    resolved = resolve_scenario(scenario, changes)
    profiles = sorted((load_profile(name) for name in devices or DEVICES), key=own_latency, reverse=True)
    _check_names(profiles)
    find_method(choices.proposed, choices.options_of(choices.proposed))  # refused before anything is written
    setup = Setup(
        scenario=resolved.scenario,
        step_latency_s={profile.name: own_latency(profile) for profile in profiles},
        intervals=parameter_intervals(resolved.edge, resolved.curve),
        device_intervals={profile.name: device_interval(profile) for profile in profiles},
        size=size,
        choices=choices,
    )
    own = bool(resolved.curve.points)
    curve = resolved.curve if own else load_curve(MEASURED_CURVE)
    name = (changes.pai or "the scenario's curve") if own else MEASURED_CURVE
    return setup, Sources(edge=resolved.edge, devices=profiles, curve=curve, curve_name=name)


def _check_names(profiles: Sequence[LatencyProfile]) -> None:
    """Refuse two profiles of one name: tables know a device by the name in its profile."""
    names = [profile.name for profile in profiles]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--devices: found {names.count(name)} profiles named '{name}', accepted: each name once")


def describe(
    scenario_name: str, setup: Setup, sources: Sources, remarks: Mapping[str, str] | None = None
) -> Mapping[str, str]:
    """What the numbers were made from, for people; a sentence under each name.

    Args:
        scenario_name: name or file of the scenario.
        setup: numbers of the reproduction.
        sources: parameter files.
        remarks: what has to be said of the proposed method's plans, by the title of the exhibit where they count.
    """
    scenario, size, choices = setup.scenario, setup.size, setup.choices
    drl = choices.proposed == DEFAULT_METHOD
    return {
        "scenario": f"{scenario_name}; edge {scenario.gpus} x {sources.edge.device_name}, B_max = "
        f"{scenario.max_batch}, N = {scenario.total_steps}, N-hat = {scenario.min_local_steps}, a_F = "
        f"{scenario.pai.steepness:.4g}, b_F = {scenario.pai.midpoint:.4g}, intermediates of "
        f"{scenario.latent_bits:,.0f} bit",
        "random cases": f"{size.cases} per point, {size.slow_cases} of Fig. 11 and the searches, {size.timed_cases} of "
        f"Table 1; seed {choices.seed}; "
        f"{counted(len(setup.step_latency_s), 'device')}; alpha uniform in [lo, 0.05 hi] of Remark 1",
        "proposed": f"DRL-convex with the policy {choices.policy}" if drl else f"the method {choices.proposed}",
        **({"its plans": "; ".join(f"{title}: {words}" for title, words in remarks.items())} if remarks else {}),
        "Fig. 4": f"PAI curve {sources.curve_name}, {', '.join(sources.curve.models)}",
        "Figs. 8 and 9": "the shipped trainings and policies, in the shipped scenario; the specific ones on their case",
    }

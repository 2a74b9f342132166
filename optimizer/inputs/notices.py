"""What a user should know about the parameter files behind a plan: odd numbers, unlike profiles, shadowed names."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...common.arrays import Floats
from ...common.errors import shown
from ...fitting.library import shadowing
from ...fitting.names import network_of
from ...fitting.schemas import LatencyProfile, PaiCurveFile
from ..model.qoe import Scenario

Work = tuple[str, int | str, bool]
"""What decides how much work a step is: network, resolution, and whether guidance is on."""

ODD_STEP_S = 60.0
"""Seconds of one step from which a notice asks whether milliseconds are meant; phones take a second or two."""


def memory_notice(asked: Scenario, scenario: Scenario, edge: LatencyProfile) -> Iterator[str]:
    """Says where the memory of the edge GPUs allows fewer granted users than were asked for."""
    if scenario.max_batch != asked.max_batch:
        yield (
            f"one {edge.device_name} holds {edge.max_batch} images at most in its memory (max_batch of its profile), "
            f"so B_max is {scenario.max_batch} with {scenario.gpus} of them, not {asked.max_batch}"
        )


def curve_notices(scenario: Scenario, curve: PaiCurveFile) -> Iterator[str]:
    """Says where a PAI curve and a number of steps do not fit together."""
    if scenario.total_steps != curve.total_steps:
        yield (
            f"the PAI curve was measured with {curve.total_steps} total steps and this plan has "
            f"{scenario.total_steps}: F(n) is taken at the same n"
        )
    if scenario.min_local_steps < scenario.pai.midpoint:
        yield (
            f"min_local_steps {scenario.min_local_steps} lies left of the PAI curve's midpoint "
            f"{scenario.pai.midpoint:g}, so the split objective is not concave (Proposition 2 does not hold); "
            "the ends are compared too, and the plan stays optimal"
        )


def latency_notices(step_latency_s: Floats, names: Sequence[str]) -> Iterator[str]:
    """Says where a step takes so long that milliseconds may be meant.

    Args:
        step_latency_s: seconds of one step of every user, shape (users,).
        names: name of every user.
    """
    slow = np.flatnonzero(step_latency_s > ODD_STEP_S)
    if slow.size:
        others = f" and {slow.size - 1} more" if slow.size > 1 else ""
        seconds = f"{step_latency_s[slow[0]]:g}"
        yield f"a step of user {shown(names[slow[0]])}{others} takes {seconds} s: are milliseconds meant?"


def workload_notices(edge: LatencyProfile, devices: Iterable[LatencyProfile]) -> Iterator[str]:
    """Says where the edge's profile and a device's are of different work, so that their seconds do not compare."""
    for what, profiles in _by_workload(devices).items():
        if what != _workload(edge):
            others = f" and {len(profiles) - 1} more" if len(profiles) > 1 else ""
            yield (
                f"the edge's profile {edge.name} is of {_words(edge)}, and the profile {profiles[0].name}{others} of "
                f"{_words(profiles[0])}: a step is not the same work on both"
            )


def shadow_notices(kind: str, references: Iterable[tuple[str, Path | None]]) -> Iterator[str]:
    """Says where an own parameter file takes the place of a shipped one.

    Args:
        kind: folder of the files, "profiles" or "pai".
        references: name or path of each file, and the folder that relative paths start from.
    """
    paths = (shadowing(kind, reference, beside) for reference, beside in references)
    for path in dict.fromkeys(filter(None, paths)):
        yield f"{path.stem} is your own file {path}, in place of the shipped one of that name"


def _by_workload(profiles: Iterable[LatencyProfile]) -> Mapping[Work, list[LatencyProfile]]:
    groups: dict[Work, list[LatencyProfile]] = {}
    for profile in profiles:
        groups.setdefault(_workload(profile), []).append(profile)
    return groups


def _workload(profile: LatencyProfile) -> Work:
    return network_of(profile.model), profile.resolution, profile.guidance


def _words(profile: LatencyProfile) -> str:
    guidance = "with" if profile.guidance else "without"
    return f"{profile.model} at {profile.resolution} pixels {guidance} guidance"

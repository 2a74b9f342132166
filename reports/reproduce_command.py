"""What `reproduce` does: compute what is missing, then draw, judge, write and print."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..common.console import resumable, say
from ..common.database import move_aside
from ..common.errors import InputError
from ..optimizer.inputs.scenario import overrides
from ..optimizer.methods.registry import DEFAULT_METHOD
from .basis.setup import FULL, QUICK, STANDARD, Choices, Size, describe, make_setup
from .exhibits import tables
from .output import REPORT, SUMMARY, VERDICTS, print_json, print_verdicts, write_exhibits
from .work import COMMAND, experiment_rows


@dataclass(frozen=True, kw_only=True)
class ReproduceRequest:
    """The options of one `reproduce`; see its help.

    Attributes:
        changes: options that replace fields of the scenario, by field.
        devices: profiles with commas between them; None for the paper's devices.
        policy: policy of the proposed method drl; None for the default one.
    """

    output: Path
    quick: bool
    cases: int | None
    scenario: str
    changes: Mapping[str, Any]
    devices: str | None
    proposed: str
    policy: str | None
    seed: int
    population: int
    generations: int
    time_limit: float
    latency_goal: float | None
    workers: int
    fresh: bool
    as_json: bool


def run_reproduction(request: ReproduceRequest) -> None:
    """Compute what is missing, then write tables, figures, verdicts and the report.

    Raises:
        InputError: one line.
    """
    changes, devices = overrides(**request.changes), _devices(request.devices)
    setup, sources = make_setup(request.scenario, changes, devices, _size(request), _choices(request))
    if request.fresh:
        move_aside(request.output, COMMAND)
    with nullcontext() if request.fresh else resumable():  # --fresh again would start anew
        rows = experiment_rows(setup, request.output, request.workers or os.cpu_count() or 1)
        shown = tables(setup, sources, rows, request.latency_goal)
        remarks = {exhibit.title: words for exhibit, table in shown if (words := exhibit.remarks_on(table))}
        judged = write_exhibits(shown, request.output, describe(request.scenario, setup, sources, remarks))
    (print_json if request.as_json else print_verdicts)(judged)
    for title, words in remarks.items():
        say(f"{COMMAND}: {title}: {words}")
    say(f"wrote {request.output}: {REPORT}, every figure as PNG, SVG and CSV, table1.csv, {VERDICTS}, {SUMMARY}")


def _size(request: ReproduceRequest) -> Size:
    size = QUICK if request.quick else FULL
    if request.cases is None:
        return size
    return replace(size, cases=request.cases, slow_cases=request.cases)


def _devices(names: str | None) -> Sequence[str] | None:
    """The profiles between commas."""
    if names is None:
        return None
    profiles = [name.strip() for name in names.split(",")]
    if not all(profiles):
        raise InputError(f"--devices: found '{names}', accepted: profiles, names or files, with a comma between two")
    return profiles


def _choices(request: ReproduceRequest) -> Choices:
    """The methods and their settings."""
    if request.policy is not None and request.proposed != DEFAULT_METHOD:
        raise InputError(
            f"--policy: found --proposed {request.proposed}, accepted: --proposed {DEFAULT_METHOD}, or no --policy"
        )
    return Choices(
        proposed=request.proposed,
        policy=STANDARD.policy if request.policy is None else request.policy,
        seed=request.seed,
        population=request.population,
        generations=request.generations,
        time_limit_s=request.time_limit,
    )

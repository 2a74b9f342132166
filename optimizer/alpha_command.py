"""What `plan alpha` does: advice on the alpha of one device, printed, as JSON and as a picture."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import say
from ..common.errors import InputError, counted, printable
from ..common.figures import check_picture, save_figure
from ..common.ranges import parse_ranges
from ..common.tables import plain_table, print_table
from ..fitting.library import load_profile
from ..fitting.schemas import LARGEST, SMALLEST, LatencyProfile
from . import output
from .advice import AlphaAdvice, Served, advise
from .inputs.notices import latency_notices, shadow_notices, workload_notices
from .inputs.scenario import Resolved, overrides, resolve_scenario

MOST_BATCH = 1_000_000


@dataclass(frozen=True, kw_only=True)
class AlphaRequest:
    """The options of one `plan alpha`; its help describes each.

    Attributes:
        changes: options that replace fields of the scenario, by field.
    """

    device: str | None
    step_latency_s: float | None
    batches: str
    scenario: str
    changes: dict[str, Any]
    output: Path | None
    as_json: bool


def run_advice(request: AlphaRequest) -> None:
    """Print what an alpha means for a device, and draw it where that was asked for.

    Raises:
        InputError: one line; nothing is printed or written then.
    """
    profiles = _profiles(request)
    batches = parse_ranges("--batches", request.batches, 1, MOST_BATCH)
    if request.output:
        check_picture(request.output)
    resolved = resolve_scenario(request.scenario, overrides(**request.changes))
    step_latency_s = float(profiles[0].fit.model().step_latency(1)) if profiles else request.step_latency_s or 0.0
    advice = advise(resolved.scenario, resolved.for_alpha, step_latency_s, batches)
    name = profiles[0].device_name if profiles else "own device"
    if request.output:
        from .figures import draw_advice  # seaborn costs 1 s

        save_figure(request.output, draw_advice(advice, name))
    if request.as_json:
        output.print_json({"device": name, **_as_json(advice)})
    else:
        _print(advice, name, resolved.edge_name)
    for notice in (*resolved.notices, *_notices(request, profiles, resolved, advice)):
        say(f"plan alpha: {notice}")
    if request.output:
        say(f"wrote {request.output}")


def _profiles(request: AlphaRequest) -> list[LatencyProfile]:
    """The profile of the device; none where its L_i(1) is given."""
    step_latency_s = request.step_latency_s
    if (request.device is None) == (step_latency_s is None):
        found = "neither" if request.device is None else "both"
        raise InputError(f"--device, --step-latency-s: found {found}, accepted: one of them, such as --device rtx-3060")
    if step_latency_s is not None and not SMALLEST <= step_latency_s <= LARGEST:
        raise InputError(f"--step-latency-s: found {step_latency_s}, accepted: a number of seconds above 0")
    return [] if request.device is None else [load_profile(request.device)]


def _notices(
    request: AlphaRequest, profiles: Sequence[LatencyProfile], resolved: Resolved, advice: AlphaAdvice
) -> Iterator[str]:
    """What should be known of the device and the batches."""
    yield from shadow_notices("profiles", [(request.device, None)] if request.device else [])
    yield from workload_notices(resolved.edge, profiles)
    yield from latency_notices(np.array([advice.step_latency_s]), [request.device or "own device"])
    if advice.batches[-1] > advice.scenario.max_batch:
        yield f"no plan grants {advice.batches[-1]} users: B_max is {advice.scenario.max_batch}"


def _as_json(advice: AlphaAdvice) -> dict[str, Any]:
    """The object of `--json`; what is infinite is null."""
    emphases = []
    for i, (emphasis, alpha) in enumerate(zip(advice.emphasis.tolist(), advice.alpha.tolist(), strict=True)):
        batches = [{"batch": batch, **_cell(advice.at_batches, i, j)} for j, batch in enumerate(advice.batches)]
        at_reference = _cell(advice.at_reference, i, 0)
        emphases.append({"emphasis": emphasis, "alpha": _finite(alpha), **at_reference, "batches": batches})
    return {
        "step_latency_s": advice.step_latency_s,
        "step_saving_s": advice.step_saving_s,
        "low": _finite(advice.low),
        "high": _finite(advice.high),
        "paper_interval": [_finite(end) for end in advice.paper_interval],
        "alpha_gpus": advice.alpha_gpus,
        "faster_up_to": advice.faster_up_to,
        "all_local_pai": advice.local_pai,
        "all_local_latency_s": advice.local_latency_s,
        "emphases": emphases,
        "scenario": asdict(advice.scenario),
    }


def _cell(served: Served, i: int, j: int) -> dict[str, float]:
    """What alpha number i gives at batch number j."""
    return {name: values[i, j].item() for name, values in vars(served).items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _print(advice: AlphaAdvice, name: str, edge_name: str) -> None:
    """The advice for a person."""
    for line in _range_lines(advice, name, edge_name):
        print(printable(line))
    print()
    print("seconds where so many users are granted, at the best split, without the wait:")
    batches = [f"{batch}" for batch in advice.batches]
    table = plain_table("emphasis", "alpha s", "split", "PAI", *batches, right_from=0)
    for i, (emphasis, alpha) in enumerate(zip(advice.emphasis, advice.alpha, strict=True)):
        own = _cell(advice.at_reference, i, 0)
        seconds = [_seconds(_cell(advice.at_batches, i, j)) for j in range(len(batches))]
        table.add_row(f"{emphasis:.1f}", f"{alpha:.4g}", f"{own['local_steps']}", f"{own['pai']:.3f}", *seconds)
    alone = [f"{advice.local_latency_s:.2f} "] * len(batches)
    table.add_row("all local", "", f"{advice.scenario.total_steps}", f"{advice.local_pai:.3f}", *alone)
    print_table(table)
    if (advice.at_batches.worth_s <= 0).any():
        print("* all local is worth more to this user, or as much: a plan denies")


def _seconds(cell: dict[str, float]) -> str:
    """Seconds, marked where all local is worth as much or more."""
    return f"{cell['latency_s']:.2f}{'*' if cell['worth_s'] <= 0 else ' '}"


def _range_lines(advice: AlphaAdvice, name: str, edge_name: str) -> Iterator[str]:
    """Which alphas are of use, and where the device is faster than the edge."""
    batch, saving_s = advice.scenario.reference_batch, advice.step_saving_s
    yield (
        f"{name}: {advice.step_latency_s:.4f} s a step; edge {advice.alpha_gpus} x {edge_name}: "
        f"{advice.step_latency_s - saving_s:.4f} s a step of b-hat = {batch} users"
    )
    yield f"alpha below {advice.low:.4g} s: only latency counts; above {advice.high:.4g} s: only PAI (Remark 1)"
    if saving_s < 0:
        first, last = advice.paper_interval
        yield f"the paper's interval is {first:.4g} to {last:.4g} s, as L_i < L_e(b-hat): its sign is left out"
    if advice.alpha_gpus != advice.scenario.gpus:
        yield f"splits and seconds are those of {counted(advice.scenario.gpus, 'edge GPU')}; alpha stays"
    if advice.faster_up_to < advice.scenario.max_batch:
        yield (
            f"the edge is faster than the device for up to {counted(advice.faster_up_to, 'user')}"
            if advice.faster_up_to
            else "the edge is never faster than the device"
        )

"""From timed steps to a latency profile: fit, samples, telemetry, and what its reader should know."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..common.arrays import Floats
from ..common.errors import printable
from ..fitting.doubts import profile_doubts
from ..fitting.latency import LatencyFit, fit_samples
from ..fitting.names import slug
from ..fitting.resolution import MOST_PIXELS, Resolution
from ..fitting.schemas import LatencyFitRecord, LatencyProfile, LatencySample, Provenance
from .bench import BATCH_LIMIT, TimedRun
from .devices import device_name, versions
from .options import FitRequest, parsed_resolution
from .timing import Samples, TimingSettings, median_interval, relative_half_width, slowed
from .workload import Workload


def make_profile(
    run: TimedRun, workload: Workload, settings: TimingSettings, resolution: Resolution, name: str | None
) -> LatencyProfile:
    """The profile of a run of `hwprof bench`.

    Args:
        run: what was measured.
        workload: what one step was.
        settings: when sampling stopped.
        resolution: size of the pictures, pixels.
        name: name of the profile; None to derive it from the device.
    """
    samples = run.samples
    fit = fit_samples(samples.by_visit())
    device = device_name(workload.device)
    profile = LatencyProfile(
        name=name or slug(device),
        device=device,
        model=workload.model,
        resolution=resolution,
        dtype=workload.dtype,
        quantization=workload.quantize,
        attention=run.attention,
        guidance=workload.guidance,
        samples=[latency_sample(batch, samples.durations(batch)) for batch in samples.by_visit()],
        fit=LatencyFitRecord.of(fit),
        max_batch=run.max_batch,
        decode_s=_median(run.parts_s.get("decode_s")),
        encode_s=_median(run.parts_s.get("encode_s")),
        telemetry=_telemetry(run, settings, workload),
        provenance=Provenance(
            kind="measured",
            source="hwprof bench",
            date=_today(),
            versions=versions(workload),
        ),
    )
    return _noted(profile, [*fit_notices(fit, profile), *_sampling_notices(run, settings), *_load_notices(run)])


def foreign_profile(request: FitRequest, durations_s: Mapping[int, Sequence[float]], fit: LatencyFit) -> LatencyProfile:
    """The profile of measurements from elsewhere.

    Args:
        request: options of `hwprof fit`, which say what was measured.
        durations_s: batch size -> seconds of each step.
        fit: fit to these durations.
    """
    profile = LatencyProfile(
        name=slug(request.name or request.samples.stem),
        device=request.device,
        model=request.model,
        resolution=parsed_resolution(request.resolution, MOST_PIXELS),
        dtype=request.dtype,
        guidance=request.guidance,
        samples=[latency_sample(batch, np.array(seconds)) for batch, seconds in sorted(durations_s.items())],
        fit=LatencyFitRecord.of(fit),
        max_batch=None,
        telemetry=None,
        provenance=Provenance(kind="measured", source=f"hwprof fit {printable(request.samples.name)}", date=_today()),
    )
    return _noted(profile, fit_notices(fit, profile))


def latency_sample(batch: int, durations_s: Floats) -> LatencySample:
    """The record of all measurements at one batch size."""
    low, high = median_interval(durations_s)
    known = np.isfinite(high)
    return LatencySample(
        batch=batch,
        median_s=float(np.median(durations_s)),
        ci_low_s=low if known else None,
        ci_high_s=high if known else None,
        n=durations_s.size,
        durations_s=durations_s.tolist(),
    )


def fit_notices(fit: LatencyFit, profile: LatencyProfile) -> list[str]:
    """What is poor or implausible in a fit, one sentence each."""
    warning = fit.warning()
    return [*([warning] if warning else []), *profile_doubts(profile)]


def _noted(profile: LatencyProfile, notes: list[str]) -> LatencyProfile:
    """The profile with sentences that its reader should know."""
    return profile.model_copy(update={"provenance": profile.provenance.model_copy(update={"notes": notes})})


def _sampling_notices(run: TimedRun, settings: TimingSettings) -> Iterator[str]:
    """What was not measured to the end."""
    if run.samples.stopped_by == "time":
        width, batch = _widest(run.samples)
        known = f"+-{width:.1%}" if np.isfinite(width) else "nothing"
        yield (
            f"the time was up before every median was known to +-{settings.precision:.1%}: batch {batch} is known to "
            f"{known}; give it more --max-seconds"
        )
    if run.max_batch == BATCH_LIMIT:
        yield f"the search for the largest batch ended at {BATCH_LIMIT} images; more may fit"


def _load_notices(run: TimedRun) -> Iterator[str]:
    """What heat, other load and missing telemetry did to the measurement."""
    rises = {batch: slowed(run.samples.durations(batch)) or 0 for batch in run.samples.by_visit()}
    worst = max(rises, key=lambda batch: rises[batch])
    if rises[worst]:
        yield (
            f"{sum(rise > 0 for rise in rises.values())} of {len(rises)} batch sizes became slower while they were "
            f"measured, batch {worst} by {rises[worst]:.0%}: heat, or other load on this machine?"
        )
    if run.disturbed_visits:
        yield (
            f"other load disturbed {run.disturbed_visits} of {len(run.readings)} visits; "
            "they are kept and marked, and left out of the medians"
        )
    if run.throttled_visits:
        yield f"{run.throttled_visits} of {len(run.readings)} visits were throttled; they are kept and marked"
    if run.missing:
        yield f"this GPU does not report: {', '.join(run.missing)}"


def energy_per_step(run: TimedRun) -> dict[str, float] | None:
    """Joules of one step at each batch size: what the energy counter rose by during all its visits, over their steps.

    Only sums over many visits tell this, because the counter moves every tenth of a second, which is longer than a
    visit. None where the GPU has no such counter.
    """
    spent: dict[int, list[tuple[float, int]]] = {}
    visits, readings = run.samples.visits, run.readings
    for number in range(1, len(visits)):
        before, after = readings[number - 1].energy_j, readings[number].energy_j
        if before is None or after is None or after < before or number == run.resumed_at:
            continue
        spent.setdefault(visits[number].batch, []).append((after - before, len(visits[number].durations_s)))
    sums = {batch: [sum(column) for column in zip(*pairs, strict=True)] for batch, pairs in sorted(spent.items())}
    return {str(batch): joules / steps for batch, (joules, steps) in sums.items()} or None


def _telemetry(run: TimedRun, settings: TimingSettings, workload: Workload) -> dict[str, Any]:
    import torch

    width, _ = _widest(run.samples)
    return {
        "workload": asdict(workload),
        "threads": torch.get_num_threads() if workload.device == "cpu" else None,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32
        and workload.device_kind == "cuda"
        and workload.dtype == "fp32",
        "precision": settings.precision,
        "max_seconds": settings.max_seconds,
        "stopped_by": run.samples.stopped_by,
        "widest_interval": width if np.isfinite(width) else None,
        "first_call_s": run.first_call_s,
        "warm_ups": [{"batch": batch, **asdict(warm)} for batch, warm in run.warm_ups.items()],
        "throttled_visits": run.throttled_visits,
        "disturbed_visits": run.disturbed_visits,
        "energy_per_step_j": energy_per_step(run),
        "missing": list(run.missing),
        "parts_s": run.parts_s,
        "visits": _visits(run),
    }


def _visits(run: TimedRun) -> list[dict[str, Any]]:
    """Every visit with its reading; the durations only where they stand nowhere else, as those that count do."""
    return [
        {"round": visit.round, "batch": visit.batch, "steps": len(visit.durations_s), "control_s": visit.control_s}
        | {"disturbed_s": visit.durations_s if disturbed else None, **reading.as_json()}
        for visit, disturbed, reading in zip(run.samples.visits, run.samples.disturbed(), run.readings, strict=True)
    ]


def _median(seconds: Sequence[float] | None) -> float | None:
    return float(np.median(seconds)) if seconds else None


def _widest(samples: Samples) -> tuple[float, int]:
    """The relative half-width and the batch size of the median that is known least well."""
    return max((relative_half_width(samples.durations(batch)), batch) for batch in samples.by_visit())


def _today() -> str:
    return datetime.now(UTC).date().isoformat()

"""The batch sweep of `hwprof bench`: measure, fit, and make a latency profile."""

import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from ..common.arrays import Floats
from ..common.capacity import largest_batch
from ..common.errors import InputError
from ..fitting.latency import LatencyFit, fit_samples
from ..fitting.library import slug
from ..fitting.schemas import LatencyFitRecord, LatencyProfile, LatencySample, Provenance
from .journal import Journal
from .telemetry import NOTHING, NoTelemetry, Reading, Telemetry, load_nvml, open_telemetry
from .timing import (
    CpuTimer,
    CudaTimer,
    Samples,
    Settings,
    Timer,
    Visit,
    WarmUp,
    cpu_control,
    median_interval,
    precise,
    relative_half_width,
    sample,
    slowed,
    warm_up,
)
from .workloads import Bench, Workload

BATCH_LIMIT = 1024
Say = Callable[[str], None]
Progress = Callable[[Samples, Visit], None]


@dataclass
class Measurement:
    """All that one sweep measured.

    Attributes:
        samples: the visits, and why they ended.
        first_call_s: of the first step of all, one image: it loads kernels, allocates, compiles, captures.
        warm_ups: batch size -> its warm-up.
        readings: one per visit, taken right after it.
        resumed_at: how many visits an interrupted run had made.
        max_batch: the largest batch that fits; None where that was not tried.
        missing: telemetry that the GPU does not give.
    """

    samples: Samples = field(default_factory=Samples)
    first_call_s: float | None = None
    warm_ups: dict[int, WarmUp] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    resumed_at: int = 0
    max_batch: int | None = None
    missing: Sequence[str] = ()

    @property
    def disturbed_visits(self) -> int:
        """How many visits other load slowed down; they are left out of the medians."""
        return sum(self.samples.disturbed())

    @property
    def throttled_visits(self) -> int:
        """How many visits ended with the clocks slowed down."""
        return sum(bool(reading.throttled_by) for reading in self.readings)


@dataclass(frozen=True)
class Machine:
    """How to measure on a device.

    Attributes:
        timer: of steps.
        telemetry: readings of the GPU; None for none.
        fits: whether a batch fits into its memory; None where that is not tried.
        control: work whose time tells when others slow the machine down; None where telemetry tells.
    """

    timer: Timer
    telemetry: Telemetry | NoTelemetry | None = None
    fits: Callable[[Bench, int], bool] | None = None
    control: Callable[[], float] | None = None


def machine_of(device: str) -> Machine:
    """CUDA events, NVML and the memory limit of a GPU; wall time on a CPU, whose memory limit would end us."""
    if device == "cpu":
        return Machine(CpuTimer(), control=cpu_control)
    return Machine(CudaTimer(), open_gpu_telemetry(device), fits_gpu)


def measure(
    bench: Bench,
    machine: Machine,
    batches: Sequence[int],
    settings: Settings,
    journal: Journal,
    say: Say,
    progress: Progress,
) -> Measurement:
    """Time every batch size that fits.

    Args:
        bench: the UNet.
        machine: how to measure.
        batches: sizes to time.
        settings: when to stop.
        journal: receives every visit as it ends, and holds those of an interrupted run.
        say: receives notices for the user.
        progress: called after every visit.

    Raises:
        InputError: where the device, its memory or its number formats do not allow a single image.
    """
    done = [visit for visit, _ in journal.done]
    result = Measurement(Samples(done.copy()), readings=[reading for _, reading in journal.done], resumed_at=len(done))
    warn_of_company(machine.telemetry, say)
    result.first_call_s = probe(bench, machine.timer)
    if machine.fits:
        result.max_batch = largest_batch(partial(machine.fits, bench), BATCH_LIMIT)
        batches = _fitting(batches, result.max_batch, say)
    with _one_line(bench.workload):
        steps = {batch: bench.make_step(batch) for batch in batches}
        share_s = settings.max_seconds / 2 / len(batches)
        result.warm_ups = {batch: warm_up(machine.timer, step, share_s) for batch, step in steps.items()}
        _say_unsettled(result.warm_ups, say)
        step_s = {batch: warm.step_s for batch, warm in result.warm_ups.items()}
        for visit in sample(machine.timer, steps, step_s, settings, done, machine.control):
            reading = machine.telemetry.read() if machine.telemetry else NOTHING
            journal.add(visit, reading)
            result.samples.visits.append(visit)
            result.readings.append(reading)
            progress(result.samples, visit)
    result.samples.stopped_by = "precision" if precise(result.samples, settings.precision) else "time"
    result.missing = machine.telemetry.missing if machine.telemetry else ()
    return result


def build(workload: Workload) -> Bench:
    """The UNet on its device.

    Raises:
        InputError: for a device that is not there, or that holds not even the weights.
    """
    check_device(workload)
    with _one_line(workload):
        return Bench(workload)


def check_device(workload: Workload) -> None:
    """Refuse a device or number format that is not there, in words that say what to do; make a GPU the current one.

    Events, synchronisation and graphs belong to the current GPU: on another they would time its idle queue.

    Raises:
        InputError: one line.
    """
    import torch

    if workload.device == "cpu":
        if workload.cuda_graph:
            raise InputError("--cuda-graph: found --device cpu, accepted: an NVIDIA GPU; leave it out")
        return
    index = int(workload.device.partition(":")[2])
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise InputError(f"--gpu: found {index}, but no NVIDIA GPU is usable here; use --device cpu --model tiny")
    if index >= count:
        raise InputError(f"--gpu: found {index}, accepted: 0 to {count - 1} (torch sees {count} GPUs)")
    torch.cuda.set_device(index)
    if workload.dtype == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(f"--dtype: found bf16, which {torch.cuda.get_device_name(index)} lacks; use --dtype fp16")


def probe(bench: Bench, timer: Timer) -> float:
    """Run one image; returns the seconds, those of capturing its step included.

    Raises:
        InputError: where the device cannot.
    """
    with _one_line(bench.workload):
        start = time.perf_counter()
        step = bench.make_step(1)
        made_s = time.perf_counter() - start
        return made_s + timer.durations(step, 1)[0]


def fits_gpu(bench: Bench, batch: int) -> bool:
    """Whether a step of this batch runs on the GPU; what it took of memory is freed either way.

    One image ran before, so whatever fails is a matter of size: memory, a library's workspace, or a tensor too long
    for a kernel's index.
    """
    import torch

    from ..diffusion.inference.gpu import free_memory

    try:
        bench.make_step(batch)()
        torch.cuda.synchronize()
        return True
    except RuntimeError:  # out of memory is one, too
        return False
    finally:
        free_memory()


def open_gpu_telemetry(device: str) -> Telemetry | NoTelemetry:
    """NVML's view of the CUDA device."""
    import torch

    return open_telemetry(load_nvml(), str(torch.cuda.get_device_properties(device).uuid))


def warn_of_company(telemetry: Telemetry | NoTelemetry | None, say: Say) -> None:
    """Say where other processes share the GPU."""
    others = telemetry.read().other_processes if telemetry else None
    if others:
        say(f"{others} other process(es) use this GPU: the latencies include their disturbance")


def _fitting(batches: Sequence[int], most: int, say: Say) -> list[int]:
    kept = [batch for batch in batches if batch <= most]
    if len(kept) < 2:
        raise InputError(
            f"--batches: found {', '.join(map(str, batches))}, but {most} image(s) at most fit into GPU memory and a "
            "line needs two sizes; use smaller --batches, a smaller --resolution or another --gpu"
        )
    if len(kept) < len(batches):
        say(f"batches above {most} do not fit into GPU memory and are left out")
    return kept


def _say_unsettled(warm_ups: Mapping[int, WarmUp], say: Say) -> None:
    unsettled = [str(batch) for batch, warm in warm_ups.items() if not warm.settled]
    if unsettled:
        say(f"warm-up did not settle at batch {', '.join(unsettled)}: other load on this machine?")


@contextmanager
def _one_line(workload: Workload) -> Iterator[None]:
    """What torch cannot do on a device, out of memory too, as an InputError."""
    try:
        yield
    except RuntimeError as error:
        raise _device_error(workload, error) from error


def _device_error(workload: Workload, error: RuntimeError) -> InputError:
    from ..diffusion.inference.gpu import out_of_memory

    reason = " ".join(str(error).split())[:120]
    if "memory" in reason.casefold() or out_of_memory(error):
        return InputError(
            f"{workload.device}: {workload.model} does not fit into memory ({reason}); use a smaller --model, "
            "--resolution or --batches, or another --gpu"
        )
    return InputError(
        f"{workload.device}: cannot run {workload.model} as {workload.dtype} ({reason}); use another --dtype"
    )


# -- the profile --------------------------------------------------------------------------------------------


def make_profile(
    measurement: Measurement, workload: Workload, settings: Settings, resolution: int, name: str | None
) -> LatencyProfile:
    """Fit the samples and record everything."""
    samples = measurement.samples
    fit = fit_samples(samples.by_visit())
    device = device_name(workload.device)
    return LatencyProfile(
        name=name or slug(device),
        device=device,
        model=workload.model,
        resolution=resolution,
        dtype=workload.dtype,
        guidance=workload.guidance,
        samples=[latency_sample(batch, samples.durations(batch)) for batch in samples.by_visit()],
        fit=LatencyFitRecord.of(fit),
        max_batch=measurement.max_batch,
        telemetry=_telemetry(measurement, settings, workload),
        provenance=Provenance(
            kind="measured",
            source="hwprof bench",
            date=datetime.now(UTC).date().isoformat(),
            versions=versions(),
            notes=notices(measurement, fit, settings),
        ),
    )


def notices(measurement: Measurement, fit: LatencyFit, settings: Settings) -> list[str]:
    """What the user should know of the measurement; the profile keeps it."""
    lines = [warning] if (warning := fit.warning()) else []
    if measurement.samples.stopped_by == "time":
        width, batch = _widest(measurement.samples)
        lines.append(
            f"the time was up before every median was known to +-{settings.precision:.1%}: batch {batch} is known to "
            f"{f'+-{width:.1%}' if np.isfinite(width) else 'nothing'}; give it more --max-seconds"
        )
    if measurement.max_batch == BATCH_LIMIT:
        lines.append(f"the search for the largest batch ended at {BATCH_LIMIT} images; more may fit")
    rises = {batch: slowed(measurement.samples.durations(batch)) or 0 for batch in measurement.samples.by_visit()}
    worst = max(rises, key=lambda batch: rises[batch])
    if rises[worst]:
        count = sum(rise > 0 for rise in rises.values())
        lines.append(
            f"{count} of {len(rises)} batch sizes became slower while they were measured, batch {worst} by "
            f"{rises[worst]:.0%}: heat, or other load on this machine?"
        )
    if measurement.disturbed_visits:
        lines.append(
            f"other load disturbed {measurement.disturbed_visits} of {len(measurement.readings)} visits; "
            "they are kept and marked, and left out of the medians"
        )
    if measurement.throttled_visits:
        lines.append(
            f"{measurement.throttled_visits} of {len(measurement.readings)} visits were throttled; "
            "they are kept and marked"
        )
    if measurement.missing:
        lines.append(f"this GPU does not report: {', '.join(measurement.missing)}")
    return lines


def _widest(samples: Samples) -> tuple[float, int]:
    """(relative half-width, batch) of the median that is known least well."""
    return max((relative_half_width(samples.durations(batch)), batch) for batch in samples.by_visit())


def device_name(device: str) -> str:
    """The name of a GPU or of this machine's processor."""
    if device != "cpu":
        import torch

        return re.sub(r"^NVIDIA (GeForce )?", "", torch.cuda.get_device_name(device))
    return _processor() or platform.machine() or "cpu"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def versions() -> dict[str, str]:
    """The versions that a latency depends on."""
    import torch

    found = {name: version(name) for name in ("edgesplit", "torch", "diffusers")}
    cudnn = str(torch.backends.cudnn.version() or "none")
    return found | {"python": platform.python_version(), "cuda": torch.version.cuda or "none", "cudnn": cudnn}


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


def _telemetry(measurement: Measurement, settings: Settings, workload: Workload) -> dict[str, Any]:
    import torch

    samples = measurement.samples
    width, _ = _widest(samples)
    return {
        "workload": asdict(workload),
        "threads": torch.get_num_threads() if workload.device == "cpu" else None,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32 and workload.device != "cpu" and workload.dtype == "fp32",
        "precision": settings.precision,
        "max_seconds": settings.max_seconds,
        "stopped_by": samples.stopped_by,
        "widest_interval": width if np.isfinite(width) else None,
        "first_call_s": measurement.first_call_s,
        "warm_ups": [{"batch": batch, **asdict(warm)} for batch, warm in measurement.warm_ups.items()],
        "throttled_visits": measurement.throttled_visits,
        "disturbed_visits": measurement.disturbed_visits,
        "energy_per_step_j": energy_per_step(measurement),
        "missing": list(measurement.missing),
        "visits": [
            {"round": visit.round, "batch": visit.batch, "steps": len(visit.durations_s), "control_s": visit.control_s}
            | {"disturbed_s": visit.durations_s if disturbed else None, **reading.as_json()}
            for visit, disturbed, reading in zip(samples.visits, samples.disturbed(), measurement.readings, strict=True)
        ],
    }


def energy_per_step(measurement: Measurement) -> dict[str, float] | None:
    """Joules of one step at each batch size: what the energy counter rose during all its visits, over their steps.

    Sums, because the counter moves a tenth of a second at a time, longer than a visit. None where the GPU has no such
    counter.
    """
    spent: dict[int, list[tuple[float, int]]] = {}
    visits, readings = measurement.samples.visits, measurement.readings
    for number in range(1, len(visits)):
        before, after = readings[number - 1].energy_j, readings[number].energy_j
        if before is None or after is None or after < before or number == measurement.resumed_at:
            continue
        spent.setdefault(visits[number].batch, []).append((after - before, len(visits[number].durations_s)))
    sums = {batch: [sum(column) for column in zip(*pairs, strict=True)] for batch, pairs in sorted(spent.items())}
    return {str(batch): joules / steps for batch, (joules, steps) in sums.items()} or None

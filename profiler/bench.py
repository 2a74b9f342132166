"""The measurement of `hwprof bench`: which batch sizes fit, and how long a step of each of them takes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from ..common.capacity import largest_batch
from ..common.errors import InputError, reason_of
from .devices import Instruments, check_device
from .journal import Journal
from .parts import part_steps, time_part
from .telemetry import NOTHING, NoTelemetry, Reading, Telemetry
from .timed_network import TimedNetwork
from .timing import Samples, Step, Timer, TimingSettings, Visit, WarmUp, precise, sample, warm_up
from .workload import Workload

BATCH_LIMIT = 1024
"""Largest batch that the search for what fits into memory tries."""
Say = Callable[[str], None]
AfterVisit = Callable[[Samples, Visit], None]


@dataclass
class TimedRun:
    """Everything that one run of `hwprof bench` measured.

    Attributes:
        samples: the visits, and why they ended.
        first_call_s: seconds of the very first step, of one image: it loads kernels, allocates, compiles and captures.
        warm_ups: batch size -> its warm-up.
        readings: readings of the GPU, one taken right after each visit.
        resumed_at: number of visits that an interrupted run had made before.
        max_batch: largest batch that fits into memory; None where that was not tried.
        attention: names of the kernels that computed the attention.
        parts_s: field of the profile -> seconds of each timed call of that part, for parts that the model has.
        missing: names of the telemetry that the GPU does not give.
    """

    samples: Samples = field(default_factory=Samples)
    first_call_s: float | None = None
    warm_ups: dict[int, WarmUp] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    resumed_at: int = 0
    max_batch: int | None = None
    attention: str | None = None
    parts_s: dict[str, list[float]] = field(default_factory=dict)
    missing: Sequence[str] = ()

    @property
    def disturbed_visits(self) -> int:
        """Number of visits that other load slowed down; they are left out of the medians."""
        return sum(self.samples.disturbed())

    @property
    def throttled_visits(self) -> int:
        """Number of visits at whose end the GPU had slowed its clocks down."""
        return sum(bool(reading.throttled_by) for reading in self.readings)


def load_network(workload: Workload) -> TimedNetwork:
    """The network of a workload on its device.

    Raises:
        InputError: for a device that is not there, or that holds not even the weights.
    """
    check_device(workload)
    _check_libraries()
    with _device_errors(workload):
        return TimedNetwork(workload)


def _check_libraries() -> None:
    """Import what a network needs, so that a broken installation is not taken for a device that cannot run it."""
    try:
        from diffusers import DDIMScheduler, UNet2DConditionModel  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"diffusers cannot be imported ({reason_of(error, 200)}); pip install --force-reinstall 'edgesplit[models]'"
        ) from error


def measure(
    timed: TimedNetwork,
    instruments: Instruments,
    batches: Sequence[int],
    settings: TimingSettings,
    journal: Journal,
    say: Say,
    after_visit: AfterVisit,
) -> TimedRun:
    """Time every batch size that fits into memory.

    Args:
        timed: network whose steps are timed.
        instruments: what to measure with.
        batches: batch sizes to time.
        settings: when to stop.
        journal: file that receives every visit as it ends, and that holds the visits of an interrupted run.
        say: function that receives notices for the user.
        after_visit: function that is called with all samples and the last visit, after every visit.

    Raises:
        InputError: where the device, its memory or its number formats do not allow a single image.
    """
    done = [visit for visit, _ in journal.done]
    run = TimedRun(Samples(done.copy()), readings=[reading for _, reading in journal.done], resumed_at=len(done))
    telemetry = instruments.telemetry
    warn_of_company(telemetry, say)
    run.first_call_s = first_call(timed, instruments.timer)
    with _device_errors(timed.workload):
        run.attention = timed.attention()
    if timed.workload.device == "cpu":
        set_threads(timed, batches, journal)
    if instruments.fits:
        run.max_batch = largest_batch(partial(instruments.fits, timed), BATCH_LIMIT)
        batches = _fitting(batches, run.max_batch, say)
    with _device_errors(timed.workload):
        steps = {batch: timed.make_step(batch) for batch in batches}
        run.warm_ups = _warm_ups(instruments.timer, steps, settings, say)
        step_s = {batch: warm.step_s for batch, warm in run.warm_ups.items()}
        for visit in sample(instruments.timer, steps, step_s, settings, done, instruments.control):
            reading = telemetry.read() if telemetry else NOTHING
            journal.add(visit, reading)
            run.samples.visits.append(visit)
            run.readings.append(reading)
            after_visit(run.samples, visit)
    run.samples.stopped_by = "precision" if precise(run.samples, settings.precision) else "time"
    run.missing = telemetry.missing if telemetry else ()
    run.parts_s = time_parts(timed, instruments.timer, say)
    return run


def first_call(timed: TimedNetwork, timer: Timer) -> float:
    """Run one image; returns its seconds, including those of making and capturing the step.

    Raises:
        InputError: where the device cannot run it.
    """
    with _device_errors(timed.workload):
        start = time.perf_counter()
        step = timed.make_step(1)
        made_s = time.perf_counter() - start
        return made_s + timer.durations(step, 1)[0]


def time_parts(timed: TimedNetwork, timer: Timer, say: Say) -> dict[str, list[float]]:
    """Time what a user waits for beside the steps; what cannot be timed is said, and the steps count all the same.

    Returns:
        field of the profile -> seconds of each call, for one picture or one prompt.
    """
    seconds = {}
    for name, make in part_steps(timed).items():
        try:
            with _device_errors(timed.workload):
                seconds[name] = time_part(make, timer)
        except InputError as error:
            say(f"{name} was not measured: {error}")
    return seconds


def set_threads(timed: TimedNetwork, batches: Sequence[int], journal: Journal) -> None:
    """Let torch compute with the number of threads of the interrupted run, or with the one that is fastest now.

    Args:
        timed: network whose steps are timed.
        batches: batch sizes, ascending; the middle one decides.
        journal: file that keeps the number.

    Raises:
        InputError: where the machine cannot run it.
    """
    import torch

    from ..diffusion.inference.threads import fastest_threads

    if journal.threads:
        torch.set_num_threads(journal.threads)
        return
    with _device_errors(timed.workload):
        journal.keep_threads(fastest_threads(timed.make_step(batches[len(batches) // 2]), "hwprof"))


def warn_of_company(telemetry: Telemetry | NoTelemetry | None, say: Say) -> None:
    """Say it where other processes share the GPU."""
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


def _warm_ups(timer: Timer, steps: Mapping[int, Step], settings: TimingSettings, say: Say) -> dict[int, WarmUp]:
    share_s = settings.max_seconds / 2 / len(steps)
    warm_ups = {batch: warm_up(timer, step, share_s) for batch, step in steps.items()}
    unsettled = [str(batch) for batch, warm in warm_ups.items() if not warm.settled]
    if unsettled:
        say(f"warm-up did not settle at batch {', '.join(unsettled)}: other load on this machine?")
    return warm_ups


@contextmanager
def _device_errors(workload: Workload) -> Iterator[None]:
    """Turn what torch cannot do on a device, a full memory included, into an InputError."""
    try:
        yield
    except RuntimeError as error:
        raise _device_error(workload, error) from error


def _device_error(workload: Workload, error: RuntimeError) -> InputError:
    from ..diffusion.inference.gpu import out_of_memory

    reason = reason_of(error, 120)
    if "memory" in reason.casefold() or out_of_memory(error):
        return InputError(
            f"{workload.device}: {workload.model} does not fit into memory ({reason}); use a smaller --model, "
            "--resolution or --batches, or another --gpu"
        )
    return InputError(
        f"{workload.device}: cannot run {workload.model} as {workload.dtype} ({reason}); use another --dtype"
    )

"""How long a step takes: timers, warm-up, and sampling until the medians are known well enough.

A *visit* is a few successive steps at one batch size. A *round* visits every batch size once, in a new random
order, until all medians are known well enough or the time is up. All batch sizes thus share whatever the machine's
speed does meanwhile: a drift moves all medians alike instead of posing as slope.

A processor that others share (a virtual machine's, above all) slows by half for a tenth of a second to seconds at a
time. A fixed piece of other work, the *control*, is timed before and after each visit; a visit beside which the
control was slow is *disturbed*: kept and marked, but left out of the medians. As the control is not the step, the
choice does not look at what it chooses.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from ..common.arrays import Floats

Step = Callable[[], object]

WARM_UP_BLOCK = 3
WARM_UP_AGREEMENT = 0.05
"""Successive block medians that lie this close together, relative, are settled."""
WARM_UP_BLOCKS = 20
VISIT_S = 0.03
"""A visit takes about this long on average; all have as many steps (at least one), so that all medians get precise."""
LEAST_ROUNDS = 50
"""However precise the medians are: the intervals of k and h come from how the machine's speed wanders over the run."""
DISTURBED = 1.2
"""A control that took this many times the quiet level was disturbed."""
QUIET_QUANTILE = 0.25
"""Of all controls of a run: the quiet level."""
SLOWED = 0.05
"""A median of the last third this far above that of the first third is worth a notice."""


class Timer(Protocol):
    """Seconds of each of several successive calls of a step."""

    def durations(self, step: Step, count: int) -> list[float]:
        """Call the step `count` times."""


class CpuTimer:
    """Wall time around each call."""

    def durations(self, step: Step, count: int) -> list[float]:
        """Call the step `count` times; seconds of each."""
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        return seconds


def cpu_control() -> float:
    """Seconds of a fixed piece of work of about half a millisecond that has nothing to do with any step."""
    start, total = time.perf_counter(), 0
    for number in range(20_000):
        total += number
    return time.perf_counter() - start


class CudaTimer:
    """CUDA events around each step, read after one synchronisation."""

    def durations(self, step: Step, count: int) -> list[float]:
        """Call the step `count` times; seconds of each on the device."""
        import torch

        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        torch.cuda.synchronize()
        return [a.elapsed_time(b) / 1e3 for a, b in pairwise(events)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """When to stop.

    Attributes:
        precision: half-width of the median's 95 % interval, relative, at which it is known well enough.
        max_seconds: for all sampling together.
        seed: of the order of visits.
    """

    precision: float = 0.01
    max_seconds: float = 120.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """The calls at one batch size before sampling, kept apart.

    Attributes:
        first_s: the first call, which compiles, allocates and loads.
        calls: how many there were, the first one included.
        settled: three successive medians agreed; else the cap was reached.
        step_s: the last median.
    """

    first_s: float
    calls: int
    settled: bool
    step_s: float


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Successive steps at one batch size.

    Attributes:
        round: number of the round, from 0.
        batch: images.
        durations_s: of each step.
        control_s: the slower of the controls before and after; None where there are none.
    """

    round: int
    batch: int
    durations_s: list[float]
    control_s: float | None = None


@dataclass
class Samples:
    """All visits so far, and why sampling ended.

    Attributes:
        visits: in the order in which they were made.
        stopped_by: "precision" or "time"; None while sampling.
    """

    visits: list[Visit] = field(default_factory=list)
    stopped_by: str | None = None

    def durations(self, batch: int) -> Floats:
        """Every duration at a batch size that counts, in order; seconds."""
        return np.concatenate(self._counted([visit for visit in self.visits if visit.batch == batch]))

    def by_visit(self) -> dict[int, list[list[float]]]:
        """Batch size -> the durations of each visit that counts."""
        sizes = sorted({visit.batch for visit in self.visits})
        return {size: self._counted([visit for visit in self.visits if visit.batch == size]) for size in sizes}

    def disturbed(self) -> list[bool]:
        """Whether other load slowed the machine around each visit."""
        most = self._most_control_s
        return [(visit.control_s or 0) > most for visit in self.visits]

    @property
    def _most_control_s(self) -> float:
        """The slowest control that passes for quiet."""
        controls = [visit.control_s for visit in self.visits if visit.control_s is not None]
        return DISTURBED * float(np.quantile(controls, QUIET_QUANTILE)) if controls else np.inf

    def _counted(self, visits: Sequence[Visit]) -> list[list[float]]:
        """The durations of the undisturbed visits; of all where there is none."""
        most = self._most_control_s
        quiet = [visit.durations_s for visit in visits if (visit.control_s or 0) <= most]
        return quiet or [visit.durations_s for visit in visits]


def warm_up(timer: Timer, step: Step, most_s: float = np.inf) -> WarmUp:
    """Call a step until three successive block medians agree, or a cap of calls or of seconds."""
    (first,) = timer.durations(step, 1)
    medians: list[float] = []
    spent_s, block = first, 1 if first > most_s / 10 else WARM_UP_BLOCK
    for _ in range(WARM_UP_BLOCKS):
        seconds = timer.durations(step, block)
        medians.append(float(np.median(seconds)))
        spent_s += sum(seconds)
        if _agree(medians[-3:]) or spent_s > most_s:
            break
    settled = _agree(medians[-3:])
    return WarmUp(first_s=first, calls=1 + block * len(medians), settled=settled, step_s=medians[-1])


def sample(
    timer: Timer,
    steps: Mapping[int, Step],
    step_s: Mapping[int, float],
    settings: Settings,
    done: Sequence[Visit] = (),
    control: Callable[[], float] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Visit]:
    """Visit batch sizes in shuffled rounds; yields every visit as it ends.

    Args:
        timer: how to time a step.
        steps: batch size -> its step.
        step_s: batch size -> about how long one takes, for the length of the visits.
        settings: when to stop.
        done: visits of an earlier, interrupted run: they count.
        control: runs the control and returns its seconds; None for none.
        clock: seconds; for tests.
    """
    samples = Samples(list(done))
    start = clock()
    first_round = 1 + max((visit.round for visit in done), default=-1)
    rng = np.random.default_rng([settings.seed, first_round])
    before = control() if control else None
    count = max(1, round(VISIT_S / float(np.mean(list(step_s.values())))))
    for number in range(first_round, 1_000_000):
        for batch in rng.permutation(sorted(steps)).tolist():
            if clock() - start > settings.max_seconds and number - first_round >= 1:
                return
            durations = timer.durations(steps[batch], count)
            after = control() if control else None
            slower = max(before, after) if before is not None and after is not None else None
            before = after
            visit = Visit(round=number, batch=batch, durations_s=durations, control_s=slower)
            samples.visits.append(visit)
            yield visit
        if number + 1 >= LEAST_ROUNDS and precise(samples, settings.precision):
            return


def precise(samples: Samples, precision: float) -> bool:
    """Whether the median of every batch size is known well enough."""
    return all(relative_half_width(samples.durations(batch)) <= precision for batch in samples.by_visit())


def relative_half_width(durations_s: Floats) -> float:
    """Half the width of the median's interval over the median; infinite below six samples."""
    low, high = median_interval(durations_s)
    return (high - low) / 2 / float(np.median(durations_s))


def median_interval(durations_s: Floats) -> tuple[float, float]:
    """The distribution-free 95 % interval of the median: order statistics n/2 -+ 0.98 sqrt(n).

    Infinite below six samples, where no two order statistics hold the median that often.
    """
    n = durations_s.size
    if n < 6:
        return 0.0, float("inf")
    ordered = np.sort(durations_s)
    reach = 0.98 * np.sqrt(n)
    low, high = max(0, int(np.floor(n / 2 - reach))), min(n - 1, int(np.ceil(n / 2 + reach)))
    return float(ordered[low]), float(ordered[high])


def slowed(durations_s: Floats) -> float | None:
    """By how much, relative, the last third is slower than the first; None where it is not worth a notice."""
    third = durations_s.size // 3
    if third < 6:
        return None
    first, last = durations_s[:third], durations_s[-third:]
    rise = float(np.median(last) / np.median(first)) - 1
    apart = median_interval(last)[0] > median_interval(first)[1]
    return rise if rise > SLOWED and apart else None


def _agree(medians: Sequence[float]) -> bool:
    return len(medians) == 3 and max(medians) <= (1 + WARM_UP_AGREEMENT) * min(medians)

"""How long a step takes: timers, warm-up, and sampling until the medians are known well enough.

A *visit* is a few successive steps at one batch size. A *round* visits every batch size once, in a new random
order. Rounds follow each other until all medians are known well enough or the time is up. All batch sizes thus share
whatever the machine's speed does meanwhile: a drift moves all medians alike and does not look like a slope.

A processor that is shared with others (that of a virtual machine, above all) slows by half for a tenth of a second to
seconds at a time. A fixed piece of other work, the *control*, is timed before and after each visit. A visit beside a
slow control is *disturbed*: it is kept and marked, but left out of the medians. Only the control decides this, never
the timed steps themselves, so that leaving out visits does not favour fast steps.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from ..common.arrays import Floats

Step = Callable[[], object]

WARM_UP_BLOCK = 3
"""Calls between two looks at whether the warm-up has settled."""
WARM_UP_AGREEMENT = 0.05
"""Relative distance within which three successive block medians count as settled."""
WARM_UP_BLOCKS = 20
"""Most blocks of a warm-up."""
VISIT_S = 0.03
"""Average seconds of a visit; all visits have the same number of steps, so that all medians get precise."""
LEAST_ROUNDS = 50
"""Rounds that are made however precise the medians are: the intervals of k and h follow from how the machine's speed
wanders over the run."""
DISTURBED = 1.2
"""A control that took this many times the quiet level was disturbed."""
QUIET_QUANTILE = 0.25
"""Quantile of all controls of a run that counts as the quiet level."""
SLOWED = 0.05
"""Relative rise from the median of the first third of the samples to that of the last third that is worth a notice."""


class Timer(Protocol):
    """A way to time successive calls of a step."""

    def durations(self, step: Step, count: int) -> list[float]:
        """Call the step `count` times; returns the seconds of each call."""


class CpuTimer:
    """A timer that reads the wall clock around each call."""

    def durations(self, step: Step, count: int) -> list[float]:
        """Call the step `count` times; returns the seconds of each call."""
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        return seconds


def cpu_control() -> float:
    """Seconds that a fixed piece of work takes: about half a millisecond, and nothing to do with any step."""
    start, total = time.perf_counter(), 0
    for number in range(20_000):
        total += number
    return time.perf_counter() - start


@dataclass(frozen=True)
class EventTimer:
    """A timer that records events of a device around each step and reads them after one synchronisation.

    Attributes:
        event: function that makes an event which keeps the device's time.
        synchronize: function that waits until the device has done all its work.
    """

    event: Callable[[], Any]
    synchronize: Callable[[], None]

    def durations(self, step: Step, count: int) -> list[float]:
        """Call the step `count` times; returns the seconds of each call on the device."""
        events = [self.event() for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        self.synchronize()
        return [a.elapsed_time(b) / 1e3 for a, b in pairwise(events)]


@dataclass(frozen=True, kw_only=True)
class TimingSettings:
    """When sampling stops, and in which order it visits the batch sizes.

    Attributes:
        precision: relative half-width of a median's 95 % interval at which the median is known well enough.
        max_seconds: longest time for all sampling together, seconds.
        seed: seed of the random order of the visits.
    """

    precision: float = 0.01
    max_seconds: float = 120.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """The calls at one batch size before sampling, kept apart from the samples.

    Attributes:
        first_s: duration of the first call, which compiles, allocates and loads, seconds.
        calls: number of calls, the first one included.
        settled: whether three successive medians agreed; if not, the warm-up ended at a cap.
        step_s: last median of a block of calls, seconds.
    """

    first_s: float
    calls: int
    settled: bool
    step_s: float


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Successive steps at one batch size.

    Attributes:
        round: number of the round, counted from 0.
        batch: images in a step.
        durations_s: duration of each step, seconds.
        control_s: duration of the slower of the two controls beside the visit, seconds; None without controls.
    """

    round: int
    batch: int
    durations_s: list[float]
    control_s: float | None = None


@dataclass
class Samples:
    """All visits so far, and why sampling ended.

    Attributes:
        visits: all visits, in the order in which they were made.
        stopped_by: reason why sampling ended, "precision" or "time"; None while it goes on.
    """

    visits: list[Visit] = field(default_factory=list)
    stopped_by: str | None = None

    def durations(self, batch: int) -> Floats:
        """The durations at a batch size that count, in the order of their visits; seconds."""
        return np.concatenate(self._counted([visit for visit in self.visits if visit.batch == batch]))

    def by_visit(self) -> dict[int, list[list[float]]]:
        """The visits that count: batch size -> visits -> seconds of each step."""
        sizes = sorted({visit.batch for visit in self.visits})
        return {size: self._counted([visit for visit in self.visits if visit.batch == size]) for size in sizes}

    def disturbed(self) -> list[bool]:
        """For each visit, whether other load slowed the machine around it."""
        most = self._most_control_s
        return [(visit.control_s or 0) > most for visit in self.visits]

    @property
    def _most_control_s(self) -> float:
        """Seconds of the slowest control that counts as quiet; infinite without controls."""
        controls = [visit.control_s for visit in self.visits if visit.control_s is not None]
        return DISTURBED * float(np.quantile(controls, QUIET_QUANTILE)) if controls else np.inf

    def _counted(self, visits: Sequence[Visit]) -> list[list[float]]:
        """The durations of the undisturbed visits, or of all visits where each was disturbed."""
        most = self._most_control_s
        quiet = [visit.durations_s for visit in visits if (visit.control_s or 0) <= most]
        return quiet or [visit.durations_s for visit in visits]


def warm_up(timer: Timer, step: Step, most_s: float = np.inf) -> WarmUp:
    """Call a step until three successive block medians agree, or until a cap of calls or of seconds is reached."""
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
    settings: TimingSettings,
    done: Sequence[Visit] = (),
    control: Callable[[], float] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Visit]:
    """Visit the batch sizes in shuffled rounds; yields every visit as it ends.

    Args:
        timer: how a step is timed.
        steps: batch size -> step.
        step_s: batch size -> rough duration of a step, seconds; the visits' number of steps follows from it.
        settings: when to stop.
        done: visits of an earlier run that was interrupted; they count.
        control: function that runs the control and returns its seconds; None for no control.
        clock: function that returns the time in seconds; tests replace it.
    """
    samples = Samples(list(done))
    start = clock()
    first_round = 1 + max((visit.round for visit in done), default=-1)
    rng = np.random.default_rng([settings.seed, first_round])
    count = max(1, round(VISIT_S / float(np.mean(list(step_s.values())))))
    before = control() if control else None
    for number in range(first_round, 1_000_000):
        for batch in rng.permutation(sorted(steps)).tolist():
            if clock() - start > settings.max_seconds and number - first_round >= 1:
                return
            durations = timer.durations(steps[batch], count)
            after = control() if control else None
            slower = max(before, after) if before is not None and after is not None else None
            before = after
            samples.visits.append(Visit(round=number, batch=batch, durations_s=durations, control_s=slower))
            yield samples.visits[-1]
        if number + 1 >= LEAST_ROUNDS and precise(samples, settings.precision):
            return


def precise(samples: Samples, precision: float) -> bool:
    """Whether the median at every batch size is known to this relative half-width."""
    return all(relative_half_width(samples.durations(batch)) <= precision for batch in samples.by_visit())


def relative_half_width(durations_s: Floats) -> float:
    """Half the width of the median's 95 % interval, divided by the median; infinite below six samples."""
    low, high = median_interval(durations_s)
    return (high - low) / 2 / float(np.median(durations_s))


def median_interval(durations_s: Floats) -> tuple[float, float]:
    """The 95 % interval of the median, whatever the distribution: order statistics number n/2 -+ 0.98 sqrt(n).

    It is infinite below six samples, where no two order statistics enclose the median that often.
    """
    n = durations_s.size
    if n < 6:
        return 0.0, float("inf")
    ordered = np.sort(durations_s)
    reach = 0.98 * np.sqrt(n)
    low, high = max(0, int(np.floor(n / 2 - reach))), min(n - 1, int(np.ceil(n / 2 + reach)))
    return float(ordered[low]), float(ordered[high])


def slowed(durations_s: Floats) -> float | None:
    """Relative rise from the first third of the durations to the last third; None where it is not worth a notice."""
    third = durations_s.size // 3
    if third < 6:
        return None
    first, last = durations_s[:third], durations_s[-third:]
    rise = float(np.median(last) / np.median(first)) - 1
    apart = median_interval(last)[0] > median_interval(first)[1]
    return rise if rise > SLOWED and apart else None


def _agree(medians: Sequence[float]) -> bool:
    return len(medians) == 3 and max(medians) <= (1 + WARM_UP_AGREEMENT) * min(medians)

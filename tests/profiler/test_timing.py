"""The timer against a fake clock and known noise."""

import numpy as np
import pytest

from edgesplit.fitting.latency import LatencyModel, fit_samples
from edgesplit.profiler.timing import (
    LEAST_ROUNDS,
    CpuTimer,
    Samples,
    TimingSettings,
    Visit,
    median_interval,
    precise,
    relative_half_width,
    sample,
    slowed,
    warm_up,
)


class FakeTime:
    """A clock that only the steps move, and a timer that reads it."""

    def __init__(self, noise=0.0, seed=0):
        self.now, self.noise, self.rng = 0.0, noise, np.random.default_rng(seed)
        self.calls = 0

    def clock(self):
        return self.now

    def durations(self, step, count):
        seconds = []
        for _ in range(count):
            self.calls += 1
            took = step() * float(np.exp(self.rng.normal(0, self.noise)))
            self.now += took
            seconds.append(took)
        return seconds


def run_sweep(time, latency, batches, settings, done=()):
    steps = {b: (lambda b=b: latency(b)) for b in batches}
    samples = Samples(list(done))
    for visit in sample(time, steps, {b: latency(b) for b in batches}, settings, done, clock=time.clock):
        samples.visits.append(visit)
    return samples


@pytest.mark.parametrize("count", [6, 7, 20, 101])
def test_interval_of_the_median_covers_the_truth_at_its_rate(count):
    rng = np.random.default_rng(count)
    hits = 0
    for _ in range(500):
        low, high = median_interval(np.exp(rng.normal(0, 0.3, count)))  # the median is 1
        hits += low <= 1 <= high
    assert hits >= 0.9 * 500


def test_interval_of_too_few_samples_is_infinite():
    assert median_interval(np.ones(5))[1] == np.inf
    assert relative_half_width(np.ones(5)) == np.inf


def test_sampling_stops_at_the_wanted_precision():
    time = FakeTime(noise=0.02)
    samples = run_sweep(
        time, LatencyModel(0.01, 0.02).step_latency, [1, 4, 8], TimingSettings(precision=0.01, max_seconds=1e9)
    )
    assert precise(samples, 0.01)
    earlier = Samples([visit for visit in samples.visits if visit.round < samples.visits[-1].round])
    assert not precise(earlier, 0.01) or samples.visits[-1].round == LEAST_ROUNDS - 1


def test_sampling_stops_when_the_time_is_up_and_every_batch_was_visited():
    time = FakeTime(noise=1.0)
    samples = run_sweep(
        time, LatencyModel(0.01, 0.02).step_latency, range(1, 9), TimingSettings(precision=1e-6, max_seconds=5)
    )
    assert 5 <= time.now < 6
    assert set(samples.by_visit()) == set(range(1, 9))
    hurried = run_sweep(FakeTime(), lambda b: 10.0 * b, [1, 2, 3], TimingSettings(max_seconds=1))
    assert sorted(visit.batch for visit in hurried.visits) == [1, 2, 3]


def test_rounds_visit_every_batch_once_in_changing_order():
    samples = run_sweep(FakeTime(noise=0.1), lambda b: 0.05, range(1, 7), TimingSettings(precision=0.02))
    rounds = {}
    for visit in samples.visits:
        rounds.setdefault(visit.round, []).append(visit.batch)
    whole = [order for order in rounds.values() if len(order) == 6]
    assert len(whole) >= 5
    assert all(sorted(order) == list(range(1, 7)) for order in whole)
    assert len(set(map(tuple, whole))) > 1


@pytest.mark.parametrize("seed", range(5))
def test_a_drift_during_the_run_does_not_pose_as_slope(seed):
    """The machine slows by 10 % over the run; k comes out as at its mean speed."""
    truth, total = LatencyModel(0.01, 0.03), 200.0
    time = FakeTime(noise=0.01, seed=seed)

    def drifting(batch):
        return float(truth.step_latency(batch)) * (0.95 + 0.1 * min(1, time.now / total))

    samples = run_sweep(time, drifting, range(1, 17), TimingSettings(precision=1e-9, max_seconds=total, seed=seed))
    assert fit_samples(samples.by_visit()).model.slope_s == pytest.approx(truth.slope_s, rel=0.01)


def test_visits_beside_a_slow_control_are_marked_and_left_out_of_the_medians():
    """Other load slows the machine by half in two of five seconds, so that plain medians would wander upwards."""
    time = FakeTime(noise=0.02)

    def slowdown():
        return 1.5 if time.now % 5 < 2 else 1.0

    def control():
        took = 0.0005 * slowdown()
        time.now += took
        return took

    samples = Samples()
    steps = {b: (lambda b=b: 0.01 * b * slowdown()) for b in (1, 2, 4)}
    settings = TimingSettings(precision=1e-9, max_seconds=60)
    for visit in sample(time, steps, {b: 0.01 * b for b in steps}, settings, (), control, time.clock):
        samples.visits.append(visit)
    share = np.mean(samples.disturbed())
    assert 0.25 < share < 0.5
    for batch, visits in samples.by_visit().items():
        assert np.median(samples.durations(batch)) == pytest.approx(0.01 * batch, rel=0.01)
        assert len(visits) < sum(visit.batch == batch for visit in samples.visits)
    everything = np.concatenate([visit.durations_s for visit in samples.visits if visit.batch == 1])
    assert np.quantile(everything, 0.75) > 0.014


def test_a_batch_size_that_was_always_disturbed_keeps_its_samples():
    quiet = [Visit(round=i, batch=1, durations_s=[1.0], control_s=1.0) for i in range(9)]
    loud = [Visit(round=i, batch=2, durations_s=[3.0], control_s=2.0) for i in range(3)]
    samples = Samples([*quiet, *loud])
    np.testing.assert_array_equal(samples.durations(2), [3, 3, 3])
    assert samples.disturbed() == [False] * 9 + [True] * 3


def test_a_step_that_slows_down_after_warm_up_is_noticed():
    time = FakeTime(noise=0.02)

    def throttled(batch):
        return 0.05 if time.now < 10 else 0.06

    samples = run_sweep(time, throttled, [1, 2], TimingSettings(precision=1e-9, max_seconds=20))
    assert slowed(samples.durations(1)) == pytest.approx(0.2, abs=0.05)
    steady = run_sweep(FakeTime(noise=0.02), lambda b: 0.05, [1, 2], TimingSettings(precision=1e-9, max_seconds=20))
    assert slowed(steady.durations(1)) is None


def test_warm_up_keeps_the_first_call_apart_and_waits_until_medians_agree():
    time = FakeTime()
    warm = warm_up(time, lambda: 5.0 if time.calls == 1 else 1.0 + 2.0 * 0.5**time.calls)
    assert warm.first_s == 5
    assert warm.settled
    assert warm.step_s == pytest.approx(1, rel=0.05)
    assert warm.calls == time.calls


def test_warm_up_that_never_settles_ends_at_the_cap():
    time = FakeTime()
    warm = warm_up(time, lambda: 1.5**time.calls)
    assert not warm.settled
    assert warm.calls == time.calls == 61


def test_warm_up_of_slow_steps_ends_when_its_time_is_up():
    time = FakeTime()
    warm = warm_up(time, lambda: 1.5**time.calls, most_s=20)
    assert not warm.settled
    assert warm.calls == time.calls < 10


def test_an_interrupted_run_goes_on_with_the_next_round():
    settings = TimingSettings(precision=0.01, max_seconds=1e9)
    whole = run_sweep(FakeTime(noise=0.05), lambda b: 0.1 * b, [1, 2], settings)
    resumed = run_sweep(FakeTime(noise=0.05), lambda b: 0.1 * b, [1, 2], settings, whole.visits[:6])
    assert resumed.visits[:6] == whole.visits[:6]
    assert resumed.visits[6].round == 1 + whole.visits[5].round


def test_cpu_timer_times_every_call():
    calls = []
    durations = CpuTimer().durations(lambda: calls.append(1), 7)
    assert len(calls) == len(durations) == 7
    assert all(seconds >= 0 for seconds in durations)


def test_samples_keep_their_order():
    samples = Samples([Visit(round=0, batch=2, durations_s=[1.0, 2.0]), Visit(round=1, batch=2, durations_s=[3.0])])
    np.testing.assert_array_equal(samples.durations(2), [1, 2, 3])

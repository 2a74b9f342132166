"""Minutes of a trace as worlds: its requests at the load that was asked for, and nothing of other days."""

import numpy as np
import pytest

from edgesplit.common.errors import InputError
from edgesplit.service.learn.judging import main
from edgesplit.service.learn.training import windows_of
from edgesplit.service.learn.vector_simulation import VectorSimulation
from edgesplit.service.learn.windows import Windows
from edgesplit.service.traces import DAY_S

REQUESTS = 9000


@pytest.fixture
def trace(tmp_path):
    """Five made-up days with a quiet one among them, some users, own numbers of steps, and patience."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.choice([0, 1, 3, 4], REQUESTS) * DAY_S + rng.uniform(0, DAY_S, REQUESTS))
    rows = [f"{time_s:.0f},u{rng.integers(40)},30,9\n" for time_s in times]
    path = tmp_path / "trace.csv"
    path.write_text("time_s,user_id,total_steps,patience_s\n" + "".join(rows))
    return path


def test_the_minutes_hold_every_request_at_the_load_asked_for(trace):
    worlds = Windows(path=trace, load=3.0).worlds(seed=1)
    times = np.concatenate([world.requests.time_s for world in worlds])
    assert times.size == REQUESTS
    assert ((times >= 0) & (times < 60)).all()
    assert len(worlds) < 0.85 * REQUESTS / 3 / 60  # the quiet day has no world
    assert all(world.requests.own_steps is None for world in worlds)
    VectorSimulation(worlds)  # the twin can play them


def test_days_are_apart(trace):
    first, last = Windows(path=trace, load=3.0, last_day=2), Windows(path=trace, load=3.0, first_day=2)
    counts = [sum(len(world.requests) for world in windows.worlds(0)) for windows in (first, last)]
    assert sum(counts) == REQUESTS
    with pytest.raises(InputError, match="found 0 requests from day 7 to inf, accepted: two or more"):
        Windows(path=trace, load=3.0, first_day=7).worlds(0)


def test_equal_seeds_draw_equal_devices_and_gpus_and_others_do_not(trace):
    windows = Windows(path=trace, load=3.0, gpus_over_time="random:10,2,4,8")
    one, same, other = (windows.worlds(seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(one.step_latency_s, same.step_latency_s)
    assert one.gpus_over_time == same.gpus_over_time
    assert not np.array_equal(one.step_latency_s, other.step_latency_s)
    assert windows.worlds(1)[1].gpus_over_time != one.gpus_over_time


def test_a_user_of_the_trace_keeps_a_device_within_a_minute(trace):
    world = Windows(path=trace, load=12.0).worlds(0)[0]
    assert len(np.unique(world.requests.user)) < len(world.requests)


def test_a_trace_judges_and_teaches(trace, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["judging", "--worlds", "2", "--trace", str(trace), "--from-day", "3", "--only", "at 4/s, 8 GPUs"]
    )
    main()
    assert "trace at 4/s, 8 GPUs" in capsys.readouterr().out
    monkeypatch.setattr(
        "sys.argv", ["judging", "--trace", str(trace), "--from-day", "4.99", "--only", "at 12/s, 8 GPUs"]
    )
    with pytest.raises(InputError, match="trace at 12/s, 8 GPUs: found a single minute with requests"):
        main()
    kinds = windows_of(trace, 2.0)
    assert [kind.load for kind in kinds] == [2, 4, 8, 12] * 2
    assert str(kinds[-1]) == "trace.csv from day 0 to 2 at 12/s, random:10,2,4,8"

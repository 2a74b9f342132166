"""Arrivals: what a process draws, and how a table of requests is read or refused."""

import numpy as np
import pytest

from edgesplit.common.errors import InputError
from edgesplit.optimizer.inputs.scenario import load_scenario
from edgesplit.service.arrivals import (
    MovingGpus,
    draw_requests,
    parse_gpus,
    parse_process,
    read_trace,
    users_of_trace,
)

SCENARIO = load_scenario()


def trace(tmp_path, text, **options):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return read_trace(path, SCENARIO, **options)


def test_a_poisson_process_has_its_rate_and_exponential_gaps():
    times = parse_process("poisson:8").times(5000, np.random.default_rng(0))
    gaps = np.diff(times)
    assert times.size == pytest.approx(40_000, rel=0.02)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1, rel=0.02)
    assert times.min() >= 0
    assert times.max() < 5000


def test_bursts_change_between_both_rates():
    process = parse_process("bursts:1,9,50")
    times = process.times(20_000, np.random.default_rng(1))
    each, _ = np.histogram(times, np.arange(0, 20_001, 10))
    assert process.mean_rate == 5
    assert times.size == pytest.approx(100_000, rel=0.1)
    assert np.std(each) > 3 * np.sqrt(np.mean(each))  # far more than a Poisson process of the mean rate
    assert np.all(np.diff(times) >= 0)


def test_users_are_drawn_with_replacement():
    drawn = draw_requests(parse_process("poisson:9"), 500, 7, np.random.default_rng(2))
    assert set(drawn.user) == set(range(7))
    assert np.all(np.isinf(drawn.patience_s))


@pytest.mark.parametrize(
    "text",
    ["poisson:", "poisson:-1", "poisson:nan", "poisson:inf", "poisson:0", "bursts:1,2", "bursts:1,2,0", "poisson:1,2"],
)
def test_a_process_with_wrong_numbers_is_refused(text):
    with pytest.raises(InputError, match="--arrivals: found"):
        parse_process(text)


def test_more_requests_than_memory_holds_are_refused():
    with pytest.raises(InputError, match="20,000,000 at most"):
        draw_requests(parse_process("poisson:1e9"), 60, 1, np.random.default_rng(0))


def test_a_row_with_several_images_is_several_requests(tmp_path):
    read = trace(tmp_path, "time_s,user_id,images,total_steps,patience_s\n0,ada,2,,\n1.5,ben,,30,9\n").requests
    assert read.time_s.tolist() == [0, 0, 1.5]
    assert read.user.tolist() == [0, 0, 1]
    assert read.own_steps.tolist() == [200, 200, 30]
    assert read.patience_s.tolist() == [np.inf, np.inf, 9]


def test_speed_up_compresses_time_alone(tmp_path):
    text = "time_s,patience_s\n0,3\n100,4\n"
    read = trace(tmp_path, text, speed_up=10.0).requests
    assert read.time_s.tolist() == [0, 10]
    assert read.patience_s.tolist() == [3, 4]


def test_users_of_a_trace_are_those_of_the_file_by_name_or_drawn_once(tmp_path):
    read = trace(tmp_path, "time_s,user_id\n0,zoe\n1,ben\n2,zoe\n3,kim\n4,kim\n")
    mapped = users_of_trace(read, ["ada", "ben", "cleo"], 3, np.random.default_rng(3)).user
    assert mapped[1] == 1
    assert mapped[0] == mapped[2]
    assert mapped[3] == mapped[4]
    assert set(mapped) <= {0, 1, 2}


def test_a_trace_may_name_devices(tmp_path):
    read = trace(tmp_path, "time_s,device,emphasis,images\n0,rtx-3060,0.2,2\n1,RTX 4090,,\n")
    assert len(read.own) == 2
    assert read.requests.user.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "time_s\n5\n3\n",
            "row 2 (line 3), column 'time_s': found '3', accepted: the time of the row before, or later",
        ),
        ("time_s\n-1\n", "found '-1'"),
        ("time_s\n\n", "no rows below the header"),
        ("time_s,images\n0,0\n", "found '0', accepted: a whole number from 1"),
        ("time_s,images\n0,1.5\n", "found '1.5'"),
        ("time_s,total_steps\n0,0\n", "column 'total_steps': found '0'"),
        ("time_s,patience_s\n0,-2\n", "column 'patience_s': found '-2'"),
        ("time_s,device\n0,no-such-card\n", "no-such-card"),
        ("when\n0\n", "unknown column 'when'"),
        ("user_id\nada\n", "'time_s' is missing"),
        ("time_s\nnan\n", "found nothing"),
    ],
)
def test_a_trace_that_is_none_is_refused(tmp_path, text, said):
    with pytest.raises(InputError) as refusal:
        trace(tmp_path, text)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_gpus_over_time_from_a_table_or_at_random(tmp_path):
    path = tmp_path / "gpus.csv"
    path.write_text("time_s,gpus\n0,4\n2.5,0\n7,8\n")
    assert parse_gpus(str(path)) == [(0.0, 4), (2.5, 0), (7.0, 8)]
    moving = parse_gpus("random:10,2,4,8")
    assert moving == MovingGpus(10.0, (2, 4, 8))
    changes = moving.changes(10_000, np.random.default_rng(0))
    times, gpus = zip(*changes, strict=True)
    assert times[0] == 0
    assert np.mean(np.diff(times)) == pytest.approx(10, rel=0.1)
    assert set(gpus) == {2, 4, 8}


@pytest.mark.parametrize("text", ["random:10", "random:0,2", "random:10,2.5", "random:10,-1", "random:"])
def test_gpus_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="--gpus-over-time: found"):
        parse_gpus(text)


@pytest.mark.parametrize(
    "text", ["time_s,gpus\n0,-1\n", "time_s,gpus\n0,\n", "time_s,gpus\n3,1\n2,1\n", "time_s\n0\n", "time_s,gpus\n"]
)
def test_a_table_of_gpus_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "gpus.csv"
    path.write_text(text)
    with pytest.raises(InputError):
        parse_gpus(str(path))

"""Two runs of one command at once, and kills at any moment: nothing is lost, mixed or left behind."""

import json
import os
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from commands import BIN, MINUTES
from models import save_finished_cohort

from edgesplit.common.files import read_record
from edgesplit.fitting.schemas import LatencyProfile

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "EDGESPLIT_DEBUG": "1"}
PROMPTS = "a photo of {subject} in snow\na photo of dog at night\n"
PAIRS, KILLS = 20, 30
CACHE = ".digests.json"
"""What a sweep keeps of its models' files."""
pytestmark = pytest.mark.slow


def start(*arguments):
    return subprocess.Popen(
        [BIN / arguments[0], *map(str, arguments[1:])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def finished(process):
    """Exit code and talk of a process, once it has ended."""
    try:
        _, talk = process.communicate(timeout=5 * MINUTES)
    finally:
        process.kill()
    return process.returncode, talk


def bench(folder):
    return (
        "hwprof", "bench", "--device", "cpu", "--model", "tiny", "--batches", "1,2", "--max-seconds", "2",
        "--precision", "1e-9", "-o", folder / "profile.json",
    )  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    save_finished_cohort(folder / "cohort")
    (folder / "prompts.txt").write_text(PROMPTS)
    return folder


def sweep(cohort, folder):
    return (
        "pai-sweep", "--cohort", cohort / "cohort", "--prompts", cohort / "prompts.txt", "--steps", "6", "--splits",
        "0,2,4,N", "--seeds", "4", "--batch", "1", "--device", "cpu", "--kappa", "3", "-o", folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(cohort, tmp_path_factory):
    """The table of a sweep that nobody has interrupted."""
    folder = tmp_path_factory.mktemp("measured")
    code, talk = finished(start(*sweep(cohort, folder)))
    assert code == 0, talk
    return pd.read_parquet(folder / "measurements.parquet")


def left_behind(folder):
    """Files that no finished run leaves."""
    hidden = [path for path in folder.rglob(".*") if path.name != CACHE]
    return [*hidden, *folder.rglob("*-wal"), *folder.rglob("*-shm")]


def check_pair(command):
    runs = [finished(process) for process in [start(*command), start(*command)]]
    codes, talks = [code for code, _ in runs], [talk for _, talk in runs]
    if codes == [0, 0]:  # one had ended before the other one began to work
        assert any("everything is measured already" in talk for talk in talks), talks
        return False
    assert sorted(codes) == [0, 2], talks
    refusal = talks[codes.index(2)].splitlines()[-1]
    assert f"another {' '.join(command[: 1 + (command[0] == 'hwprof')])} is at work here" in refusal
    return True


def test_of_two_benches_at_once_one_works_and_one_says_so(tmp_path):
    for number in range(PAIRS):
        (tmp_path / str(number)).mkdir()
        assert check_pair(bench(tmp_path / str(number)))
        profile = read_record(tmp_path / str(number) / "profile.json", LatencyProfile)
        rounds = [visit["round"] for visit in profile.telemetry["visits"]]
        assert rounds == sorted(rounds)
        assert left_behind(tmp_path) == []


def test_of_two_sweeps_at_once_one_works_and_one_says_so(cohort, measured, tmp_path):
    for number in range(PAIRS):
        check_pair(sweep(cohort, tmp_path / str(number)))
        table = pd.read_parquet(tmp_path / str(number) / "measurements.parquet")
        pd.testing.assert_frame_equal(table, measured, check_exact=True)
        assert left_behind(tmp_path) == []


def killed(command, seconds):
    """Start a command and kill it after so many seconds; returns its exit code."""
    process = start(*command)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode


def test_a_bench_killed_at_any_moment_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    whole_s = None
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        command, begun = bench(folder), time.monotonic()
        if whole_s is not None:
            killed(command, rng.uniform(0.3, 1.0) * whole_s)
        journal, kept = folder / "profile.journal.jsonl", []
        if journal.exists():
            lines = [line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
            kept = [json.loads(line)["visit"]["control_s"] for line in lines if '"visit"' in line]
        begun = time.monotonic()
        code, talk = finished(start(*command))
        whole_s = whole_s or time.monotonic() - begun
        assert code == 0, talk
        visits = read_record(folder / "profile.json", LatencyProfile).telemetry["visits"]
        assert [visit["control_s"] for visit in visits][: len(kept)] == kept
        assert sorted(path.name for path in folder.iterdir()) == ["profile.json", "profile.png", "profile.svg"]


def test_a_sweep_killed_at_any_moment_goes_on(cohort, measured, tmp_path):
    rng = np.random.default_rng(0)
    begun = time.monotonic()
    assert finished(start(*sweep(cohort, tmp_path / "first")))[0] == 0
    whole_s = time.monotonic() - begun
    for number in range(KILLS):
        command = sweep(cohort, tmp_path / str(number))
        killed(command, rng.uniform(0.3, 1.0) * whole_s)
        code, talk = finished(start(*command))
        assert code == 0, talk
        assert "damaged" not in talk
        table = pd.read_parquet(tmp_path / str(number) / "measurements.parquet")
        pd.testing.assert_frame_equal(table, measured, check_exact=True)
        assert left_behind(tmp_path) == []

"""`hwprof bench` on GPUs that are not there, from its options to its profile."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgesplit import data
from edgesplit.common.files import read_record
from edgesplit.fitting.schemas import LatencyProfile

PRETENDED = Path(__file__).parents[1] / "support" / "pretended_clock.py"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The profile of each kind of GPU, and how often its functions were called."""
    folder = tmp_path_factory.mktemp("profiles")
    options = ["--model", data.sample("toyworld/base"), "--dtype", "fp32", "--batches", "1,2", "--max-seconds", "0.3"]
    command = [sys.executable, PRETENDED, folder, *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stderr.splitlines()[-1])
    return {kind: (read_record(folder / f"{kind}.json", LatencyProfile), calls) for kind, calls in counts.items()}


@pytest.mark.parametrize(("kind", "device"), [("mps", "mps"), ("xpu", "xpu:0"), ("cuda", "cuda:0")])
def test_a_gpu_is_timed_by_its_own_events_and_nothing_meets_the_host_s_memory(measured, kind, device):
    profile, calls = measured[kind]
    assert [sample.batch for sample in profile.samples] == [1, 2]
    assert (profile.telemetry["workload"]["device"], profile.telemetry["threads"]) == (device, None)
    assert (profile.resolution, profile.decode_s > 0, profile.encode_s > 0) == (48, True, True)
    assert calls["synchronize"] >= len(profile.telemetry["visits"])


def test_memory_is_tried_and_freed_on_gpus_that_have_their_own(measured):
    tried = {kind: (profile.max_batch, calls["empty_cache"] > 0) for kind, (profile, calls) in measured.items()}
    assert tried == {"mps": (None, False), "xpu": (4, True), "cuda": (4, True)}


def test_profiles_bear_the_names_of_their_devices(measured):
    assert [measured[kind][0].device for kind in ("xpu", "cuda")] == ["Pretended xpu", "Pretended cuda"]

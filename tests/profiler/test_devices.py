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


@pytest.mark.parametrize(("kind", "tried"), [("mps", False), ("xpu", True), ("cuda", True)])
def test_a_gpu_is_measured_by_its_own_events_and_nothing_meets_the_host_s_memory(tmp_path, kind, tried):
    options = ["--model", data.sample("toyworld/base"), "--dtype", "fp32", "--batches", "1,2", "--max-seconds", "0.3"]
    command = [sys.executable, PRETENDED, kind, *options, "--no-guidance", "-o", tmp_path / "p.json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    profile = read_record(tmp_path / "p.json", LatencyProfile)
    assert [sample.batch for sample in profile.samples] == [1, 2]
    assert (profile.max_batch is not None) == tried
    assert profile.telemetry["workload"]["device"] == (kind if kind == "mps" else f"{kind}:0")
    assert profile.decode_s > 0
    assert profile.encode_s > 0
    if kind != "mps":
        assert profile.device == f"Pretended {kind}"
    synchronised, freed = result.stderr.splitlines()[-1].split(", ")
    assert int(synchronised.split()[1]) >= len(profile.telemetry["visits"])
    assert (freed != "freed 0") == tried
    assert json.loads((tmp_path / "p.json").read_text())["telemetry"]["threads"] is None

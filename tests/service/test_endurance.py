"""Ten minutes at full load: the memory of the server and of its model's process stays what it is."""

import json
import subprocess
import sys
import time

import pytest
from models import make_pipeline
from servers import PATIENCE_S, serve_process

MINUTES, MINUTE_S = 10, 60
MIB = 2**20


def sizes(process):
    """RSS of a server and of the largest of its processes, that with the model, in MiB."""
    children = [child.memory_info().rss for child in process.children(recursive=True)]
    return process.memory_info().rss / MIB, max(children) / MIB


@pytest.mark.slow
def test_ten_minutes_at_full_load_leave_the_memory_flat(tmp_path):
    """More than the edge can take, from open-loop devices that fetch and report; what a server knows of the requests
    of ten minutes is a kilobyte each."""
    make_pipeline(seed=0).save_pretrained(tmp_path / "cluster")
    with serve_process(tmp_path / "cluster", "--calls-per-s", "0") as (address, process):
        duration = MINUTES * MINUTE_S + 10
        options = ["--server", address, "--arrivals", "poisson:20", "--duration", duration, "--json"]
        command = [sys.executable, "-m", "edgesplit", "load", *map(str, options)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as load:
            try:
                rows = []
                for _ in range(MINUTES):
                    time.sleep(MINUTE_S)
                    rows.append(sizes(process))
                    print("server {:.1f} MiB, model {:.1f} MiB".format(*rows[-1]), flush=True)
                printed, _ = load.communicate(timeout=10 * PATIENCE_S)
            finally:
                load.kill()
        report = json.loads(printed)
        print({name: report[name] for name in ("requests", "granted", "denied", "fell_back", "lost")})
    assert report["lost"] == 0
    assert report["granted"] > 1000
    for before, after in zip(rows[0], rows[-1], strict=True):
        assert after - before < 16

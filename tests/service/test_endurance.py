"""Ten minutes at full load: the memory of the server and of its model's process stays what it is."""

import json
import re
import subprocess
import sys
import time

import httpx
import pytest
from models import make_pipeline
from servers import PATIENCE_S, serve_process

MINUTES, MINUTE_S = 10, 60
FULL = 5
"""Number, from 0 on, of the minute by which as many requests are forgotten as come."""
MIB = 2**20


def sizes(process):
    """RSS of a server and of the largest of its processes, that with the model, in MiB."""
    children = [child.memory_info().rss for child in process.children(recursive=True)]
    return process.memory_info().rss / MIB, max(children) / MIB


@pytest.mark.slow
def test_ten_minutes_at_full_load_leave_the_memory_flat(tmp_path):
    """Open-loop devices ask for more than the edge can take.

    Of each request the server keeps about a kilobyte for five minutes; from then on as many are forgotten as come.
    """
    make_pipeline(seed=0).save_pretrained(tmp_path / "cluster")
    users = tmp_path / "users.csv"  # who want help with whatever the edge can take
    users.write_text("user_id,step_latency_s,alpha\n" + "".join(f"u{i},{0.3 + 0.1 * i},0\n" for i in range(4)))
    with serve_process(tmp_path / "cluster", "--calls-per-s", "0") as (address, process):
        duration = MINUTES * MINUTE_S + 10
        options = ["--server", address, "--users", users, "--arrivals", "poisson:20", "--duration", duration, "--json"]
        command = [sys.executable, "-m", "edgesplit", "load", *map(str, options)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as load:
            try:
                rows = []
                for _ in range(MINUTES):
                    time.sleep(MINUTE_S)
                    rows.append(sizes(process))
                    print("server {:.1f} MiB, model {:.1f} MiB".format(*rows[-1]), flush=True)
                text = httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text
                granted = float(re.search(r'requests_total\{decision="granted"\} (\S+)', text)[1])
                printed, _ = load.communicate(timeout=10 * PATIENCE_S)
            finally:
                load.kill()
        report = json.loads(printed)
        print(
            f"{granted:.0f} granted within that time;",
            {name: report[name] for name in ("requests", "granted", "denied", "fell_back", "lost")},
        )
    assert report["lost"] == 0
    assert granted > 1000
    for before, after in zip(rows[FULL], rows[-1], strict=True):
        assert after - before < 16

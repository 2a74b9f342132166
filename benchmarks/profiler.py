"""Our timer against an independent one, and our intervals against a second run.

`python benchmarks/profiler.py`: against `torch.utils.benchmark.Timer`.

Both time the same steps in turns, so that they share whatever the machine does meanwhile. Prints both medians and
their ratio at each batch size; ends with an error where they differ by more than 3 % and our interval.

`python benchmarks/profiler.py 10`: ten pairs of whole `hwprof bench --device cpu --model tiny` runs, about ten minutes.
Prints k of each, the time it took, and how many pairs agree on k within the sum of their intervals.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.benchmark import Timer

from edgesplit.profiler.devices import event_timer
from edgesplit.profiler.timed_network import TimedNetwork
from edgesplit.profiler.timing import CpuTimer, relative_half_width, warm_up
from edgesplit.profiler.timing import Timer as OurTimer
from edgesplit.profiler.workload import Workload

BATCHES = (1, 2, 4, 8, 16)
TURNS = 80
MOST_OFF = 0.03


def medians(ours: OurTimer, step: Callable[[], object]) -> tuple[float, float, float]:
    """(our median, torch's median, half-width of our interval), the two timers taking turns."""
    threads = torch.get_num_threads()  # torch's timer would set it to one
    theirs = Timer("step()", globals={"step": step}, num_threads=threads)
    warm_up(ours, step)
    mine, others = [], []
    for turn in range(TURNS):
        for timer in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            if timer == "ours":
                mine += ours.durations(step, 3)
            else:
                others += [theirs.timeit(1).mean for _ in range(3)]
    return float(np.median(mine)), float(np.median(others)), relative_half_width(np.array(mine))


def whole_run(folder: Path) -> tuple[float, float, float, float]:
    """(k, its interval's ends in microseconds; seconds of the process) of one `hwprof bench` run."""
    path, start = folder / "profile.json", time.perf_counter()
    command = [Path(sys.executable).with_name("hwprof"), "bench", "--device", "cpu", "--model", "tiny", "-o", path]
    subprocess.run(command, check=True, capture_output=True)
    took, profile = time.perf_counter() - start, json.loads(path.read_text())
    low, high = profile["fit"]["slope_ci_s"]
    print(f"widest interval +-{profile['telemetry']['widest_interval']:.1%}, {took:.0f} s", end="; ")
    return 1e6 * profile["fit"]["slope_s"], 1e6 * low, 1e6 * high, took


def pairs(count: int) -> None:
    """Two runs in a row, so many times: do they agree on k?"""
    agreed = 0
    with TemporaryDirectory() as folder:
        for number in range(count):
            one, two = whole_run(Path(folder)), whole_run(Path(folder))
            agreed += abs(one[0] - two[0]) <= (one[2] - one[1] + two[2] - two[1]) / 2
            shown = " and ".join(f"{k:.1f} ({low:.1f} to {high:.1f})" for k, low, high, _ in (one, two))
            print(f"pair {number + 1}: k = {shown} us/image; {agreed} agreed", flush=True)


def main() -> None:
    """One row per batch size."""
    if len(sys.argv) > 1:
        pairs(int(sys.argv[1]))
        return
    gpu = torch.cuda.is_available()
    workload = Workload(model="sd15", device="cuda:0") if gpu else Workload(model="tiny", device="cpu", dtype="fp32")
    timed = TimedNetwork(workload)
    if not gpu:
        torch.set_num_threads(1)  # the tiny model is so small that more would only wait for each other
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("batch", "ours ms", "torch Timer ms", "ratio", "our interval"):
        table.add_column(heading, justify="right")
    off = []
    for batch in BATCHES:
        ours, theirs, width = medians(event_timer("cuda") if gpu else CpuTimer(), timed.make_step(batch))
        off.append(abs(ours / theirs - 1) - width)
        figures = [f"{1e3 * ours:.3f}", f"{1e3 * theirs:.3f}", f"{ours / theirs:.3f}", f"+-{width:.1%}"]
        table.add_row(str(batch), *figures)
    Console(width=100, highlight=False).print(table)
    if max(off) > MOST_OFF:
        sys.exit(f"the timers differ by {max(off):.1%} beyond the interval, more than {MOST_OFF:.0%}")


if __name__ == "__main__":
    main()

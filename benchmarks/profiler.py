"""Our timer against an independent one, `torch.utils.benchmark.Timer`: `python benchmarks/profiler.py`.

Both time the same steps in turns, so that they share whatever the machine does meanwhile. Prints both medians and
their ratio at each batch size; ends with an error where they differ by more than 3 % and our interval.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.benchmark import Timer

from edgesplit.profiler.timing import CpuTimer, CudaTimer, relative_half_width, warm_up
from edgesplit.profiler.workloads import Bench, Workload

BATCHES = (1, 2, 4, 8, 16)
TURNS = 80
MOST_OFF = 0.03


def medians(ours: CpuTimer | CudaTimer, step: Callable[[], object]) -> tuple[float, float, float]:
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


def main() -> None:
    """One row per batch size."""
    gpu = torch.cuda.is_available()
    workload = Workload(model="sd15", device="cuda:0") if gpu else Workload(model="tiny", device="cpu", dtype="fp32")
    bench = Bench(workload)
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("batch", "ours ms", "torch Timer ms", "ratio", "our interval"):
        table.add_column(heading, justify="right")
    off = []
    for batch in BATCHES:
        ours, theirs, width = medians(CudaTimer() if gpu else CpuTimer(), bench.make_step(batch))
        off.append(abs(ours / theirs - 1) - width)
        figures = [f"{1e3 * ours:.3f}", f"{1e3 * theirs:.3f}", f"{ours / theirs:.3f}", f"+-{width:.1%}"]
        table.add_row(str(batch), *figures)
    Console(width=100, highlight=False).print(table)
    if max(off) > MOST_OFF:
        sys.exit(f"the timers differ by {max(off):.1%} beyond the interval, more than {MOST_OFF:.0%}")


if __name__ == "__main__":
    main()

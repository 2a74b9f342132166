"""How many threads torch computes with on a CPU: the number with which a step is fastest, here and now.

More threads are not always faster: those of a small model mostly wait for each other, and on a machine where other
work has a core, all of them wait for the one that has none. So a step is timed before the work begins.
"""

import os
import time
from collections.abc import Callable, Sequence

import numpy as np

from ...common.console import say

EQUAL = 0.05
"""Relative difference between two durations below which they count as equal."""
HOPELESS = 1.5
"""A step that takes this many times the shortest duration so far will not get faster with fewer threads."""
REPEATS = 5
"""Most steps that are timed with each number of threads."""
PATIENCE_S = 0.5
"""Seconds after which no further step is timed with a number of threads."""
VARIABLE = "OMP_NUM_THREADS"
"""The environment variable with which a user sets the number of threads."""


def choose_threads(step_s: Callable[[int], float], most: int) -> int:
    """The number of threads with which a step is fastest; of several that are about as fast, the smallest.

    Args:
        step_s: function that runs a step with this number of threads and returns its seconds.
        most: largest number of threads to try.
    """
    if most < 2:
        return 1
    step_s(most)  # the first step of all allocates memory and starts the threads
    seconds: dict[int, float] = {}
    for threads in reversed(counts_up_to(most)):
        seconds[threads] = _typical(step_s, threads)
        if seconds[threads] > HOPELESS * min(seconds.values()):
            break
    return min(threads for threads, s in seconds.items() if s <= (1 + EQUAL) * min(seconds.values()))


def counts_up_to(most: int) -> Sequence[int]:
    """The numbers of threads that are tried, ascending: 1, 2, 3, 4, 6, 8, 12, 16 and so on, and the largest."""
    counts = sorted({factor << power for power in range(most.bit_length()) for factor in (1, 3)} | {most})
    return [count for count in counts if count <= most]


def fastest_threads(step: Callable[[], object], command: str) -> int:
    """Time a step with several numbers of threads, and let torch compute with the best one from now on.

    Where OMP_NUM_THREADS is set, its number is taken and nothing is timed.

    Args:
        step: function that runs a step on the CPU; it is called some ten times.
        command: name of the command, which says on stderr what was chosen.

    Returns:
        the number of threads.
    """
    import torch

    most = torch.get_num_threads()  # torch takes OMP_NUM_THREADS, or the number of cores
    if os.environ.get(VARIABLE):
        return most

    def step_s(threads: int) -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    threads = choose_threads(step_s, most)
    torch.set_num_threads(threads)
    if most > 1:
        plural = "thread" if threads == 1 else "threads"
        say(f"{command}: computes with {threads} CPU {plural} of {most}: a step is fastest so; {VARIABLE} sets another")
    return threads


def _typical(step_s: Callable[[int], float], threads: int) -> float:
    """The median duration of a few steps, fewer where they take long."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < REPEATS and sum(seconds) < PATIENCE_S):
        seconds.append(step_s(threads))
    return float(np.median(seconds))

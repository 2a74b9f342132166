"""The number of CPU threads of a training, kept for as long as it is unfinished: other numbers round differently."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from ...common.console import say
from ...common.errors import InputError
from ...common.files import read_text
from ..inference.threads import VARIABLE, fastest_threads
from .records import write_json


def keep_threads(path: Path, step: Callable[[], object], command: str) -> None:
    """Let torch compute with as many threads as an interrupted run had, or else with the fastest number.

    A number in OMP_NUM_THREADS is taken in any case.

    Args:
        path: file for the number; the caller removes it.
        step: function that runs a step on the CPU, to be timed.
        command: name of the command, which says on stderr what was chosen.
    """
    before = _kept(path)
    if before and not os.environ.get(VARIABLE):
        torch.set_num_threads(before)
        plural = "thread" if before == 1 else "threads"
        say(f"{command}: computes with {before} CPU {plural}, as the run that it goes on with; {VARIABLE} sets another")
    else:
        write_json(path, {"threads": fastest_threads(step, command)})


def _kept(path: Path) -> int:
    """The number in the file; 0 where there is none."""
    with suppress(InputError, ValueError, KeyError, TypeError):
        threads = json.loads(read_text(path))["threads"]
        if type(threads) is int and 1 <= threads <= (os.cpu_count() or 1):
            return threads
    return 0

"""The entry points of the commands: they listen to Ctrl-C before anything slow is imported."""

import os
import signal
import sys
from importlib import import_module
from types import FrameType

INTERRUPTED = 130


def edgesplit() -> None:
    """Run `edgesplit`."""
    _start("edgesplit", "cli", "main")


def plan() -> None:
    """Run `plan`."""
    _start("plan", "optimizer.cli", "main")


def reproduce() -> None:
    """Run `reproduce`."""
    _start("reproduce", "reports.cli", "main")


def hwprof() -> None:
    """Run `hwprof`."""
    _start("hwprof", "profiler.cli", "main")


def pai_sweep() -> None:
    """Run `pai-sweep`."""
    _start("pai-sweep", "metrics.cli", "main")


def hybrid() -> None:
    """Run `hybrid`."""
    _start("hybrid", "diffusion.cli", "hybrid_main")


def dreambooth() -> None:
    """Run `dreambooth`."""
    _start("dreambooth", "diffusion.cli", "dreambooth_main")


def _start(command: str, module: str, function: str) -> None:
    """Run a command; while its module is imported, and once it is done, Ctrl-C ends the process at once."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.stderr.write(f"{command}: interrupted\n")
        sys.stderr.flush()
        os._exit(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    heard = before is signal.default_int_handler  # a command in the background of a script ignores it
    if heard:
        signal.signal(signal.SIGINT, leave)
    try:
        main = vars(import_module(f"edgesplit.{module}"))[function]
    finally:
        if heard:
            signal.signal(signal.SIGINT, before)
    try:
        main()
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to interrupt but Python's own exit

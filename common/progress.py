"""How far a long command is: a bar on a terminal, a line now and then where stderr goes elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from .console import say

if TYPE_CHECKING:
    from rich.console import Console

LINES = 10
"""Parts of the work, each of which has its line where there is no terminal."""
LONGEST_SILENCE_S = 60.0
"""Seconds without a line after which the next step has one, so that slow work does not look dead."""


class Progress(Protocol):
    """Says how far the work is."""

    def __call__(self, completed: float, text: str = "", /) -> None:
        """Note that `completed` of the total is done, and what is under way."""


def live_terminal() -> "Console | None":
    """The terminal on stderr; None for a pipe, whatever the colours, and for a terminal that draws nothing again."""
    from rich.console import Console

    terminal = Console(stderr=True, highlight=False)
    return terminal if sys.stderr.isatty() and not terminal.is_dumb_terminal else None


@contextmanager
def progress_bar(command: str, total: float, unit: str) -> Iterator[Progress]:
    """Show progress on stderr while a command works.

    Args:
        command: whose work it is; every line begins with it.
        total: amount of work, in `unit`.
        unit: plural noun, such as "pictures".
    """
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    terminal = live_terminal()
    if terminal is None:
        yield _Lines(command, total, unit)
        return
    counts = TextColumn(f"{{task.completed:.0f}}/{{task.total:.0f}} {unit}")
    columns = (TextColumn(command), BarColumn(bar_width=20), counts, TextColumn("{task.description}"))
    with Bar(*columns, TimeRemainingColumn(), console=terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda completed, text="": bar.update(task, completed=completed, description=text)


class _Lines:
    """A line at the start, whenever another tenth of the work is done, and after a minute without one."""

    def __init__(self, command: str, total: float, unit: str) -> None:
        self.command, self.total, self.unit, self.tenth, self.said_s = command, total, unit, -1, 0.0

    def __call__(self, completed: float, text: str = "", /) -> None:
        tenth = int(LINES * completed // self.total) if self.total else LINES
        if tenth > self.tenth or time.monotonic() - self.said_s > LONGEST_SILENCE_S:
            said = f"{self.command}: {completed:.0f} of {self.total:.0f} {self.unit}"
            say(f"{said}, {text}" if text else said)
            self.said_s = time.monotonic()
        self.tenth = max(tenth, self.tenth)

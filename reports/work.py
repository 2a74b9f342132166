"""Working off an experiment's units in several processes, each unit's rows kept as soon as they are there."""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from ..common.database import one_line, open_results
from .experiments import Row, Unit, compute
from .setup import Setup

DATABASE, COMMAND = "results.sqlite", "reproduce"
TABLE = """
CREATE TABLE IF NOT EXISTS units (
    experiment TEXT, point INTEGER, number INTEGER, rows TEXT NOT NULL, PRIMARY KEY (experiment, point, number)
);
"""
CHUNK = 8
"""Units that a process takes at a time where there are many."""


class Results:
    """The rows of finished units, in a folder of one setup; one process at a time.

    Raises:
        InputError: for a folder of another setup, another process at work, a place that cannot be written.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.path = folder / DATABASE
        self._database: sqlite3.Connection = open_results(self.path, TABLE, facts, COMMAND)

    def missing(self, wanted: Iterable[Unit]) -> list[Unit]:
        """Those that are not there yet."""
        with one_line(self.path, COMMAND):
            found = set(self._database.execute("SELECT experiment, point, number FROM units"))
        return [unit for unit in wanted if tuple(unit) not in found]

    def add(self, unit: Unit, rows: list[Row]) -> None:
        """Keep the rows of a finished unit."""
        with one_line(self.path, COMMAND), self._database:
            self._database.execute("INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?)", [*unit, json.dumps(rows)])

    def table(self, experiment: str) -> pd.DataFrame:
        """All rows of an experiment, in the order of points and cases."""
        query = "SELECT rows FROM units WHERE experiment = ? ORDER BY point, number"
        with one_line(self.path, COMMAND):
            return pd.DataFrame(
                [row for (rows,) in self._database.execute(query, [experiment]) for row in json.loads(rows)]
            )

    def close(self) -> None:
        """Let other processes in."""
        self._database.close()


def work_off(setup: Setup, todo: list[Unit], workers: int) -> Iterator[tuple[Unit, list[Row]]]:
    """Compute units in several processes; results come in the order of the units."""
    if workers == 1 or len(todo) < 2:
        yield from ((unit, compute(setup, unit)) for unit in todo)
        return
    chunk = max(1, min(CHUNK, len(todo) // (4 * workers)))
    with _pool(workers) as pool:
        yield from zip(todo, pool.map(partial(compute, setup), todo, chunksize=chunk), strict=True)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_follow, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _follow(parent: int) -> None:
    """In a worker: leave interruption to the parent, and end when that is gone, killed without a word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Working off an experiment's units in several processes, each unit's rows kept as soon as they are there."""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import pandas as pd

from ..common.database import DATABASE, one_line, open_results
from .experiments import Row, Unit, compute
from .setup import Setup

COMMAND = "reproduce"
TABLE = """
CREATE TABLE IF NOT EXISTS units (
    experiment TEXT, point INTEGER, number INTEGER, rows TEXT NOT NULL, PRIMARY KEY (experiment, point, number)
);
"""


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

    def table(self, experiment: str, wanted: Collection[Unit]) -> pd.DataFrame:
        """The rows of those units of an experiment that are wanted, in the order of points and cases."""
        query = "SELECT point, number, rows FROM units WHERE experiment = ? ORDER BY point, number"
        with one_line(self.path, COMMAND):
            found = self._database.execute(query, [experiment])
            kept = [rows for point, number, rows in found if Unit(experiment, point, number) in wanted]
            return pd.DataFrame([row for rows in kept for row in json.loads(rows)])

    def close(self) -> None:
        """Let other processes in."""
        self._database.close()


def work_off(setup: Setup, todo: list[Unit], workers: int) -> Iterator[tuple[Unit, list[Row]]]:
    """Compute units in several processes; results come as they are finished, and at Ctrl-C no more."""
    if workers == 1 or len(todo) < 2:
        yield from ((unit, compute(setup, unit)) for unit in todo)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _follow, (os.getpid(),))
    try:
        with _interruptions_held():  # workers inherit it, so that they start in silence
            running = {pool.submit(compute, setup, unit): unit for unit in todo}
        for done in as_completed(running):
            yield running.pop(done), done.result()
    finally:
        for worker in active_children():  # at work, where this was interrupted
            worker.kill()
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _interruptions_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow(parent: int) -> None:
    """In a worker: leave interruption to the parent, and end when that is gone, killed without a word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

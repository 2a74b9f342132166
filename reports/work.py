"""Working off pieces of work in several processes; the rows of each piece are kept as soon as they are there."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pandas as pd

from ..common.console import say
from ..common.database import DATABASE, open_results
from ..common.files import make_folder
from ..common.interrupts import ctrl_c_waits
from ..common.progress import progress_bar
from ..common.result_table import ResultTable
from .basis.definitions import Unit
from .basis.scoring import Row
from .basis.setup import Setup
from .basis.unserved import planned_exactly
from .exhibits import EXPERIMENTS, compute, units

COMMAND = "reproduce"
LISTEN_S = 0.1
"""How often is looked whether Ctrl-C was pressed while nothing is finished, seconds."""
TABLE = ResultTable(
    name="units",
    columns={"experiment": "TEXT", "point": "INTEGER", "number": "INTEGER", "rows": "TEXT"},
    key=("experiment", "point", "number"),
)


class Results:
    """The rows of finished pieces of work, in a folder of one setup; one process at a time.

    Raises:
        InputError: for a folder of another setup, another process at work, a place that cannot be written.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self._results = open_results(folder / DATABASE, TABLE, facts, COMMAND)

    def missing(self, wanted: Iterable[Unit]) -> list[Unit]:
        """The wanted pieces that are not there yet."""
        finished = {row[:3] for row in self._results.rows()}
        return [unit for unit in wanted if tuple(unit) not in finished]

    def add(self, unit: Unit, rows: list[Row]) -> None:
        """Keep the rows of a finished piece."""
        self._results.add([(*unit, json.dumps(rows))])

    def table(self, experiment: str, wanted: Collection[Unit]) -> pd.DataFrame:
        """The rows of the wanted pieces of an experiment, in the order of points and cases."""
        finished = sorted(row for row in self._results.rows() if row[0] == experiment)
        kept = [rows for *unit, rows in finished if Unit(*unit) in wanted]
        return pd.DataFrame([row for rows in kept for row in json.loads(rows)])

    def close(self) -> None:
        """Let other processes in."""
        self._results.close()


class Refusals:
    """Says at the first case that the proposed method cannot plan what happens to such cases."""

    def __init__(self) -> None:
        self.noticed = False

    def look_at(self, rows: list[Row]) -> None:
        """Look for the first such case among the rows of a finished piece."""
        note = next((row["note"] for row in rows if planned_exactly(row.get("note", ""))), None)
        if note and not self.noticed:
            say(f"{COMMAND}: {note}, as all such cases are; the verdicts count them")
            self.noticed = True


def experiment_rows(setup: Setup, folder: Path, workers: int) -> dict[str, pd.DataFrame]:
    """The rows of every experiment by its name; what an earlier run finished is taken from the folder.

    Args:
        setup: numbers of the reproduction.
        folder: folder of the database.
        workers: number of processes.

    Raises:
        InputError: for a folder that cannot be used, and for an infeasible plan.
    """
    make_folder(folder)
    results = Results(folder, setup.facts())
    try:
        wanted = units(setup.size)
        todo = results.missing(wanted)
        done = len(wanted) - len(todo)
        if done:
            say(f"{COMMAND}: {done} of {len(wanted)} pieces are there already")
        refusals = Refusals()
        with progress_bar(COMMAND, len(wanted), "pieces") as progress:
            for count, (unit, rows) in enumerate(work_off(setup, todo, workers), start=done + 1):
                results.add(unit, rows)
                refusals.look_at(rows)
                progress(count, f"{unit.experiment} {unit.point}")
        kept = set(wanted)
        return {name: results.table(name, kept) for name in EXPERIMENTS}
    finally:
        results.close()


def work_off(setup: Setup, todo: list[Unit], workers: int) -> Iterator[tuple[Unit, list[Row]]]:
    """Compute pieces of work, and give the rows of each as soon as it is finished.

    Pieces that are measured alone come last. After an interruption nothing more is computed.
    """
    alone = [unit for unit in todo if EXPERIMENTS[unit.experiment].alone]
    together = [unit for unit in todo if not EXPERIMENTS[unit.experiment].alone]
    if workers == 1 or len(together) < 2:
        yield from ((unit, compute(setup, unit)) for unit in together)
    else:
        yield from _in_processes(setup, together, workers)
    yield from ((unit, compute(setup, unit)) for unit in alone)


def _in_processes(setup: Setup, todo: list[Unit], workers: int) -> Iterator[tuple[Unit, list[Row]]]:
    """The rows of pieces in the order in which they are finished; Ctrl-C waits until no process is left."""
    finished: SimpleQueue[Future[list[Row]]] = SimpleQueue()
    with ctrl_c_waits() as pressed:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _follow, (os.getpid(),))
        try:
            with _interruptions_held():  # workers inherit it, so that they start in silence
                running = {pool.submit(compute, setup, unit): unit for unit in todo}
            for future in running:
                future.add_done_callback(finished.put)
            for _ in todo:
                done = _next_of(finished, pressed)
                yield running.pop(done), done.result()
        finally:
            for worker in active_children():  # still at work, where this was interrupted
                worker.kill()
            pool.shutdown(cancel_futures=True)


def _next_of(finished: SimpleQueue[Future[list[Row]]], pressed: Callable[[], bool]) -> Future[list[Row]]:
    """The next piece that is finished; an interruption where Ctrl-C was pressed."""
    while not pressed():
        with suppress(Empty):
            return finished.get(timeout=LISTEN_S)
    raise KeyboardInterrupt


@contextmanager
def _interruptions_held() -> Iterator[None]:
    """Keep Ctrl-C back until the block has ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow(parent: int) -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent is gone, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Long commands, killed at any moment and run twice at once: nothing is lost, mixed or left behind."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from commands import MINUTES

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TRAIN = ("plan", "train", "--preset", "set", "--steps", "120", "--seeds", "10", "--instances", "2")
SIMULATE = ("simulate", "--arrivals", "poisson:4", "--rounds", "40", "--worlds", "3", "--compare", "blind,price")
TUNE = ("simulate", "tune", "--arrivals", "poisson:4", "--rounds", "40", "--worlds", "3", "--evaluations", "60")
REPRODUCE = (
    "reproduce", "--quick", "--cases", "2", "--population", "8", "--generations", "3", "--devices", "rtx-4090,rtx-3060",
)  # fmt: skip
COMMANDS = {"train": TRAIN, "simulate": SIMULATE, "tune": TUNE, "reproduce": REPRODUCE}
MEASURED = ("table1", "verdicts")
"""Files of `reproduce` that hold planning times."""
RESULTS = {
    "train": lambda folder: [(folder / "own-general.safetensors").read_bytes()],
    "simulate": lambda folder: [path.read_bytes() for path in sorted((folder / "requests").glob("*.parquet"))],
    "tune": lambda folder: [(folder / "prices.json").read_text().partition('"provenance"')[0]],
    "reproduce": lambda folder: {
        path.name: path.read_bytes()
        for kind in ("csv", "svg", "png")
        for path in folder.glob(f"*.{kind}")
        if path.stem not in MEASURED
    },
}
"""What a command leaves behind that does not depend on the time of day."""


def start(name, folder):
    output = folder / "prices.json" if name == "tune" else folder
    words = [sys.executable, "-m", "edgesplit", *COMMANDS[name], "-o", str(output)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    output, talk = process.communicate(timeout=10 * MINUTES)
    return process.returncode, talk, output


def left(folder):
    """Temporary files, locks, logs of databases, and databases that were damaged."""
    hidden = [path for path in folder.rglob(".*") if path.is_file() and path.suffix in (".tmp", ".lock")]
    return [*hidden, *(path for end in ("-wal", "-shm", ".damaged") for path in folder.rglob(f"*{end}"))]


def pieces(folder):
    """The pieces of work that are done, of a command that keeps them in a database."""
    path = folder / "results.sqlite"
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as database:
        made = database.execute("SELECT name FROM sqlite_master WHERE name = 'units'").fetchall()
        return set(database.execute("SELECT * FROM units").fetchall()) if made else set()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every command's results without a disturbance, and how long they take."""
    made = {}
    for name in COMMANDS:
        folder = tmp_path_factory.mktemp(name)
        began = time.monotonic()
        code, talk, _ = finished(start(name, folder))
        assert code == 0, talk
        made[name] = RESULTS[name](folder), time.monotonic() - began
    return made


@pytest.mark.parametrize("name", COMMANDS)
def test_thirty_kills_lose_nothing(whole, tmp_path, name):
    expected, seconds = whole[name]
    rng = np.random.default_rng(30)
    for number in range(30):
        folder = tmp_path / str(number // 5)  # several kills, one after another, on the same results
        kept, process = pieces(folder), start(name, folder)
        time.sleep(rng.uniform(0.2, 1.1 * seconds))
        process.kill()
        process.communicate(timeout=MINUTES)  # its workers end too
        assert pieces(folder) >= kept
        if number % 5 == 4:
            code, talk, _ = finished(start(name, folder))
            assert code == 0 or "is there already" in talk, talk  # it was done before it was killed
            assert RESULTS[name](folder) == expected
            assert left(folder) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_of_twenty_pairs_at_once_one_works_and_one_says_so(whole, tmp_path, name):
    expected, _ = whole[name]
    for number in range(20):
        folder = tmp_path / str(number)
        pair = [start(name, folder) for _ in range(2)]
        results = sorted(finished(process)[:2] for process in pair)
        codes = [code for code, _ in results]
        if codes == [0, 2]:
            assert "is at work here; wait for it" in results[1][1] or "is there already" in results[1][1], results
            assert results[1][1].count("\n") == 1
        else:  # one was done before the other began
            assert codes == [0, 0], results
        assert RESULTS[name](folder) == expected
        assert left(folder) == []

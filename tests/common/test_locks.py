"""One run at a time, whatever became of the one before."""

import subprocess
import sys

import pytest
from commands import MINUTES

from edgesplit.common.errors import InputError
from edgesplit.common.locks import only_run

HOLD = """
import sys, time
from pathlib import Path
from edgesplit.common.locks import only_run
with only_run(Path(sys.argv[1]), "work"):
    print("locked", flush=True)
    time.sleep(600)
"""


def hold(path):
    """A process that works on a result; returned once it has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_run_is_refused_and_a_third_works(tmp_path):
    result = tmp_path / "result"
    with only_run(result, "work"), pytest.raises(InputError, match="another work is at work here; wait for it"):
        only_run(result, "work").__enter__()
    with only_run(result, "work"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_result_is_not_locked(tmp_path):
    with only_run(tmp_path / "a", "work"), only_run(tmp_path / "b", "work"):
        pass


def test_a_killed_run_keeps_nobody_out_and_leaves_nothing_for_long(tmp_path):
    result = tmp_path / "result"
    with hold(result) as process:
        with pytest.raises(InputError, match="another work is at work"):
            only_run(result, "work").__enter__()
        process.kill()
        process.wait(5 * MINUTES)
    with only_run(result, "work"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_many_runs_at_once_work_one_after_another(tmp_path):
    """Each notes its start and end; no two overlap, though the lock's file comes and goes."""
    code = f"""
import time
from pathlib import Path
from edgesplit.common.errors import InputError
from edgesplit.common.locks import only_run
log, done = Path({str(tmp_path / "log")!r}), 0
while done < 20:
    try:
        with only_run(Path({str(tmp_path / "result")!r}), "work"):
            with log.open("a") as handle:
                handle.write("(")
                handle.flush()
                handle.write(")")
            done += 1
    except InputError:
        time.sleep(0.001)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(5 * MINUTES) for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "()" * 60


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make this folder|cannot write here"):
        only_run(tmp_path / "file" / "result", "work").__enter__()

"""`hybrid`, killed at any moment: no half-written picture, and nothing left behind by the next run."""

import os
import signal
import sys
import time
import warnings

import numpy as np
import pytest
from commands import MINUTES
from models import save_finished_cohort

from edgesplit.diffusion.cli import hybrid_main

pytestmark = pytest.mark.slow
KILLS = 30
PROMPTS = ("--prompt", "a photo of {subject} in snow", "--prompt", "a photo of {subject} at night")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return save_finished_cohort(tmp_path_factory.mktemp("finished"))


def options(cohort, folder):
    """Thirteen pictures of each of three users for each of two prompts, and the grid of them all."""
    splits = ("--steps", "12", "--local-steps", "0:12:1", "--device", "cpu")
    return [str(word) for word in ("--cohort", cohort, *PROMPTS, *splits, "-o", folder)]


def pictures_in(folder):
    return list(folder.glob("*.png"))


def files_of(folder):
    """The content of all files by name, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start(words):
    """Run the command in a copy of this process, which has imported all that it needs; its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of copies of processes with threads; one works here
        child = os.fork()
    if not child:
        try:
            signal.alarm(5 * MINUTES)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            sys.argv = ["hybrid", *words]
            hybrid_main()
        finally:
            os._exit(0)
    return child


@pytest.mark.usefixtures("one_thread")
def test_thirty_kills_leave_no_half_written_picture(cohort, tmp_path, command, monkeypatch):
    """A kill strikes within a moment after some number of pictures is there, however busy the machine is."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # it would choose another number
    code, _, talk = command(hybrid_main, *options(cohort, tmp_path / "whole"))
    assert code == 0, talk
    whole = files_of(tmp_path / "whole")
    rng, in_between = np.random.default_rng(0), 0
    for number in range(KILLS):
        folder, wanted = tmp_path / str(number), rng.integers(len(whole))
        child, until = start(options(cohort, folder)), time.monotonic() + 5 * MINUTES
        while len(pictures_in(folder)) < wanted and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        written = {path.name: path.read_bytes() for path in pictures_in(folder)}
        in_between += 0 < len(written) < len(whole)
        assert len(written) >= wanted
        assert written.items() <= whole.items()
        code, _, talk = command(hybrid_main, *options(cohort, folder))
        assert code == 0, talk
        assert files_of(folder) == whole
    assert in_between > KILLS // 2

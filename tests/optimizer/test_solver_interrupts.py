"""Ctrl-C while HiGHS solves: the thread of the solver ends first, as one left behind aborts the process at its exit."""

import signal
import threading

import highspy
import numpy as np
import pytest
from oracles import make_scenario, make_users

from edgesplit.optimizer.methods.ilp import ilp_joint

LARGE = make_scenario(), make_users(np.linspace(0.05, 0.5, 60), np.linspace(5.0, 60.0, 60))
"""A round for which the solver needs seconds."""


@pytest.mark.parametrize("step", ["startSolve", "wait"])
def test_a_solver_that_is_interrupted_leaves_no_thread_behind(step, monkeypatch):
    """However often Ctrl-C is pressed: just after the start, or while its end is waited for."""
    work = vars(highspy.Highs)[step]

    def work_and_press(self, *arguments):
        done = work(self, *arguments)
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(highspy.Highs, step, work_and_press)
    running = threading.active_count()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # scripts' background jobs ignore Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt):
            ilp_joint(*LARGE, time_limit_s=60.0)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert threading.active_count() == running

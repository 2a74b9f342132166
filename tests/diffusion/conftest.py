"""Commands in this process: their whole way from options to exit code, without the seconds that imports take."""

import gc
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import pytest
import torch


@pytest.fixture(scope="session")
def command():
    """Call it with an entry point and arguments; returns exit code, stdout and stderr."""

    def run(main, *arguments):
        argv, output, talk = ["command", *map(str, arguments)], io.StringIO(), io.StringIO()
        patched = mock.patch.object(sys, "argv", argv), mock.patch.dict("os.environ", COLUMNS="80")
        with patched[0], patched[1], redirect_stdout(output), redirect_stderr(talk), pytest.raises(SystemExit) as left:
            main()
        return left.value.code, output.getvalue(), talk.getvalue()

    return run


@pytest.fixture(scope="session")
def refusal(command):
    """Call it with an entry point and arguments; returns the one line of a refusal, having checked that it is one."""

    def run(main, *arguments):
        code, output, talk = command(main, *arguments)
        assert (code, output, talk.count("\n")) == (2, "", 1), talk
        return talk

    return run


@pytest.fixture(scope="session")
def imported():
    """All that `dreambooth` imports, which the garbage collections between its models then need not look through."""
    import edgesplit.diffusion.train.run  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def one_thread():
    """One thread: sums are added up in one order, and a copy of this process lacks no threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

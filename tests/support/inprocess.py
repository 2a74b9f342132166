"""Commands in this process: their whole way from options to exit code, without the seconds that imports take."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from unittest import mock

import pytest


@contextlib.contextmanager
def _ctrl_c_as_before():
    """Let pytest hear Ctrl-C again: a command leaves it to end the process, which it takes for its own."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_here(main, *arguments, cwd=".", **environment):
    """Call a command's entry point; returns what `commands.run` returns for the installed command."""
    with (
        _ctrl_c_as_before(),
        mock.patch.dict(os.environ, {"COLUMNS": "80"} | environment),
        mock.patch.object(sys, "argv", ["command", *map(str, arguments)]),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as talk,
        pytest.raises(SystemExit) as left,
    ):
        main()
    return subprocess.CompletedProcess(arguments, left.value.code, output.getvalue(), talk.getvalue())

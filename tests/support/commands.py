"""Running the commands as a user does: installed, or in this process where a process is not the point."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

from inprocess import run_here

BIN = Path(sys.executable).parent
SCRIPTS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
MINUTES = 60
"""Seconds of one; a busy machine gets several of them before a process counts as hanging."""


def run(command, *arguments, cwd=None, timeout=5 * MINUTES, **environment):
    """Run an installed command; returns the completed process with text output."""
    return subprocess.run(
        [BIN / command if (BIN / command).exists() else command, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"COLUMNS": "80"} | environment,
    )


def call(command, *arguments, cwd=".", **environment):
    """Run a command in this process; returns what `run` returns for the installed one."""
    module, _, function = SCRIPTS[command].partition(":")
    return run_here(vars(import_module(module))[function], *arguments, cwd=cwd, **environment)


def refused(result):
    """The one line that a refused command printed, having checked that it is one and exit code 2."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def call_root(*arguments, cwd=".", **environment):
    """Run `edgesplit ...` in this process; returns what `run` returns."""
    return call("edgesplit", *arguments, cwd=cwd, **environment)

"""Running the installed commands as a user does."""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def run(command, *arguments, cwd=None, timeout=60, **environment):
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


def refused(result):
    """The one line that a refused command printed, having checked that it is one and exit code 2."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr

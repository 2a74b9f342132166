"""The frame of every command: errors in one line with exit code 2, Ctrl-C in one line with 130."""

import contextlib
import errno
import io
import os
import sys
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from .errors import InputError

INTERRUPTED = 130
"""What Typer makes of Ctrl-C."""


def make_app(summary: str) -> typer.Typer:
    """A Typer application without boxes: its errors are printed by `run`."""
    return typer.Typer(help=summary, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command and leave the process with its exit code."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed by the caller
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the locale: user ids are UTF-8
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(_exit_code(app, name))


def say(message: str) -> None:
    """A word to the person at the terminal: one physical line on stderr."""
    line = " ".join(message.split())
    print("".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)


def _exit_code(app: typer.Typer, name: str) -> int:
    try:
        code = int(app(prog_name=name, standalone_mode=False) or 0)
        sys.stdout.flush()
        if code == INTERRUPTED:
            say(f"{name}: interrupted")
        return code
    except InputError as error:
        say(f"{name}: {error}")
        return 2
    except TyperException as error:
        say(f"{name}: {error.format_message().rstrip('.')}; see {name} --help")
        return 2
    except BrokenPipeError:  # the reader of our stdout has gone, e.g. `| head`
        _drop_stdout()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):  # files raise InputError, so this is stdout
            raise
        _drop_stdout()
        say(f"{name}: stdout: cannot write: {error.strerror}; send the output elsewhere")
        return 2


def _drop_stdout() -> None:
    """Let nothing more be written, so that Python's own flush at exit cannot fail."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

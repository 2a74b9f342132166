"""The frame of the commands: defects, interruptions, and what a terminal is told."""

import json
import logging
import os
import signal
import time
import warnings
import weakref
from typing import Annotated, Literal

import pytest
import typer
from inprocess import run_here

from edgesplit.common import console
from edgesplit.common.errors import printable
from edgesplit.optimizer.output import print_json


def command(act):
    """The entry point of a command that does one thing."""
    app = console.make_app("A command.")
    app.command()(act)
    return lambda: console.run(app, "work")


def divide():
    print(1 / 0)


def stop():
    raise KeyboardInterrupt


def stop_resumably():
    with console.resumable():
        stop()


def test_a_defect_is_one_line_that_says_where_and_a_traceback_on_demand(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_here(command(divide))
    monkeypatch.delenv("EDGESPLIT_DEBUG")
    done = run_here(command(divide))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "work: a defect of edgesplit: ZeroDivisionError in test_console.py, line " in done.stderr
    assert "EDGESPLIT_DEBUG=1" in done.stderr


def test_an_interruption_says_whether_the_same_command_goes_on(monkeypatch):
    monkeypatch.setattr(console, "_RESUMABLE", [])
    assert run_here(command(stop)).stderr == "work: interrupted\n"
    done = run_here(command(stop_resumably))
    assert (done.returncode, done.stderr) == (130, "work: interrupted; the same command goes on from here\n")


def press_while_garbage_is_collected():
    thing = Thing()
    seen = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    time.sleep(60)
    assert seen() is None


class Thing:
    """Something that may be referred to weakly."""


def test_an_interruption_that_python_drops_is_not_lost():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = run_here(command(press_while_garbage_is_collected))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr.count("\n")) == (130, 1)


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\rb", "a\u202eb", "a\u200bb", "a\x9bb", "a\0b"])
def test_what_moves_a_cursor_or_hides_is_shown_as_a_question_mark(text, capsys):
    assert printable(text).isprintable()
    console.say(text)
    assert capsys.readouterr().err.rstrip("\n").isprintable()


def test_json_is_the_same_object_without_invisible_characters(capsys):
    result = {"users": [{"user_id": "a\u202e\x85\u200b\U000e0041\x1bé小"}]}
    print_json(result)
    text = capsys.readouterr().out
    assert json.loads(text) == result
    assert "é小" in text
    assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--count", "x"], "--count: found 'x', accepted: a whole number; see work --help"),
        (["--count", "1.5"], "--count: found '1.5', accepted: a whole number; see work --help"),
        (["--count", ""], "--count: found '', accepted: a whole number; see work --help"),
        (["--count", "0"], "--count: found '0', accepted: 1 or more; see work --help"),
        (["--share", "half"], "--share: found 'half', accepted: a number; see work --help"),
        (["--kind", "c"], "--kind: found 'c', accepted: a, b; see work --help"),
        (["--cuont", "1"], "No such option: --cuont"),
        (["--count"], "Option '--count' requires an argument"),
    ],
)
def test_a_bad_value_of_an_option_is_told_in_our_words(arguments, says):
    def work(count: Annotated[int, typer.Option(min=1)] = 1, share: float = 0.0, kind: Literal["a", "b"] = "a") -> None:
        del count, share, kind

    result = run_here(command(work), *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"work: {says}")
    assert result.stderr.count("\n") == 1


def test_help_is_the_summary_and_not_the_functions_docstring():
    def work():
        """Something else."""

    assert "A command." in run_here(command(work), "--help").stdout
    assert isinstance(console.make_app("A command."), typer.Typer)


def test_an_import_that_ctrl_c_breaks_is_an_interruption_and_no_defect():
    def import_slowly():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = run_here(command(import_slowly))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (130, "work: interrupted\n")


def test_what_libraries_say_of_the_installation_is_kept_from_the_terminal():
    def work():
        warnings.warn("The pynvml package is deprecated. Please install another.", FutureWarning, stacklevel=2)
        logging.getLogger("matplotlib").warning("Matplotlib created a temporary cache directory")
        print("done")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run_here(command(work))
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")

"""`edgesplit`: every command under one name, help and version everywhere."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from commands import SCRIPTS, call, refused, run

from edgesplit import data
from edgesplit.cli import COMMANDS

USERS = data.sample("users.csv")
SUBCOMMANDS = [("plan", "init"), ("plan", "train"), ("plan", "evaluate"), ("hwprof", "bench"), ("hwprof", "fit"),
               ("hwprof", "list"), ("hwprof", "show"), ("hwprof", "compare"), ("pai-sweep", "fit"),
               ("edgesplit", "simulate"), ("edgesplit", "simulate", "tune"), ("edgesplit", "trace", "import"),
               ("edgesplit", "trace", "show"), ("edgesplit", "cluster")]  # fmt: skip


def test_it_has_every_installed_command():
    assert set(SCRIPTS) - {"edgesplit"} <= set(COMMANDS)
    listed = call("edgesplit", "--help").stdout
    assert all(f"\n  {name} " in listed for name in COMMANDS)


def test_a_command_does_the_same_under_the_root():
    alone = call("plan", "--users", USERS, "--method", "exact")
    assert call("edgesplit", "plan", "--users", USERS, "--method", "exact").stdout == alone.stdout


@pytest.mark.parametrize("words", [(name,) for name in SCRIPTS] + SUBCOMMANDS, ids=" ".join)
def test_help_has_two_names_and_fits_80_columns(words):
    short, long = (call(*words, option) for option in ("-h", "--help"))
    assert short.returncode == long.returncode == 0
    assert short.stdout == long.stdout
    assert max(map(len, short.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", SCRIPTS)
def test_version_is_that_of_the_package(command):
    assert call(command, "--version").stdout == f"edgesplit {version('edgesplit')}\n"


def test_python_runs_it_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "edgesplit", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == f"edgesplit {version('edgesplit')}\n"


def test_shells_can_complete():
    done = run("plan", _PLAN_COMPLETE="complete_bash", COMP_WORDS="plan --user", COMP_CWORD="1")
    assert done.stdout.split() == ["--users"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "mine.csv"], "accepted: .*for a file type `edgesplit plan --users mine.csv`"),
        (["plam"], "No such command 'plam'"),
        (["plan", "--user", "x"], "No such option: --user .*; see edgesplit plan --help"),
        (["plan", "train", "--scop", "gpu"], "No such option: --scop .*; see edgesplit plan train --help"),
        (["mine.csv"], "No such command 'mine.csv'"),
    ],
)
def test_wrong_use_is_one_line_that_says_where_to_look(arguments, says):
    import re

    line = refused(call("edgesplit", *arguments))
    assert line.startswith("edgesplit: ")
    assert re.search(says, line), line


def test_ctrl_c_while_a_command_is_imported_is_one_line():
    code = (
        "import os, signal; from edgesplit import start; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "start.import_module = lambda name: os.kill(os.getpid(), signal.SIGINT); start.plan()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "plan: interrupted\n")

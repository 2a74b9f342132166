"""Commands in this process: their whole way from options to exit code, without the seconds that imports take."""

import sys

import pytest


@pytest.fixture
def command(monkeypatch, capsys):
    """Call it with an entry point and arguments; returns exit code, stdout and stderr."""

    def run(main, *arguments):
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refusal(command):
    """Call it with an entry point and arguments; returns the one line of a refusal, having checked that it is one."""

    def run(main, *arguments):
        code, output, talk = command(main, *arguments)
        assert (code, output, talk.count("\n")) == (2, "", 1), talk
        return talk

    return run

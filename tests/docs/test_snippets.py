"""What stands in the documents' blocks: command lines run, Python runs, and the output shown is the output printed."""

import re
import shlex
import shutil
import sys

import pytest
from commands import SCRIPTS, call
from documents import PAGES, README, blocks

from edgesplit import data
from edgesplit.cli import app
from edgesplit.common import console

NOT_RUN = {
    r"hwprof bench": "measures for minutes, most of them on a GPU",
    r"pai-sweep(?! fit)": "measures for minutes or hours, most of them with models of one's own",
    r"hybrid": "generates pictures for a minute, most of them with models of one's own",
    r"dreambooth": "trains models",
    r"reproduce": "takes minutes",
    r"plan train": "trains for minutes",
    r"plan .*policies/own-": "needs what `plan train` makes",
    r"edgesplit simulate tune": "tunes for minutes",
    r"edgesplit simulate .*mine/prices": "needs what `simulate tune` makes",
    r"edgesplit (serve|load|device)": "serves, or needs a server",
}
"""Command lines that are read but not run, and why."""
QUICKER = {
    ("plan", "--compare"): ("--population", "10", "--generations", "2"),
    ("simulate", "--compare"): ("--no-hindsight",),
}
"""Command and option -> options that are added beside it: the output that matters is there sooner."""
SLOW = {"hybrid": "imports torch and runs the toy world's models"}
"""Pages whose Python is run by `make test-slow`, and why."""
SAMPLES = "batch,duration_s\n1,0.021\n1,0.022\n4,0.060\n4,0.061\n"
GENTD26 = "gmt_create,groupId,num_images_per_prompt,num_inference_steps\n2030-01-01 00:00:09,G1,2,30\n"
OWN_LOG = "Start Time,customer,n\n2030-01-01 00:00:09,ada,2\n2030-01-01 00:00:11,ben,1\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the files that the pages name, and a user data folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    shutil.copy(data.sample("users.csv"), tmp_path / "users.csv")
    (tmp_path / "samples.csv").write_text(SAMPLES)
    (tmp_path / "lora_request_trace.csv").write_text(GENTD26)
    (tmp_path / "mine.csv").write_text(OWN_LOG)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "log.csv").write_text("time_s\n1\n2\n2.5\n")
    shutil.copy(data.sample("users.csv"), tmp_path / "mine")
    shutil.copy(data.FOLDER / "sweeps/toyworld/measurements.parquet", tmp_path / "mine")
    known = set(sys.modules)
    yield tmp_path
    for name in {"my_method"} - known:
        sys.modules.pop(name, None)


def reason(line):
    """Why a command line is not run; None for one that is."""
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, line)), None)


def lines_of(block):
    return [line for line in block.text.splitlines() if line.strip()]


def check_options(words):
    """Read a command line without running it: its subcommand and options are known, its values are possible."""
    command, context = console.command_of(app), None
    name, arguments = "edgesplit", list(words)
    while True:
        context = command.make_context(name, arguments, parent=context)
        rest = [*context._protected_args, *context.args]
        if not rest or not hasattr(command, "resolve_command"):
            assert not rest
            return
        name, command, arguments = command.resolve_command(context, rest)


def run_line(line, folder):
    """Run a command line; returns what it printed."""
    command, *arguments = shlex.split(line, comments=True)
    assert command in SCRIPTS, f"{line}: no command of ours; write it in a block without sh"
    words = arguments if command == "edgesplit" else [command, *arguments]
    check_options(words)
    if reason(line):
        return ""
    arguments += [word for (name, option), added in QUICKER.items() if name == words[0] and option in arguments
                  for word in added]  # fmt: skip
    if command == "plan" and arguments[0] == "init":
        arguments.append("--force")
    result = call(command, *arguments, cwd=folder)
    assert result.returncode == 0, f"{line}: {result.stderr}"
    return result.stdout


def check_output(shown, printed):
    """Every line of a text block was printed, in this order; `...` stands for any lines."""
    lines = iter(line.rstrip() for line in printed.splitlines())
    for line in shown.splitlines():
        assert line.rstrip() in ("...", "") or line.rstrip() in lines, f"not printed: {line}"


def run_python(text, names, folder):
    """Execute a block, or save it as the file that its first line names."""
    if match := re.match(r"# (\w+\.py)\n", text):
        (folder / match[1]).write_text(text)
        sys.path.insert(0, str(folder))
    exec(compile(text, "snippet", "exec"), names)  # noqa: S102 - our own documents


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_commands_and_python_run(page, folder):
    printed, names = "", {"__name__": "snippet"}
    for block in blocks(page):
        if block.language == "sh":
            for line in lines_of(block):
                printed = run_line(line, folder)
        elif block.language == "python" and page.stem not in SLOW:
            run_python(block.text, names, folder)
        elif block.language == "text" and block.follows == "sh":
            check_output(block.text, printed)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem in SLOW], ids=lambda page: page.stem)
def test_slow_python_runs(page, folder):
    names = {"__name__": "snippet"}
    for block in blocks(page):
        if block.language == "python":
            run_python(block.text, names, folder)


def test_no_reason_is_left_over():
    lines = [
        line
        for page in [README, *PAGES]
        for block in blocks(page)
        if block.language == "sh"
        for line in lines_of(block)
    ]
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, line) for line in lines)] == []
    assert len([line for line in lines if not reason(line)]) >= 15


def test_every_block_says_what_it_is():
    for page in [README, *PAGES]:
        for block in blocks(page):
            assert block.language in ("sh", "python", "text", "toml", "json", "console", ""), page
            if not block.language:  # what an installer types; our own commands stand in sh blocks
                assert not any(line.split()[0] in SCRIPTS for line in lines_of(block)), block.text

"""Profiles whose texts a terminal would obey, names that lead nowhere, and pipes instead of files."""

import json
import os

import pytest
from commands import call, refused

from edgesplit import data
from edgesplit.common import files

SHIPPED = json.loads(data.shipped("profiles")["rtx-4090"].read_text(encoding="utf-8"))
HOSTILE = "\x1b[2J\x1b]0;title\x07[/bold]\r\x9b31m\u202egpj\u200b\U000e0041 =1+1"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of own profiles."""
    monkeypatch.setenv("EDGESPLIT_DEBUG", "1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "edgesplit" / "profiles"
    folder.mkdir(parents=True)
    return folder


def save(folder, name, **texts):
    provenance = SHIPPED["provenance"] | {"notes": [HOSTILE], "source": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(SHIPPED | {"name": "own", "provenance": provenance} | texts))
    return path


def obeyed(text):
    """What a terminal, or a browser that shows a picture, would not just show."""
    return {letter for letter in text if not letter.isprintable() and letter != "\n"}


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_no_text_of_a_profile_moves_the_terminal(home, json_):
    check = {"device": HOSTILE, "model": HOSTILE, "backend": HOSTILE, "batch": 1, "step_s": 0.1, "source": HOSTILE}
    save(home, "own", device=HOSTILE, model=HOSTILE, held_out=[check], attention=HOSTILE)
    save(home, "bold", model="[/bold]")
    save(home, "\x1b[2Jname")
    for command in (["list"], ["show", "own"], ["show", "bold"], ["compare", "own", "bold", "-o", home / "c.png"]):
        result = call("hwprof", *command, *json_)
        assert result.returncode == 0
        assert not obeyed(result.stdout + result.stderr)
    assert not obeyed((home / "c.svg").read_text(encoding="utf-8"))


def test_json_means_the_same_with_its_escapes(home):
    save(home, "own", device=HOSTILE)
    shown = json.loads(call("hwprof", "show", "own", "--json").stdout)
    assert shown["device"] == shown["provenance"]["source"] == HOSTILE


def test_markup_in_a_model_is_listed_as_it_is(home):
    save(home, "bold", model="[/bold]")
    assert "[/bold]" in call("hwprof", "list").stdout


@pytest.mark.parametrize("spoil", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name)])
def test_what_is_no_file_among_own_profiles_does_not_hide_the_others(home, spoil, monkeypatch):
    monkeypatch.setattr(files, "WRITER_S", 0.05)
    save(home, "own")
    spoil(home / "spoilt.json")
    result = call("hwprof", "list")
    assert "\nown " in result.stdout
    assert result.stderr.count("\n") == 1
    assert "spoilt.json: " in result.stderr


@pytest.mark.parametrize("name", ["x" * 300 + ".json", "x" * 253 + ".json", "loop.json", "loop/x.json", "file/x.json"])
@pytest.mark.parametrize("command", ["fit", "bench"])
def test_an_output_that_cannot_be_is_refused_before_anything_is_measured(tmp_path, home, command, name):
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    (tmp_path / "samples.csv").write_text("batch,duration_s\n1,0.1\n2,0.2\n4,0.3\n")
    bench = ["bench", "--device", "cpu", "--model", "tiny"]
    line = refused(call("hwprof", *(bench if command == "bench" else ["fit", "samples.csv"]), "-o", name, cwd=tmp_path))
    assert name[:4] in line


@pytest.mark.parametrize("option", ["--device", "--model"])
def test_bytes_that_are_no_text_are_refused_as_a_name(tmp_path, home, option):
    (tmp_path / "samples.csv").write_text("batch,duration_s\n1,0.1\n2,0.2\n")
    line = refused(call("hwprof", "fit", tmp_path / "samples.csv", option, "\udcff"))
    assert f"{option}: found '\\udcff', accepted: a name in UTF-8" in line


@pytest.mark.parametrize(
    "command",
    [
        ("hwprof", "fit", "pipe"), ("hwprof", "fit", "pipe.parquet"), ("hwprof", "show", "./pipe"),
        ("pai-sweep", "fit", "pipe"), ("pai-sweep", "fit", "pipe.parquet"), ("pai-sweep", "--prompts", "pipe"),
        ("plan", "--users", "pipe"), ("plan", "--users", "pipe.parquet"), ("plan", "--users", "/dev/zero"),
        ("plan", "--users", "users.csv", "--edge", "./pipe"), ("plan", "--users", "users.csv", "--pai", "./pipe"),
    ],
)  # fmt: skip
def test_pipes_and_devices_are_refused_soon(tmp_path, home, command, monkeypatch):
    monkeypatch.setattr(files, "WRITER_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.parquet")
    (tmp_path / "users.csv").write_text("user_id,device\na,rtx-4090\n")
    assert "accepted: a" in refused(call(*command, cwd=tmp_path))

"""Attacks on what commands read: mutated profiles, curves, journals, samples, tables, metadata and prompts.

Whatever stands in a file, a command works or says in one line what is wrong; a traceback is a defect, and so is a
character that a terminal obeys.
"""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import call
from damage import damaged
from mutations import mutated_json, mutated_table

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.fitting.schemas import Provenance
from edgesplit.metrics.measurements import METADATA, TableFacts, write_measurements
from edgesplit.metrics.prompts import read_prompts
from edgesplit.profiler.journal import Journal
from edgesplit.profiler.telemetry import NOTHING
from edgesplit.profiler.timing import Visit

SAMPLES = "batch,duration_s,note\n" + "".join(
    f"{batch},{0.01 * batch + 0.02 + 0.0001 * number},x\n" for batch in (1, 2, 4, 8) for number in range(6)
)
USERS = "user_id,device,alpha\n" + "".join(f"user-{number},rtx-4090,0.{number + 1}\n" for number in range(5))
PROMPTS = "# prompts\na photo of {subject} in snow\na photo of dog at night\n\nthe dog on the beach\n"
CONFIG = {"device": "cpu", "workload": {"model": "tiny"}, "batches": [1, 2], "precision": 0.02}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with a file of every kind."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "users.csv").write_text(USERS)
    (folder / "samples.csv").write_text(SAMPLES)
    assert call("hwprof", "fit", folder / "samples.csv", "-o", folder / "profile.json").returncode == 0
    pq.write_table(pa.Table.from_pandas(pd.read_csv(io.StringIO(USERS))), folder / "users.parquet")
    rng = np.random.default_rng(0)
    rows = [
        (prompt, seed, n, user, 0.2 + n / 1000 + rng.normal(0, 0.005), n / 50 + rng.normal(0, 0.005))
        for prompt in ("a {subject}", "b {subject}")
        for seed in range(3)
        for n in (0, 2, 4, 6, 8, 10)
        for user in ("anna", "ben")
    ]
    table = pd.DataFrame(rows, columns=["prompt", "seed", "local_steps", "user", "clip", "lpips"])
    facts = TableFacts(
        total_steps=10,
        scheduler="ddim",
        models=["a", "b"],
        provenance=Provenance(kind="measured", source="x", date="2026"),
    )
    write_measurements(folder / "table.parquet", {name: table[name].tolist() for name in table}, facts)
    table.to_csv(folder / "table.csv", index=False)
    with pytest.raises(RuntimeError), Journal(folder / "journal.jsonl", CONFIG) as journal:
        journal.keep_threads(1)
        for number in range(6):
            journal.add(Visit(round=number // 2, batch=1 + number % 2, durations_s=[0.1, 0.2], control_s=0.1), NOTHING)
        raise RuntimeError
    return folder


def json_case(good, folder, rng, name):
    path = folder / "case.json"
    path.write_bytes(mutated_json(name.read_text(encoding="utf-8"), rng))
    return path


def profile(good, folder, rng):
    path = json_case(good, folder, rng, (good / "profile.json", data.shipped("profiles")["h200"])[rng.integers(2)])
    users = ("--users", good / "users.csv", "--method", "exact")
    return (
        ("hwprof", "show", path),
        ("hwprof", "show", path, "--json"),
        ("plan", *users, "--edge", path),
    )[rng.integers(3)]


def curve(good, folder, rng):
    path = json_case(good, folder, rng, data.shipped("pai")["toyworld"])
    users = ("--users", good / "users.csv", "--method", "exact")
    return ("plan", *users, "--pai", path, *(["--uncertainty"] if rng.random() < 0.3 else []))


def samples(good, folder, rng):
    (folder / "case.csv").write_bytes(mutated_table(SAMPLES, rng))
    return ("hwprof", "fit", folder / "case.csv", "-o", folder / "fitted.json")


def extreme_samples(good, folder, rng):
    """Durations anywhere between what is accepted, and a little beyond."""
    sizes, lowest = rng.choice(4096, rng.integers(2, 9), replace=False) + 1, rng.uniform(-12.5, 5.5)
    span, repeats = rng.uniform(0, 10), rng.choice([1, 3, 9])
    rows = [f"{size},{10.0 ** (lowest + span * rng.random())}" for size in sizes for _ in range(repeats)]
    (folder / "case.csv").write_text("\n".join(["batch,duration_s", *rows]))
    return ("hwprof", "fit", folder / "case.csv", "-o", folder / "fitted.json")


def users(good, folder, rng):
    if rng.random() < 0.5:
        (folder / "case.csv").write_bytes(mutated_table(USERS, rng))
        return ("plan", "--users", folder / "case.csv", "--method", "exact")
    (folder / "case.parquet").write_bytes(damaged((good / "users.parquet").read_bytes(), rng))
    return ("plan", "--users", folder / "case.parquet", "--method", "exact")


def measurements(good, folder, rng):
    kind, path = rng.integers(3), folder / "case.parquet"
    if kind == 0:
        path = folder / "case.csv"
        path.write_bytes(mutated_table((good / "table.csv").read_text(), rng))
    elif kind == 1:
        path.write_bytes(damaged((good / "table.parquet").read_bytes(), rng))
    else:
        table = pq.read_table(good / "table.parquet")
        facts = mutated_json(table.schema.metadata[METADATA].decode(), rng)
        pq.write_table(table.replace_schema_metadata({METADATA: facts}), path)
    return ("pai-sweep", "fit", path, "-o", folder / "fitted.json")


COMMANDS = (profile, curve, samples, extreme_samples, users, measurements)


def attack(good, folder, seed, make):
    """Give one mutated file to a command; whether it was refused."""
    result = call(*make(good, folder, np.random.default_rng(seed)))
    assert result.returncode in (0, 2), result
    if result.returncode == 2:
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1, result.stderr
    obeyed = [letter for letter in result.stdout + result.stderr if not letter.isprintable() and letter != "\n"]
    assert obeyed == []
    return result.returncode == 2


def attack_prompts(folder, seed):
    rng, path = np.random.default_rng(seed), folder / "prompts.txt"
    path.write_bytes(mutated_table(PROMPTS, rng, separator=" "))
    read_prompts(path, "dog", ["sks dog"])


def attack_journal(good, folder, seed):
    """What a mutated journal still gives are the first visits of the intact one."""
    rng, path = np.random.default_rng(seed), folder / "journal.jsonl"
    lines = (good / "journal.jsonl").read_bytes().splitlines(keepends=True)
    if rng.random() < 0.4:
        content = damaged(b"".join(lines), rng)
    else:
        number = rng.integers(len(lines))
        lines[number] = mutated_json(lines[number].decode(), rng) + b"\n"
        content = b"".join(lines)
    path.write_bytes(content)
    journal = Journal(path, CONFIG)
    done, lines = len(journal.done), path.read_bytes().splitlines(keepends=True)
    journal.close(remove=True)
    intact = (good / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert [line for line in lines if b"visit" in line] == intact[2 : 2 + done]


def refused_in_one_line(attack, *arguments):
    try:
        attack(*arguments)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.fixture
def debug(monkeypatch, tmp_path):
    """Let defects show as tracebacks, and own profiles lie in the test's folder."""
    monkeypatch.setenv("EDGESPLIT_DEBUG", "1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("edgesplit.metrics.analysis.DRAWS", 20)


@pytest.mark.parametrize("make", COMMANDS)
@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_mutated_file_is_read_or_refused_in_one_line(good, tmp_path, debug, make, count):
    refusals = [attack(good, tmp_path, 10_000 * (count > 25) + seed, make) for seed in range(count)]
    assert any(refusals)


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_prompts_and_journals_are_read_or_refused_in_one_line(good, tmp_path, debug, count):
    for seed in range(count):
        refused_in_one_line(attack_prompts, tmp_path, seed)
        refused_in_one_line(attack_journal, good, tmp_path, seed)

"""Attacks on what planning reads: cards and weights of policies, checkpoints, scenarios, prices, traces.

Whatever stands in a file, it is read or refused in one line; a traceback is a defect.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import call
from damage import damaged
from mutations import mutated_json, mutated_table
from policy_files import save_policy

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.optimizer.agent.instances import Range, paper_instance
from edgesplit.optimizer.agent.policies import load_policy
from edgesplit.optimizer.inputs.scenario import load_scenario
from edgesplit.optimizer.learn import training
from edgesplit.optimizer.learn.presets import PRESETS
from edgesplit.optimizer.learn.tasks import Task
from edgesplit.optimizer.learn.training import train
from edgesplit.service.arrivals import parse_gpus, read_trace
from edgesplit.service.price_file import load_prices

TRACE = "time_s,user_id,images,total_steps,patience_s\n" + "".join(
    f"{number},u{number % 3},{1 + number % 4},30,{number + 5}\n" for number in range(30)
)
GPUS = "time_s,gpus\n0,4\n3,0\n9,8\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with a policy of each network, and a scenario."""
    folder = tmp_path_factory.mktemp("good")
    for network in ("set", "flat"):
        (folder / network).mkdir()
        save_policy(folder / network, network)
    (folder / "scenario.json").write_bytes(data.sample("scenarios/default.json").read_bytes())
    return folder


def card(good, folder, rng):
    source = good / str(rng.choice(["set", "flat"])) / "made.json"
    (folder / "made.safetensors").write_bytes(source.with_suffix(".safetensors").read_bytes())
    (folder / "made.json").write_bytes(mutated_json(source.read_text(encoding="utf-8"), rng))
    load_policy(str(folder / "made.safetensors"))


def weights(good, folder, rng):
    source = good / str(rng.choice(["set", "flat"])) / "made.json"
    (folder / "made.json").write_bytes(source.read_bytes())
    (folder / "made.safetensors").write_bytes(damaged(source.with_suffix(".safetensors").read_bytes(), rng))
    load_policy(str(folder / "made.safetensors"))


def scenario(good, folder, rng):
    (folder / "scenario.json").write_bytes(mutated_json((good / "scenario.json").read_text(encoding="utf-8"), rng))
    load_scenario(folder / "scenario.json")


def prices(good, folder, rng):
    text = data.shipped("prices")["mixed"].read_text(encoding="utf-8")
    (folder / "prices.json").write_bytes(mutated_json(text, rng))
    load_prices(str(folder / "prices.json"))


def trace(good, folder, rng):
    (folder / "trace.csv").write_bytes(mutated_table(TRACE, rng))
    read_trace(folder / "trace.csv", load_scenario())


def gpus(good, folder, rng):
    (folder / "gpus.csv").write_bytes(mutated_table(GPUS, rng))
    parse_gpus(str(folder / "gpus.csv"))


@pytest.mark.parametrize("read", [card, weights, scenario, prices, trace, gpus])
@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_mutated_file_is_read_or_refused_in_one_line(good, tmp_path, read, count):
    refused = 0
    for seed in range(count):
        rng = np.random.default_rng([31, seed])
        try:
            read(good, tmp_path, rng)
        except InputError as error:
            refused += 1
            assert str(error).isprintable(), str(error)
    assert refused > count // 4


def test_a_mutated_card_is_one_line_in_every_command(good, tmp_path):
    users = data.sample("users.csv")
    for seed in range(12):
        with pytest.raises(InputError):
            for attempt in range(50):
                card(good, tmp_path, np.random.default_rng([32, seed, attempt]))
        path = tmp_path / "made.safetensors"
        for words in (("plan", "--users", users, "--policy", path), ("plan", "evaluate", path, "--instances", "2")):
            result = call(*words)
            assert result.returncode == 2, result
            assert result.stderr.count("\n") == 1


def checkpoint_task():
    return Task(
        name="small", scope="general", preset="set", draw=lambda rng: paper_instance(rng, Range(users=(2, 4))), seeds=6,
        steps=40, held_out=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The bytes of a checkpoint of a training that was interrupted."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        for name, preset in PRESETS.items():
            patch.setitem(PRESETS, name, replace(preset, memory=1000))
        patch.setattr(training, "CHECKPOINT_S", 0.0)

        def stop(progress):
            if progress.steps >= 21:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(checkpoint_task(), folder, stop)
    return (folder / ".small.checkpoint.safetensors").read_bytes()


def header_mutated(content, rng):
    """A checkpoint whose header says other things, in the same number of bytes where that is possible."""
    length = int.from_bytes(content[:8], "little")
    text = mutated_json(content[8 : 8 + length].decode(), rng)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.slow)])
def test_a_damaged_checkpoint_is_refused_in_one_line(stopped, tmp_path, monkeypatch, count):
    for name, preset in PRESETS.items():
        monkeypatch.setitem(PRESETS, name, replace(preset, memory=1000))
    for seed in range(count):
        rng = np.random.default_rng([33, seed])
        content = header_mutated(stopped, rng) if seed % 2 else damaged(stopped, rng)
        if content == stopped:
            continue
        (tmp_path / ".small.checkpoint.safetensors").write_bytes(content)
        with pytest.raises(InputError) as refusal:
            train(checkpoint_task(), tmp_path)
        assert "no checkpoint" in str(refusal.value)
        assert str(refusal.value).isprintable()


def test_shipped_files_are_still_read():
    for path in sorted((data.FOLDER / "policies").glob("*.json")):
        assert json.loads(path.read_text())["name"]
        load_policy(str(Path(path).with_suffix(".safetensors")))

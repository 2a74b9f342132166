"""`plan train`, `plan evaluate` and the shipped policies."""

import csv
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from commands import BIN, refused, run

from edgesplit import data
from edgesplit.optimizer import training
from edgesplit.optimizer.drl import drl_convex, instance_key
from edgesplit.optimizer.exact import optimum
from edgesplit.optimizer.instances import Range, paper_instance
from edgesplit.optimizer.policies import Policy, load_policy
from edgesplit.optimizer.scenario import load_scenario
from edgesplit.optimizer.scores import SETTINGS, gain_possible, held_out, score_policy, value_of
from edgesplit.optimizer.tasks import Task, shipped_instance, shipped_tasks
from edgesplit.optimizer.training import CURVE, train
from edgesplit.optimizer.users import read_users

POLICIES = data.FOLDER / "policies"
SHIPPED = sorted(path.stem for path in POLICIES.glob("*.safetensors"))
SHORT = ["--steps", "120", "--seeds", "20", "--instances", "20"]


def small_task(**changes):
    values = {
        "name": "small",
        "scope": "general",
        "preset": "set",
        "draw": lambda rng: paper_instance(rng, Range(users=(2, 6))),
        "seeds": 12,
        "steps": 100,
        "settings": {},
    }
    return Task(**(values | changes))


def weights(folder, name="small"):
    return (folder / f"{name}.safetensors").read_bytes()


def test_one_seed_gives_one_policy_and_a_stopped_training_ends_at_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(small_task(), whole)

    def stop(progress):
        if progress.steps >= 61:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_task(), broken, stop)
    assert not (broken / "small.safetensors").exists()
    train(small_task(), broken)
    assert weights(whole) == weights(broken)
    curves = [
        [line.split(",") for line in (folder / "curves/small.csv").read_text().splitlines()]
        for folder in (whole, broken)
    ]
    clock = CURVE.index("seconds")
    without = [[row[:clock] + row[clock + 1 :] for row in curve] for curve in curves]
    assert without[0] == without[1]
    assert curves[0][0] == list(CURVE)
    train(small_task(seed=1), tmp_path / "other")
    assert weights(tmp_path / "other") != weights(whole)


def test_train_writes_policy_card_curve_and_logs(tmp_path):
    done = run("plan", "train", *SHORT, "--name", "mine", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine: own scenario, 5-30 users, G 1-16: captured" in done.stdout
    assert list((tmp_path / "tensorboard/mine").glob("events*"))
    card = load_policy(str(tmp_path / "mine.safetensors")).card
    assert (card.name, card.network, card.steps, card.seeds) == ("mine", "set", 120, 20)
    assert "is there already" in refused(run("plan", "train", *SHORT, "--name", "mine", "-o", tmp_path))
    planned = run("plan", "--users", data.sample("users.csv"), "--policy", tmp_path / "mine.safetensors", "--json")
    assert json.loads(planned.stdout)["policy"] == "mine"


def test_a_killed_training_goes_on(tmp_path):
    command = [BIN / "plan", "train", "--preset", "paper", "--steps", "400", "--seeds", "30", "--instances", "9"]
    command += ["-o", tmp_path]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    checkpoint = tmp_path / ".own-general.checkpoint.safetensors"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "own-general.safetensors").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first = done.stderr.splitlines()[0].split()[1]
    assert int(first.replace(",", "")) > 8  # not from the beginning
    assert not checkpoint.exists()


def test_train_for_one_round(tmp_path):
    users = POLICIES / "specific-users.csv"
    done = run("plan", "train", "--scope", "specific", "--users", users, "--steps", "60", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    policy = tmp_path / "own-specific.safetensors"
    assert "specific-users.csv: 1 held-out" in run("plan", "evaluate", policy, "--users", users).stdout


def test_train_for_a_number_of_gpus(tmp_path):
    options = ["--scope", "gpu", "--gpus", "3", "--preset", "paper", "--steps", "50", "--seeds", "10"]
    options += ["--instances", "9"]
    done = run("plan", "train", *options, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_policy(str(tmp_path / "own-gpu.safetensors")).card.gpus == [3]
    result = run("plan", "evaluate", tmp_path / "own-gpu.safetensors", "--instances", "3").stdout
    assert "5-30 users, G 3: 3 held-out instances" in result


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--scope", "specific"], "--scope, --users: found one without the other"),
        (["train", "--users", data.sample("users.csv")], "--scope, --users: found one without the other"),
        (["train", "--scope", "all"], "'--scope'"),
        (["train", "--name", "../x"], "--name: found '../x', accepted"),
        (["train", "--steps", "0"], "'--steps'"),
        (["train", "--gpus", "0"], "--gpus"),
        (["train", "--scenario", "missing.json"], "missing.json"),
        (["evaluate", "set-genral"], "set-general"),
        (["evaluate", "missing.safetensors"], "missing.json: cannot read"),
        (["evaluate", "--instances", "0"], "'--instances'"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, arguments, says):
    output = ["-o", tmp_path / "p"] if arguments[0] == "train" else []
    assert says in refused(run("plan", *arguments, *output))
    assert not list(tmp_path.glob("p/*.safetensors"))


def test_more_users_than_places_are_refused(tmp_path):
    many = tmp_path / "many.csv"
    many.write_text("user_id,step_latency_s\n" + "".join(f"u{i},0.5\n" for i in range(31)))
    options = ["--scope", "specific", "--preset", "paper", "--users", many, "-o", tmp_path / "p"]
    assert "found 31 users, accepted: 30 at most; or --preset set" in refused(run("plan", "train", *options))


def test_evaluate_prints_and_says_the_same():
    text = run("plan", "evaluate", "--instances", "5").stdout
    result = json.loads(run("plan", "evaluate", "--instances", "5", "--json").stdout)
    assert result["policy"] == "set-general"
    methods = ["set-general", "exact", "offload-all", "offload-all-fixed", "all-local"]
    assert [row["method"] for row in result["results"]] == methods * len(SETTINGS)
    assert all(setting in text for setting in SETTINGS)
    assert all(len(line) <= 80 for line in text.splitlines())
    exact = [row for row in result["results"] if row["method"] == "exact"]
    assert all((row["captured_worst"], row["optimal_share"]) == (1, 1) for row in exact)


# -- the shipped policies -----------------------------------------------------------------------------------

FLOORS = [
    ("set-general", "paper, 5-30 users, G 1-16", 0.995, 0.97),
    ("set-general", "paper, 100 users, G 1-16", 0.99, 0.97),
    ("paper-general", "paper, 5-30 users, G 1-16", 0.97, 0.9),
]


def scores_of(name, setting, count):
    instances = held_out(SETTINGS[setting], count)
    possible = np.array([gain_possible(instance) for instance in instances])
    return score_policy(load_policy(name), setting, instances, possible).scores


@pytest.mark.parametrize(("name", "setting", "mean", "p5"), FLOORS)
def test_shipped_policies_hold_their_floors(name, setting, mean, p5):
    scores = scores_of(name, setting, 200)
    assert scores.captured_mean >= mean
    assert scores.captured_p5 >= p5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "setting", "mean", "p5"), FLOORS)
def test_cards_tell_what_evaluation_finds(name, setting, mean, p5):
    found = scores_of(name, setting, 1000)
    told = next(scores for scores in load_policy(name).card.scores if scores.setting == setting)
    assert found.captured_mean == pytest.approx(told.captured_mean, abs=1e-6)
    assert found.captured_mean >= mean
    assert found.captured_p5 >= p5


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_policy_has_its_task_and_its_curve(name):
    task = next(task for task in shipped_tasks() if task.name == name)
    card = load_policy(name).card
    assert (card.scope, card.preset, card.steps, card.seeds) == (task.scope, task.preset, task.steps, task.seeds)
    assert card.gpus == task.gpus
    with (POLICIES / f"curves/{name}.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == list(CURVE)
    assert int(float(rows[-1]["steps"])) == task.steps


def test_every_task_is_shipped():
    assert sorted(task.name for task in shipped_tasks()) == SHIPPED


def test_the_specific_policy_reaches_the_optimum_of_the_committed_instance():
    scenario = load_scenario("default")
    users = read_users(POLICIES / "specific-users.csv", scenario.for_alpha).users
    policy = load_policy("specific")
    assert instance_key(users) == policy.card.instance == instance_key(shipped_instance().users)
    plan = drl_convex(scenario.scenario, users, policy)
    assert np.array_equal(plan.local_steps, optimum(scenario.scenario, users).local_steps)


def test_a_fall_back_counts_as_a_miss():
    policy = load_policy("paper-general")
    instances = [paper_instance(np.random.default_rng(0), Range(users=(count, count))) for count in (30, 31)]
    possible = np.array([gain_possible(instance) for instance in instances])
    scores = score_policy(Policy(policy.card, policy.weights), "both", instances, possible).scores
    assert scores.fall_backs == 1
    plan = drl_convex(instances[0].scenario, instances[0].users, policy)
    assert scores.captured_mean == pytest.approx(value_of(instances[0], plan) / possible[0] / 2)

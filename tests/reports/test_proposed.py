"""`reproduce --proposed`: another method in the place of DRL-convex, one's own too."""

import sys

import pandas as pd
import pytest
from commands import call, refused

from edgesplit.common.errors import InputError
from edgesplit.optimizer import planner
from edgesplit.reports.basis.checks import NOT
from edgesplit.reports.basis.definitions import Unit
from edgesplit.reports.basis.setup import Choices, Size, describe, make_setup
from edgesplit.reports.exhibit import complexity, peers, rounds
from edgesplit.reports.exhibits import compute, tables
from edgesplit.reports.work import Results, experiment_rows

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # what seaborn asks of Matplotlib 3.11
METHODS = """
import numpy as np
from edgesplit import Plan, split_granted


def slowest_first(scenario, users):
    granted = np.zeros(len(users), bool)
    granted[np.argsort(users.step_latency_s)[-3:]] = True
    return split_granted(scenario, users, granted)


def everything_offloaded(scenario, users):
    return Plan(np.ones(len(users), bool), np.zeros(len(users), int))
"""
OWN, INFEASIBLE = "own_methods:slowest_first", "own_methods:everything_offloaded"
TINY_SIZE = Size(
    cases=2, slow_cases=1, users=(5, 10), gpus=(1, 4), wanted_gpus=(1,), timed_users=(5, 10), arrivals=(1,), worlds=1
)


@pytest.fixture(autouse=True)
def own_methods(tmp_path, monkeypatch):
    """A module in the working directory, and the folder for results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_methods", raising=False)
    (tmp_path / "own_methods.py").write_text(METHODS)


def setup_for(proposed):
    choices = Choices(proposed=proposed, population=4, generations=1, time_limit_s=1.0)
    return make_setup(size=TINY_SIZE, choices=choices)


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_an_own_method_stands_in_figs_10_and_11_and_table_1(tmp_path, monkeypatch):
    monkeypatch.setattr(complexity, "REPEATS_S", 0.0)
    setup, sources = setup_for(OWN)
    rows = experiment_rows(setup, tmp_path / "folder", workers=1)
    for name in ("users", "gpus", "peers", "timing"):
        assert rows[name]["method"].iloc[0] == OWN
        assert "drl" not in set(rows[name]["method"])
    case = setup.case(10, 1)
    own = rows["users"].query("users == 10 and case == 1 and method == @OWN")
    assert own["objective"].tolist() == [planner.plan(case.scenario, case.users, OWN).totals.objective]
    shown = {exhibit.name: (exhibit, table) for exhibit, table in tables(setup, sources, rows)}
    for name in ("fig10a", "fig11", "table1"):
        exhibit, table = shown[name]
        assert labels(exhibit.draw(table))[0] == f"proposed ({OWN})"
    assert describe("default", setup, sources)["proposed"] == f"the method {OWN}"
    for name, judge in (("fig10a", rounds.judge_users), ("fig10b", rounds.judge_gpus), ("fig11", peers.judge)):
        exhibit, table = shown[name]  # the verdicts are those of drl, had its plans been these
        assert exhibit.judge(table) == judge(table.replace({"method": {OWN: "drl"}}))
    exhibit, table = shown["table1"]
    own, *others = exhibit.judge(table)
    drl, *same = complexity.judge(table.replace({"method": {OWN: "drl"}}))
    assert (own.claim, drl.claim) == ("The proposed method is linear in users.", "DRL-convex is linear in users.")
    assert (own.evidence, others) == (drl.evidence, same)


@pytest.mark.parametrize("proposed", ["genetic", "exact", "ilp-fixed", "offload-all"])
def test_a_rival_that_stands_as_the_proposed_method_is_one_row_and_does_not_beat_itself(monkeypatch, proposed):
    monkeypatch.setattr(complexity, "REPEATS_S", 0.0)
    setup, _ = setup_for(proposed)
    tables_of = {name: pd.DataFrame(compute(setup, Unit(name, 5, 0))) for name in ("users", "peers", "timing")}
    for rows in tables_of.values():
        assert rows["method"].iloc[0] == proposed
        assert rows["method"].is_unique
    beaten = {check.claim: check.verdict for check in peers.judge(tables_of["peers"], proposed)}
    itself = {"genetic": "the genetic algorithm, split inside", "ilp-fixed": "branch & bound, split fixed"}
    if proposed in itself:
        assert beaten[f"The proposed method beats {itself[proposed]}."] == NOT
    assert len(rounds.judge_users(tables_of["users"], proposed)) == 7


def test_an_infeasible_plan_is_refused_in_one_line_from_a_worker_too(tmp_path):
    command = ["reproduce", "--quick", "--cases", "2", "--workers", "2", "--proposed", INFEASIBLE]
    line = refused(call(*command, "-o", tmp_path / "folder", cwd=tmp_path))
    assert f"method {INFEASIBLE}: user 'user-1': found local_steps 0, accepted: min_local_steps = 80" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--proposed", "own_methods:nothing"], "found no 'nothing' in own_methods"),
        (["--proposed", "best"], "method: found 'best', accepted: a name or package.module:function"),
        (
            ["--proposed", "exact", "--policy", "set-general"],
            "--policy: found --proposed exact, accepted: --proposed drl",
        ),
    ],
)
def test_bad_choices_are_one_line_before_anything_is_written(tmp_path, options, says):
    assert says in refused(call("reproduce", *options, "-o", tmp_path / "folder", cwd=tmp_path))
    assert not (tmp_path / "folder").exists()


def test_drl_may_be_named_and_keeps_its_policy(tmp_path):
    line = refused(call("reproduce", "--proposed", "drl", "--policy", "worst", "-o", tmp_path / "folder"))
    assert "policy: found 'worst'" in line


def test_a_folder_goes_on_with_the_same_method_alone(tmp_path):
    Results(tmp_path / "drl", setup_for("drl")[0].facts()).close()
    with pytest.raises(InputError, match="proposed was 'drl' and is 'exact'"):
        Results(tmp_path / "drl", setup_for("exact")[0].facts())
    Results(tmp_path / "own", setup_for(OWN)[0].facts()).close()
    Results(tmp_path / "own", setup_for(OWN)[0].facts()).close()
    with open("own_methods.py", "a") as file:
        file.write("# another version\n")
    with pytest.raises(InputError, match="proposed_sha256 was"):
        Results(tmp_path / "own", setup_for(OWN)[0].facts())

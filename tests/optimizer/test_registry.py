"""How methods are found: by name, as package.module:function, as functions, and from installed packages."""

import sys
from functools import partial
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from commands import call, refused
from oracles import make_scenario, make_users

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.optimizer.methods import registry
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.methods.registry import BUILT_IN, known_methods, load_function
from edgesplit.optimizer.model.qoe import Plan
from edgesplit.optimizer.planner import compare, plan

SCENARIO, USERS = make_scenario(), make_users(np.linspace(0.1, 0.8, 6), 10.0)
SOURCE = """
import numpy as np
from edgesplit import Plan, split_granted


def slowest_three(scenario, users):
    granted = np.zeros(len(users), bool)
    granted[np.argsort(-users.step_latency_s)[:3]] = True
    return split_granted(scenario, users, granted)


def too_deep(scenario, users):
    return Plan(np.ones(len(users), bool), np.full(len(users), 1))


def broken(scenario, users):
    return 1 / 0


answer = 42
"""


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A folder with the module `own_methods`, where one works."""
    (tmp_path / "own_methods.py").write_text(SOURCE)
    (tmp_path / "spoiled.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("own_methods", "spoiled"):
        sys.modules.pop(name, None)


def test_every_built_in_method_is_a_function():
    for entry in BUILT_IN.values():
        assert callable(load_function(entry.target))


def test_an_own_function_stands_beside_the_others(own_folder):
    first, second = compare(SCENARIO, USERS, ["own_methods:slowest_three", "exact"])
    assert first.method == "own_methods:slowest_three"
    assert first.plan.granted.tolist() == [False] * 3 + [True] * 3
    assert first.totals.objective <= second.totals.objective


def test_functions_have_their_place_as_name_or_one_of_the_callers():
    def everything_local(scenario, users):
        return Plan(np.zeros(len(users), bool), np.full(len(users), scenario.total_steps))

    (outcome,) = compare(SCENARIO, USERS, [everything_local])
    assert outcome.method.endswith("everything_local")
    named = compare(SCENARIO, USERS, {"mine": everything_local, "best": optimum})
    assert [o.method for o in named] == ["mine", "best"]
    assert plan(SCENARIO, USERS, partial(optimum, screen=False)).method.endswith("exact:optimum")


def test_two_methods_of_one_name_need_names_of_their_own():
    with pytest.raises(InputError, match="found 'exact' twice"):
        compare(SCENARIO, USERS, ["exact", "exact"])


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("exakt", r"found 'exakt', accepted: a name or package.module:function; did you mean 'exact'\?"),
        ("own_methods:slowest_four", "found no 'slowest_four' in own_methods"),
        ("own_methods:answer", "found 42, accepted: a function of scenario and users"),
        ("no_such_module:plan", r"cannot import no_such_module \(ModuleNotFoundError"),
        ("spoiled:plan", r"cannot import spoiled \(ModuleNotFoundError: No module named 'no_such_library'\)"),
        ("own_methods:too_deep", r"user 'user-1': found local_steps 1, accepted: min_local_steps = 80"),
        ("own_methods:broken", r"failed in .*own_methods.py, line 17 \(ZeroDivisionError: division by zero\)"),
    ],
)
def test_what_cannot_plan_is_refused_with_its_place(own_folder, reference, says):
    with pytest.raises(InputError, match=says):
        plan(SCENARIO, USERS, reference)


def test_installed_packages_add_methods_and_do_not_replace_ours(monkeypatch):
    points = [
        EntryPoint(name, "edgesplit.optimizer.model.qoe:all_local", registry.GROUP) for name in ("theirs", "exact")
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points if group == registry.GROUP else [])
    assert set(known_methods()) == {"theirs", *BUILT_IN}
    assert known_methods()["exact"] == BUILT_IN["exact"]
    assert plan(SCENARIO, USERS, "theirs").totals.granted == 0
    assert "theirs" in call("plan", "--help").stdout
    assert "theirs" in call("plan", "--users", data.sample("users.csv"), "--compare", "--population", "4").stdout


@pytest.mark.parametrize(
    ("methods", "options", "says"),
    [
        (["exact"], {"seed": 1}, "found method exact, accepted: method genetic or genetic-joint or memetic"),
        (["exact"], {"sede": 1}, "option sede: found method exact, accepted: an option that a method has"),
        ([optimum], {"seed": 1}, "found method of your own"),
    ],
)
def test_an_option_that_no_method_has_is_refused(methods, options, says):
    with pytest.raises(InputError, match=says):
        compare(SCENARIO, USERS, methods, **options)


def test_each_method_gets_its_options():
    outcomes = compare(SCENARIO, USERS, ["offload-all-fixed", "exact"], offloaded_steps=7)
    assert set(outcomes[0].plan.local_steps[outcomes[0].plan.granted]) == {193}


def test_plan_compares_an_own_method_and_refuses_an_infeasible_one(own_folder):
    users = data.sample("users.csv")
    done = call("plan", "--users", users, "--compare", "--method", "own_methods:slowest_three", "--population", "4")
    assert done.returncode == 0, done.stderr
    assert "own_methods:slow" in done.stdout  # shortened to its column
    assert max(map(len, done.stdout.splitlines())) <= 80
    line = refused(call("plan", "--users", users, "--method", "own_methods:too_deep"))
    assert "plan: method own_methods:too_deep: user 'ada-laptop': found local_steps 1" in line

"""The Python API: its names, what importing it costs, and that it does what the commands do."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from commands import call

import edgesplit
from edgesplit import data

USERS = data.sample("users.csv")
SCENARIO = edgesplit.load_scenario()


def test_every_name_is_there_and_listed():
    for name in edgesplit.__all__:
        assert getattr(edgesplit, name) is not None
    assert dir(edgesplit) == sorted(edgesplit.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'plann'"):
        _ = edgesplit.plann


def modules_after(code):
    """The top modules that a new process has imported after running code."""
    code += "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_costs_no_library_and_planning_no_torch():
    assert not {"numpy", "pydantic", "torch", "pandas"} & set(modules_after("import edgesplit"))
    planning = "import edgesplit as e; s = e.load_scenario(); e.plan(s, e.draw_instances(1)[0].users)"
    assert not {"torch", "pandas", "matplotlib"} & set(modules_after(planning))


def test_plan_is_what_the_command_prints():
    outcome = edgesplit.plan(SCENARIO, edgesplit.read_users(USERS, SCENARIO), "exact")
    printed = json.loads(call("plan", "--users", USERS, "--method", "exact", "--json").stdout)
    assert outcome.totals.objective == printed["objective"]
    assert outcome.totals.mean_latency_s == printed["mean_latency_s"]
    pd.testing.assert_frame_equal(outcome.users, pd.DataFrame(printed["users"]), check_exact=True)


def test_users_come_from_a_path_a_text_or_a_table():
    by_path, by_text = (edgesplit.read_users(source, SCENARIO) for source in (USERS, str(USERS)))
    table = pd.read_csv(USERS)
    by_table = edgesplit.read_users(table.sample(frac=1, random_state=0).sort_index(), SCENARIO)
    for users in (by_text, by_table):
        np.testing.assert_array_equal(users.alpha, by_path.alpha)
        np.testing.assert_array_equal(users.step_latency_s, by_path.step_latency_s)
        assert list(users.user_id) == list(by_path.user_id)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"user_id": ["a"], "step_latency_s": [-1.0]}, r"users: row 1, column 'step_latency_s': found '-1.0'"),
        ({"user_id": ["a", "a"], "step_latency_s": [1.0, 1.0]}, "users: row 2: repeats row 1, 'a'; keep one of them"),
        ({"user_id": ["a"], "step_latency": [1.0]}, "users: header: found unknown column 'step_latency'; did you mean"),
        ({"user_id": [], "step_latency_s": []}, "users: no rows below the header"),
    ],
)
def test_a_table_is_refused_as_a_file_is(table, says):
    with pytest.raises(edgesplit.InputError, match=says):
        edgesplit.read_users(pd.DataFrame(table), SCENARIO)


def test_users_without_names_get_numbers_and_cells_theirs():
    users = edgesplit.Users(np.array([0.2, 0.5]), np.array([5.0, 9.0]), np.array([1, 2]), np.array([0, 1]))
    outcome = edgesplit.plan(SCENARIO, users, "all-local")
    assert outcome.users["user_id"].tolist() == ["user-1", "user-2"]
    assert outcome.users["cell"].tolist() == ["0", "1"]
    assert [totals.granted for totals in outcome.score.cells] == [0, 0]


def test_scenario_options_are_those_of_the_command():
    assert edgesplit.load_scenario(gpus=2, bandwidth_mhz=5.0).bandwidth_hz == 5e6
    with pytest.raises(edgesplit.InputError, match="gpu: unknown option; did you mean 'gpus'"):
        edgesplit.load_scenario(gpu=2)
    with pytest.raises(edgesplit.InputError, match="--gpus: found 0"):
        edgesplit.load_scenario(gpus=0)


def test_own_numbers_plan_too():
    edge = edgesplit.LatencyModel(slope_s=0.02, intercept_s=0.01)
    curve = edgesplit.PaiCurve(steepness=0.2, midpoint=15.0)
    changes = {"edge": edge, "pai": curve, "total_steps": 50, "min_local_steps": 20}
    scenario = edgesplit.Scenario(**{**vars(SCENARIO), **changes})
    outcome = edgesplit.plan(scenario, edgesplit.read_users(USERS, scenario), "exact")
    assert outcome.totals.captured_share == 1
    assert outcome.totals.granted > 0


def test_a_policy_is_named_as_on_the_command_line():
    users = edgesplit.read_users(USERS, SCENARIO)
    named = edgesplit.plan(SCENARIO, users, policy="paper-general")
    assert named.plan.note.startswith("policy paper-general: ")  # out of its range: planned exactly
    with pytest.raises(edgesplit.InputError, match="policy: found 'no-such'"):
        edgesplit.plan(SCENARIO, users, policy="no-such")

"""The `plan` command with several servers: files, faults, what is printed and written."""

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commands import call, refused

from edgesplit import FleetPlan, InputError, compare, data, load_fleet, plan, read_users
from edgesplit.optimizer.methods.registry import BUILT_IN, methods_for

USERS = data.sample("users.csv")


@pytest.fixture
def example(tmp_path):
    """The files of `plan init --servers 3`."""
    assert call("plan", "init", tmp_path, "--servers", "3").returncode == 0
    return tmp_path


def plan_of(folder, *arguments):
    return call("plan", "--users", folder / "users.csv", "--scenario", folder / "scenario.json", *arguments)


def planned(folder, *arguments):
    done = plan_of(folder, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def edit(folder, **changes):
    path = folder / "scenario.json"
    content = json.loads(path.read_text())
    for place, value in changes.items():
        target, *keys = place.split("__")
        holder = content
        for key in [target, *keys][:-1]:
            holder = holder[int(key[1:]) if key.startswith("n") and key[1:].isdigit() else key]
        holder[[target, *keys][-1]] = value
    path.write_text(json.dumps(content))


def edit_users(folder, column, values):
    path = folder / "users.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for row, value in zip(rows, values, strict=False):
        row[column] = value
    pd.DataFrame(rows).to_csv(path, index=False)


def test_the_example_is_planned_with_servers_and_models(example):
    result = planned(example)
    assert result["method"] == "assign"
    assert 0 <= result["gap"] <= 0.05 * result["objective"]
    for row in result["users"]:
        assert bool(row["server"]) == bool(row["model"]) == (row["decision"] == "grant")
    counts = pd.Series([row["server"] for row in result["users"]]).value_counts()
    for server in result["servers"]:
        assert server["granted"] == counts.get(server["server"], 0)
        assert len(server["models"]) <= 3  # memory of 6 GB: the base and two adapters
    assert [server["name"] for server in result["scenario"]["servers"]] == ["edge-1", "edge-2", "edge-3"]
    assert "edge" not in result["scenario"]
    last = result["users"][-1]
    assert (last["server"], last["decision"]) == ("", "deny")  # reaches none


def test_plan_files_have_the_columns(example):
    assert plan_of(example, "-o", example / "plan.csv").returncode == 0
    written = pd.read_csv(example / "plan.csv", keep_default_na=False)
    assert list(written.columns)[:4] == ["user_id", "decision", "server", "model"]
    assert set(written["server"]) <= {"", "edge-1", "edge-2", "edge-3"}


@pytest.mark.parametrize("method", list(methods_for(several=True)))
def test_every_method_for_servers_runs_and_none_beats_the_exact_one(example, method):
    few = ["--population", "20", "--generations", "5"] if "genetic" in method else []
    result, best = planned(example, "--method", method, *few), planned(example, "--method", "assign-exact")
    assert best["gap"] <= 1e-9 * best["objective"]
    assert result["objective"] <= best["objective"] + 1e-9 * best["objective"]
    assert result["optimum_objective"] >= best["objective"] - 1e-9 * best["objective"]


def test_a_comparison_has_the_methods_for_servers_and_one_bound(example):
    result = planned(example, "--compare", "--population", "10", "--generations", "3")
    assert {entry["method"] for entry in result["methods"]} == set(methods_for(several=True))
    assert len({entry["optimum_objective"] for entry in result["methods"]}) == 1
    text = plan_of(example, "--compare", "--population", "10", "--generations", "3").stdout
    assert "assign-exact: optimal: gain" in text


def test_text_for_people_names_servers_and_says_what_is_proven(example):
    text = plan_of(example).stdout
    assert "edge-1" in text
    assert "no plan exceeds" in text or "optimum" in text
    assert "; 3 servers" in text
    assert "proven gap" in text


@pytest.mark.parametrize(
    "method", [name for name, entry in BUILT_IN.items() if not entry.servers and name != "all-local"]
)
def test_methods_for_one_server_are_refused(example, method):
    assert f"method {method}: found several servers, accepted: all-local, assign," in refused(
        plan_of(example, "--method", method)
    )


@pytest.mark.parametrize("option", [["--gpus", "2"], ["--edge", "l4"], ["--max-batch", "3"], ["--bandwidth-mhz", "9"]])
def test_options_of_one_server_are_refused(example, option):
    assert f"{option[0]}: found a scenario of several servers" in refused(plan_of(example, *option))


@pytest.mark.parametrize("option", [["--gpu-sweep", "1:2"], ["--uncertainty"], ["--in-flight", "1"]])
def test_what_knows_one_server_is_refused(example, option):
    assert f"{option[0]}: found a scenario of several servers" in refused(plan_of(example, *option))


def test_what_all_servers_share_may_be_replaced(example):
    result = planned(example, "--total-steps", "100", "--min-local-steps", "40", "--latent-bits", "1e5")
    assert result["scenario"]["total_steps"] == 100
    assert {server["latent_bits"] for server in result["scenario"]["servers"]} == {1e5}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"servers__n1__name": "edge-1"}, "field 'servers.1.name': found 'edge-1' twice"),
        ({"models__n2__name": "faces"}, "field 'models.2.name': found 'faces' twice"),
        ({"servers__n0__name": "none"}, "field 'servers.0.name': found 'none', accepted: another name"),
        ({"servers__n0__name": "a b"}, "field 'servers.0.name': found 'a b', accepted: text of the form"),
        ({"servers__n0__hosts": ["face"]}, "field 'servers.0.hosts': found 'face', accepted: names of models; did you"),
        ({"servers__n0__hosts": "all"}, "field 'servers.0.hosts': found 'all', accepted: a list"),
        (
            {"servers__n0__hosts": ["faces", "animals", "things"]},
            "field 'servers.0.hosts': found models of 7e+09 bytes with their bases, accepted: memory_bytes 6e+09",
        ),
        ({"models__n0__adapter_of": "animals"}, "field 'models.0.adapter_of': found 'animals', accepted: the name of"),
        ({"models__n0__adapter_of": "nope"}, "field 'models.0.adapter_of': found 'nope'"),
        ({"servers": []}, "field 'servers': found []"),
        ({"min_local_steps": 300}, "found min_local_steps 300"),
        ({"servers__n0__edge": "nope"}, "latency profile: found 'nope'"),
    ],
)
def test_faults_of_a_scenario_are_one_line(example, changes, words):
    edit(example, **changes)
    assert words in refused(plan_of(example))


def test_more_models_to_choose_from_than_are_looked_through_are_refused(example):
    path = example / "scenario.json"
    content = json.loads(path.read_text())
    content["models"] = [{"name": f"model-{c}", "size_bytes": 1e9} for c in range(13)]
    path.write_text(json.dumps(content))
    assert "server edge-1: found 13 models to choose from, accepted: 12 at most" in refused(plan_of(example))


def test_an_adapter_of_an_adapter_is_refused(example):
    edit(example, models__n0__adapter_of="faces")
    assert "found 'faces', which is an adapter itself" in refused(plan_of(example))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("edge-9", "row 1 (line 2), column 'servers': found 'edge-9', accepted: names of servers between spaces"),
        ("edge-1:fast", "accepted: a spectral efficiency from 0 to 1e+06 bit/s/Hz behind the colon"),
        ("edge-1:-1", "accepted: a spectral efficiency"),
        ("edge-1:nan", "accepted: a spectral efficiency"),
    ],
)
def test_faults_of_links_are_one_line(example, text, words):
    edit_users(example, "servers", [text])
    assert words in refused(plan_of(example))


def test_links_that_carry_nothing_and_users_without_a_server_are_local(example):
    edit_users(example, "servers", ["edge-1:0", "none", "edge-1:0 edge-2:1"])
    done = plan_of(example, "--json")
    rows = json.loads(done.stdout)["users"]
    assert [row["server"] for row in rows[:2]] == ["", ""]
    assert rows[2]["server"] in ("", "edge-2")
    assert "3 users without a server in reach: all local" in done.stderr


def test_where_no_link_carries_anything_everybody_is_local(example):
    edit_users(example, "servers", ["none"] * 20)
    for method in methods_for(several=True):
        few = ["--population", "10", "--generations", "2"] if "genetic" in method else []
        result = planned(example, "--method", method, *few)
        assert (result["granted"], result["gap"]) == (0, 0)


def test_a_model_that_no_server_holds_serves_nobody(example):
    edit(example, models__n0__size_bytes=9e9)
    done = plan_of(example, "--json")
    assert "no server can hold the model animals: nobody is served by it" in done.stderr
    assert "animals" not in {row["model"] for row in json.loads(done.stdout)["users"]}


def test_without_room_for_any_model_everybody_is_local(example):
    edit(example, **{f"servers__n{m}__memory_bytes": 1.0 for m in range(3)})
    assert planned(example)["granted"] == 0


def test_a_cluster_that_no_model_knows_is_told(example):
    edit_users(example, "cluster", ["planes"])
    assert "no model was trained for the cluster 'planes'" in plan_of(example).stderr


def test_adapters_of_one_base_take_no_turns(example):
    one_batch = planned(example, "--method", "assign-exact")["objective"]
    edit(example, **{f"models__n{c}__adapter_of": None for c in range(3)})
    assert planned(example, "--method", "assign-exact")["objective"] < one_batch


def test_cells_are_planned_apart(example):
    edit_users(example, "cell", ["north", "south"] * 10)
    result = planned(example)
    assert [cell["cell"] for cell in result["cells"]] == ["north", "south"]
    assert result["objective"] == pytest.approx(sum(cell["objective"] for cell in result["cells"]))
    assert all(server["edge_step_latency_s"] is None for server in result["servers"])


def test_commands_for_one_server_say_so(example):
    done = call("edgesplit", "simulate", "tune", "--scenario", example / "scenario.json")
    assert "found several servers (scenario@2), accepted: scenario@1" in refused(done)


def test_one_server_leaves_the_columns_of_several_out_and_says_so(example):
    done = call("plan", "--users", example / "users.csv", "--json")
    assert "the column cluster is left out: the scenario has one server and one model" in done.stderr
    plain = json.loads(call("plan", "--users", USERS, "--json").stdout)
    result = json.loads(done.stdout)
    assert result["users"] == plain["users"]
    assert np.isclose(result["gap"], plain["gap"])


def test_a_placement_sweep_prints_draws_and_marks_the_knee(example):
    done = plan_of(example, "--placement-sweep", "3:8", "-o", example / "memory.svg")
    assert done.returncode == 0, done.stderr
    *rows, words = done.stdout.splitlines()
    assert [line.split()[0] for line in rows] == ["GB", *"345678"]
    assert words.startswith("knee of 3 to 8 GB at ")
    assert (example / "memory.svg").read_text().startswith("<?xml")
    result = planned(example, "--placement-sweep", "3:8", "-o", example / "memory.svg", "--method", "assign-exact")
    points = result["points"]
    assert (points[0]["granted"], points[0]["hosted"]) == (0, 0)  # the base alone needs 4 GB
    assert result["knee_memory_gb"] in (4, 5, 6)
    assert [point["objective"] for point in points] == sorted(point["objective"] for point in points)
    alone = planned(example, "--method", "assign-exact")  # whose servers have 6 GB
    assert points[3]["objective"] == pytest.approx(alone["objective"], rel=1e-9)


def test_a_placement_sweep_needs_several_servers(example):
    done = call("plan", "--users", USERS, "--placement-sweep", "1:2")
    assert "--placement-sweep: found a scenario of one server, accepted: one of several" in refused(done)
    both = plan_of(example, "--placement-sweep", "1:2", "--compare")
    assert "--compare, --placement-sweep: found both, accepted: one of them" in refused(both)


def random_half(fleet, users):
    """A method of one's own: every other user at the first server, with the first model."""
    granted = (np.arange(len(users)) % 2 == 0) & (np.nan_to_num(users.rate[:, 0], nan=1) > 0)
    granted &= granted.cumsum() <= fleet.servers[0].scenario.max_batch
    where = np.where(granted, 0, -1)
    return FleetPlan(granted, np.where(granted, fleet.min_local_steps, fleet.total_steps), server=where, model=where)


def test_an_own_method_plans_several_servers(example):
    fleet = load_fleet(example / "scenario.json")
    users = read_users(example / "users.csv", fleet)
    own, best = compare(fleet, users, {"own": random_half, "best": "assign-exact"})
    assert own.totals.objective + own.totals.gap == pytest.approx(best.totals.optimum_objective)
    assert set(own.users["server"]) == {"", "edge-1"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server": 9}, "found granted at no server that its link reaches"),
        ({"server": 2}, "found a model that its server does not host|found granted at no server"),
        ({"model": 9}, "found granted at no server that its link reaches"),
        ({"local_steps": 0}, "found local_steps 0, accepted: min_local_steps = 80"),
    ],
)
def test_an_impossible_plan_is_refused_with_its_user(example, changes, words):
    fleet = load_fleet(example / "scenario.json")
    fleet = replace(fleet, servers=tuple(replace(server, hosts=(0, 3)) for server in fleet.servers))
    users = read_users(example / "users.csv", fleet)

    def spoilt(fleet, users):
        made = random_half(fleet, users)
        arrays = {name: getattr(made, name).copy() for name in changes}
        for name, value in changes.items():
            arrays[name][np.flatnonzero(made.granted)[0]] = value
        if "server" in changes and changes["server"] == 2:
            arrays["model"] = np.where(made.granted, 1, -1)
        return replace(made, **arrays)

    with pytest.raises(InputError, match=words):
        plan(fleet, users, spoilt)


def test_links_of_another_shape_are_refused(example):
    fleet = load_fleet(example / "scenario.json")
    users = read_users(example / "users.csv", fleet)
    with pytest.raises(InputError, match=r"rate: found an array of shape \(20, 2\), accepted: \(20, 3\), or None"):
        plan(fleet, replace(users, rate=users.rate[:, :2]))


def test_more_models_than_fit_and_more_users_than_are_granted_are_refused(example):
    fleet = load_fleet(example / "scenario.json")
    users = read_users(example / "users.csv", fleet)
    one = replace(fleet.servers[0], scenario=replace(fleet.servers[0].scenario, max_batch=2))
    few = replace(fleet, servers=(one, *fleet.servers[1:]))
    with pytest.raises(InputError, match="found more users at its server than max_batch"):
        plan(few, users, lambda _, users: random_half(fleet, users))

    def all_models(fleet, users):
        made = random_half(fleet, users)
        return replace(made, model=np.where(made.granted, made.granted.cumsum() % 3, -1))

    with pytest.raises(InputError, match="found more models at its server than fit into its memory"):
        plan(fleet, users, all_models)

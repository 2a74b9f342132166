"""Several servers over time: one server is today's run, servers apart are runs apart, and a slow stepper agrees."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from commands import call_root, refused
from fleets import make_fleet, make_model, make_server, random_fleet, random_fleet_users
from oracles import make_users
from stepper import DT, stepped
from worlds import random_fleet_world, random_world

from edgesplit import draw_world, load_fleet, read_users, simulate
from edgesplit.optimizer.methods.assignment.baselines import greedy, nearest, server_by_server
from edgesplit.optimizer.methods.assignment.search import assign, placed
from edgesplit.optimizer.model.servers import NOWHERE, evaluate, memory_used, single
from edgesplit.service import outcome
from edgesplit.service.comparison import find_way, play_way
from edgesplit.service.price_file import load_prices
from edgesplit.service.scheduler import RULES, Load, aware, blind, decide, decide_several, price
from edgesplit.service.simulator import Requests, Simulation, World, decider

ALL_RULES = {**RULES, "trained": load_prices().rule()}
SETTINGS = [{}, {"physics": "queue"}, {"device_queueing": True, "decode_s": 0.3}, {"step_overhead_s": 0.004}]


def several(rule, **more):
    return partial(decide_several, rule=rule, **more)


def played(world, rule, **more):
    return Simulation(world, counts_steps=True).run(decider(world, several(rule, **more)))


def equal(first, second):
    for name, values in vars(first).items():
        assert np.array_equal(values, getattr(second, name), equal_nan=values.dtype.kind == "f"), name


@pytest.mark.parametrize("name", ALL_RULES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_one_server_with_one_model_is_todays_run(name, settings):
    """Byte for byte, whatever was decided, and with GPUs that bound what they hold."""
    rule = ALL_RULES[name]
    for seed in range(10):
        world, _, _ = random_world(np.random.default_rng([31, seed]), images_each=3, **settings)
        own = Simulation(world, counts_steps=True).run(decider(world, partial(decide, rule=rule)))
        fleet = replace(world, scenario=single(world.scenario), images_each=(3,))
        equal(played(fleet, rule), own)
        linked = replace(fleet, users=replace(world.users, rate=np.full((len(world.users), 1), np.nan)))
        equal(played(linked, rule), own)


@pytest.mark.parametrize("name", RULES)  # `trained` sees how many requests there are at all servers
def test_servers_that_share_no_user_are_as_many_simulations(name):
    rng, rule = np.random.default_rng(32), ALL_RULES[name]
    places = [make_server("north", gpus=2, max_batch=4), make_server("south", gpus=8, bandwidth_hz=5e6)]
    users = make_users(rng.uniform(0.02, 0.2, 12), rng.uniform(1, 20, 12))
    south = np.arange(12) % 2 == 1
    rate = np.column_stack([np.where(south, 0, np.nan), np.where(south, np.nan, 0)])
    asked = Requests(time_s=np.sort(rng.uniform(0, 8, 40)), user=rng.integers(0, 12, 40), patience_s=np.full(40, 30.0))
    whole = World(scenario=make_fleet(places), users=replace(users, rate=rate), requests=asked)
    records = played(whole, rule)
    for m, place in enumerate(places):
        own = south[asked.user] == m
        part = replace(asked, time_s=asked.time_s[own], user=asked.user[own], patience_s=asked.patience_s[own])
        world = World(scenario=place.scenario, users=users, requests=part)
        alone = Simulation(world, counts_steps=True).run(decider(world, partial(decide, rule=rule)))
        for field in ("granted", "local_steps", "decided_s", "left_s", "arrived_s", "ended_s", "batch", "sending"):
            assert np.array_equal(getattr(records, field)[own], getattr(alone, field), equal_nan=True), field


@pytest.mark.parametrize(("name", "method"), [("nearest", nearest), ("server-by-server", server_by_server),
                                              ("greedy", greedy), ("assign", assign)])  # fmt: skip
def test_an_empty_load_gives_the_methods_plan(name, method):
    rng = np.random.default_rng(33)
    for _ in range(30):
        fleet, users = random_fleet(rng, 2, 2), random_fleet_users(rng, 6, 2)
        loads = [Load(gpus=server.scenario.gpus) for server in fleet.servers]
        plan = method(fleet, users)
        for made in (
            decide_several(fleet, loads, users, price, method=method),
            find_way(name).plan_several(fleet, loads, users, images_each=None),
        ):
            for field in ("granted", "local_steps", "server", "model"):
                assert np.array_equal(getattr(made, field), getattr(plan, field)), field


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_a_slow_stepper(seed, settings):
    """With images of models that take turns, and links of all kinds."""
    rng = np.random.default_rng([34, seed])
    world = random_fleet_world(rng, models=3, **settings)
    if seed == 1:
        world = replace(world, requests=replace(world.requests, patience_s=rng.uniform(0, 6, len(world.requests))))
    records = played(world, blind)
    assert seed == 1 or records.granted.any()
    decisions = records.granted, records.local_steps, records.server, records.model
    ended, left, arrived = stepped(world, *(part.tolist() for part in decisions))
    assert np.allclose(records.ended_s, ended, rtol=1e-3, atol=3 * DT)
    done = ~records.given_up & records.granted
    assert np.allclose(records.left_s[done], left[done], atol=10 * DT)
    assert np.allclose(records.arrived_s[done], arrived[done], atol=10 * DT)


@pytest.mark.parametrize("name", ALL_RULES)
def test_every_round_keeps_what_servers_grant_reach_and_hold(name):
    for seed in range(20):
        world = random_fleet_world(np.random.default_rng([35, seed]), servers=3, requests=30)
        records = played(world, ALL_RULES[name])
        for m, server in enumerate(world.scenario.servers):
            here = records.server == m
            assert np.bincount(world.round_of[here], minlength=1).max() <= server.scenario.max_batch
            assert set(records.model[here].tolist()) <= set(server.hosts)
            assert np.all(world.rate[here, m] > 0)
        assert np.array_equal(records.granted, records.server != NOWHERE)


def test_the_total_is_what_happened_recomputed_from_the_rows():
    for seed in range(10):
        world = random_fleet_world(np.random.default_rng([36, seed]), models=3)
        run = play_way(world, find_way("price"), 0)
        rows, fleet, total = run.rows, world.scenario, 0.0
        named = {model.name: model for model in fleet.models}
        for i, user in enumerate(world.requests.user):
            n, name = rows["local_steps"][i], rows["model"][i]
            pai = fleet.pai.value(fleet.total_steps)
            if name:
                model, cluster = named[name], world.users.cluster[user]
                curve = model.pai if not model.clusters or cluster in model.clusters else model.pai_others
                pai += curve.value(n) - curve.value(fleet.total_steps)
            parts = sum(rows[part][i] for part in ("wait_s", "edge_s", "transmit_s", "local_s"))
            total += world.users.alpha[user] * float(pai) - parts
        assert total == pytest.approx(float(np.sum(rows["qoe"])))


def test_in_one_round_the_plan_is_the_worst_case():
    for seed in range(20):
        world = random_fleet_world(np.random.default_rng([37, seed]), models=3, requests=6)
        first = replace(world, requests=replace(world.requests, time_s=np.sort(world.requests.time_s / 5.1)))
        records = played(first, blind)
        happened, planned = outcome.realised(first, records), outcome.planned(first, records)
        assert np.all(happened.edge_s <= planned.edge_s + 1e-9)


def test_users_without_a_server_in_reach_are_local():
    world = random_fleet_world(np.random.default_rng(38), requests=30)
    lonely = world.users.rate.copy()
    lonely[:3] = 0
    world = replace(world, users=replace(world.users, rate=lonely))
    records = played(world, aware)
    assert not records.granted[world.requests.user < 3].any()


def test_a_busy_server_and_its_models_are_left_to_others():
    """The round's users go to the idle one of two equal servers; and to the model that is in flight already."""
    scenario = {"gpus": 2, "max_batch": 4}
    models = [make_model("first"), make_model("second", base=1)]
    fleet = make_fleet([make_server("a", (0, 1), **scenario), make_server("b", (0, 1), **scenario)], models)
    users = make_users(np.full(2, 0.3), 5.0)
    made = decide_several(fleet, [Load(40, 10, 2, models=(0,)), Load(gpus=2)], users)
    assert made.server.tolist() == [1, 1]
    one = replace(fleet, servers=fleet.servers[:1])
    assert decide_several(one, [Load(4, 0, 2, models=(1,))], users).model.tolist() == [1, 1]
    assert decide_several(one, [Load(4, 0, 2, models=(1,))], users, blind).model.tolist() == [0, 0]
    assert not decide_several(one, [Load(gpus=0)], users).granted.any()


def test_placed_servers_hold_the_models_of_the_best_plan():
    rng = np.random.default_rng(39)
    for _ in range(30):
        fleet, users = random_fleet(rng, 2, 3), random_fleet_users(rng, 8, 2)
        kept = placed(fleet, users)
        for before, after in zip(fleet.servers, kept.servers, strict=True):
            assert set(after.hosts) <= set(before.hosts)
            size = fleet.sizes[list(after.hosts)].sum()
            assert size <= before.memory
            assert after == before or size < fleet.sizes[list(before.hosts)].sum()
        plan = assign(kept, users)
        assert np.all(memory_used(kept, users, plan) <= [server.memory for server in kept.servers])
        assert gain(kept, users) == pytest.approx(gain(fleet, users))


def gain(fleet, users):
    return evaluate(fleet, users, assign(fleet, users)).qoe.sum()


# -- the command --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several") / "mine"
    assert call_root("plan", "init", folder, "--servers", "3").returncode == 0
    return folder


def test_the_command_says_what_every_server_did(files, tmp_path):
    options = ["--scenario", files / "scenario.json", "--users", files / "users.csv", "--rounds", "8"]
    compared = ["--compare", "price,nearest,server-by-server,greedy", "--worlds", "2", "-o", tmp_path / "out", "--json"]
    result = call_root("simulate", *options, *compared)
    assert result.returncode == 0, result.stderr
    assert "hindsight is left out" in result.stderr
    found = json.loads(result.stdout)
    assert set(found["servers"]) == {"price", "nearest", "server-by-server", "greedy"}
    rows = pd.concat([pd.read_parquet(tmp_path / "out" / "requests" / f"price-000{n}.parquet") for n in range(2)])
    for entry in found["servers"]["price"]:
        assert set(entry) == {"server", "requests", "share", "gpu_use", "radio_use"}
        assert entry["requests"] == (rows["server"] == entry["server"]).sum()
        assert entry["share"] == entry["requests"] / len(rows)
    assert set(rows["model"]) <= {"", "animals", "faces", "things", "everything"}
    assert np.array_equal(rows["granted"], rows["server"] != "")
    again = call_root("simulate", *options, *compared)
    assert json.loads(again.stdout) == found
    told = call_root("simulate", *options, "--goal", "mean_pai > 0", "--log", "-o", tmp_path / "logged")
    assert "edge-3" in told.stdout
    assert all(len(line) <= 80 for line in told.stdout.splitlines())
    calls = [json.loads(line) for line in (tmp_path / "logged" / "calls.jsonl").read_text().splitlines()]
    assert all(len(call["load"]) == 3 for call in calls)


def test_users_that_are_drawn_have_clusters_and_links(files, tmp_path):
    result = call_root("simulate", "--scenario", files / "scenario.json", "--rounds", "8", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    rows = pd.read_parquet(tmp_path / "out" / "requests" / "price-0000.parquet")
    assert set(rows["server"]) == {"", "edge-1", "edge-2", "edge-3"}


def test_python_plays_the_same_world(files, tmp_path):
    options = ["--scenario", files / "scenario.json", "--users", files / "users.csv", "--rounds", "8"]
    assert call_root("simulate", *options, "-o", tmp_path / "out").returncode == 0
    rows = pd.read_parquet(tmp_path / "out" / "requests" / "price-0000.parquet")
    fleet = load_fleet(files / "scenario.json")
    run = simulate(draw_world(fleet, rounds=8, users=read_users(files / "users.csv", fleet)))
    assert np.array_equal(run.rows["qoe"], rows["qoe"])
    own = simulate(draw_world(fleet, rounds=8, users=read_users(files / "users.csv", fleet)), price)
    assert np.array_equal(own.rows["qoe"], rows["qoe"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "exact"], "--method exact: found several servers, accepted: a price rule or a method for"),
        (["--gpus", "4"], "--gpus: found a scenario of several servers"),
        (["--gpus", "1:4", "--goal", "mean_pai > 0"], "--gpus: found a scenario of several servers"),
        (["--gpus-over-time", "random:5,2,4"], "--gpus-over-time: found a scenario of several servers"),
        (["--bandwidth-mhz", "4"], "--bandwidth-mhz: found a scenario of several servers"),
    ],
)
def test_what_several_servers_do_not_take_is_refused_in_one_line(files, options, said):
    assert said in refused(call_root("simulate", "--scenario", files / "scenario.json", *options))


def test_own_steps_and_tuning_are_for_one_server(files, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,total_steps\n0.5,30\n")
    line = refused(call_root("simulate", "--scenario", files / "scenario.json", "--arrivals", trace))
    assert "found the column total_steps with several servers" in line
    assert "found several servers" in refused(call_root("simulate", "tune", "--scenario", files / "scenario.json"))

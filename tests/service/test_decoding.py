"""Decoding on the users' devices: part of their latency over time where their profiles know it, and of no decision."""

import json
from dataclasses import replace

import numpy as np
import pytest
from commands import call_root

from edgesplit.fitting.library import load_profile
from edgesplit.optimizer.inputs.scenario import resolve_scenario
from edgesplit.optimizer.inputs.users import read_users
from edgesplit.optimizer.planner import plan
from edgesplit.service.comparison import find_way, play_way
from edgesplit.service.store import world_digest
from edgesplit.service.worlds import make_world, read_settings

KNOWN = {"RTX 4090": 0.031, "RTX 3060": 0.0}
"""Devices, and the seconds in which they decode a picture; none are published of the second."""


@pytest.fixture
def users(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("user_id,device,step_latency_s\na,RTX 4090,\nb,RTX 3060,\nc,,0.2\n")
    return path


def settings_of(users, **more):
    return read_settings(resolve_scenario("default"), "poisson:4", users, None, 20.0, 1.0, seed=1, **more)


def test_profiles_know_what_is_published():
    for device, seconds in KNOWN.items():
        assert (load_profile(device).decode_s or 0.0) == seconds


def test_the_latency_of_every_request_holds_its_device_s_decoding_and_decisions_do_not(users):
    settings = settings_of(users)
    world, without = make_world(settings, 0), make_world(replace(settings, decode_s=0.0), 0)
    own = np.array([KNOWN["RTX 4090"], 0.0, 0.0])[world.requests.user]
    assert 0 < (own > 0).sum() < own.size
    way = find_way("price")
    one, other = play_way(world, way, 0), play_way(without, way, 0)
    assert np.array_equal(one.rows["local_steps"], other.rows["local_steps"])
    np.testing.assert_allclose(one.rows["latency_s"] - other.rows["latency_s"], own, atol=1e-9)
    np.testing.assert_allclose(one.rows["planned_local_s"] - other.rows["planned_local_s"], own, atol=1e-9)


def test_without_a_device_that_says_everything_is_as_before(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("user_id,device\na,RTX 3060\nb,RTX 2060\n")
    settings = settings_of(path)
    assert settings.users.decode_s is None
    world = make_world(settings, 0)
    assert (world.decode_s, world_digest(world)) == (0.0, world_digest(make_world(settings_of(path, decode_s=0.0), 0)))


def test_worlds_that_differ_in_decoding_alone_have_digests_of_their_own(users):
    options = ({}, {"decode_s": 0.0}, {"decode_s": 0.1})
    assert len({world_digest(make_world(settings_of(users, **more), 0)) for more in options}) == 3


def test_a_plan_of_one_round_knows_no_decoding(users):
    scenario = resolve_scenario("default").scenario
    own = read_users(users, scenario)
    one, other = plan(scenario, own).plan, plan(scenario, replace(own, decode_s=None)).plan
    assert np.array_equal(one.local_steps, other.local_steps)
    assert np.array_equal(one.granted, other.granted)


@pytest.mark.parametrize(("options", "mean"), [((), True), (("--decode-s", "0"), False), (("--decode-s", "0.5"), 0.5)])
def test_simulate_says_what_decoding_takes(users, options, mean):
    found = call_root("simulate", "--users", users, "--rounds", "5", *options, "--json")
    result = json.loads(found.stdout)
    if mean is True:
        assert 0 < result["mean_decode_s"] < 0.031
    else:
        assert result.get("mean_decode_s", False) == mean
    shown = call_root("simulate", "--users", users, "--rounds", "5", *options).stdout
    assert ("every latency holds the decoding on the device" in shown) == bool(mean)

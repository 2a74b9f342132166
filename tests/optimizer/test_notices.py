"""What `plan` says of parameter files that do not go together, or that hide shipped ones."""

import json

import pytest
from commands import call

from edgesplit import data
from edgesplit.fitting.library import load_profile
from edgesplit.optimizer.inputs.notices import workload_notices

USERS = data.sample("users.csv")
EDGE = load_profile("h100-nvl")


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """The user's own data folder, where `save` puts a changed copy of a shipped profile."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    def save(shipped, **changes):
        folder = tmp_path / "edgesplit" / "profiles"
        folder.mkdir(parents=True, exist_ok=True)
        record = json.loads(data.shipped("profiles")[shipped].read_text()) | changes
        (folder / f"{record['name']}.json").write_text(json.dumps(record))

    return save


def other(name, **changes):
    return load_profile(name).model_copy(update={"name": "mine", **changes})


def test_the_shipped_files_of_the_edge_s_network_need_no_notice():
    shipped = [load_profile(name) for name in data.shipped("profiles")]
    same = [profile for profile in shipped if profile.model.startswith("SD1")]
    assert len(same) > 40
    assert list(workload_notices(EDGE, same)) == []
    assert len(list(workload_notices(EDGE, shipped))) == len({p.model for p in shipped} - {p.model for p in same}) == 3
    assert "profile" not in call("plan", "--users", USERS).stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "SDXL"}, "SDXL at 512 pixels with guidance"),
        ({"resolution": 768}, "at 768 pixels with guidance"),
        ({"guidance": False}, "at 512 pixels without guidance"),
    ],
)
def test_profiles_of_different_work_are_named_both(changes, words):
    (notice,) = workload_notices(EDGE, [load_profile("rtx-4090"), other("rtx-4090", **changes)])
    assert "the edge's profile h100-nvl is of SD1.5 at 512 pixels with guidance" in notice
    assert "the profile mine of" in notice
    assert words in notice


def test_many_profiles_of_the_same_other_work_are_one_notice():
    devices = [other("rtx-4090", model="SDXL"), other("rtx-3090", model="SDXL"), other("rtx-3060", model="sdxl")]
    (notice,) = workload_notices(EDGE, devices)
    assert "the profile mine and 2 more" in notice


@pytest.mark.parametrize("name", ["rtx-4090", "h100-nvl"])
def test_an_own_profile_in_place_of_a_shipped_one_is_announced_in_every_plan(own_data, name):
    own_data(name)
    talk = call("plan", "--users", USERS).stderr
    assert f"plan: {name} is your own file " in talk
    assert talk.count("in place of the shipped one of that name") == 1


def test_an_own_profile_of_a_new_name_is_not(own_data):
    own_data("rtx-4090", name="my-card")
    assert "your own file" not in call("plan", "--users", USERS, "--edge", "my-card").stderr


def test_an_implausible_curve_or_edge_is_doubted_in_every_plan(tmp_path):
    curve = json.loads(data.shipped("pai")["toyworld"].read_text())
    for point in curve["points"]:
        point["clip"] *= 100
    (tmp_path / "curve.json").write_text(json.dumps(curve))
    edge = json.loads(data.shipped("profiles")["h200"].read_text())
    edge["fit"] |= {"slope_s": 80.0}
    (tmp_path / "edge.json").write_text(json.dumps(edge))
    talk = call("plan", "--users", USERS, "--pai", tmp_path / "curve.json", "--edge", tmp_path / "edge.json").stderr
    assert "is this CLIP on a scale of 0 to 100?" in talk
    assert "edge profile h200: one step of one image takes 80" in talk
    assert "?" not in call("plan", "--users", USERS, "--pai", "toyworld", "--edge", "h200").stderr


def test_a_step_of_minutes_asks_for_the_unit(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("user_id,step_latency_s\nada,500\nbo,0.5\ncy,61\n")
    talk = call("plan", "--users", path).stderr
    assert "plan: a step of user 'ada' and 1 more takes 500 s: are milliseconds meant?" in talk
    path.write_text("user_id,step_latency_s\nbo,12\n")
    assert "milliseconds" not in call("plan", "--users", path).stderr

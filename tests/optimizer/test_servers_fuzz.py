"""Fuzz of several servers: whatever a scenario or a users file holds, it is a plan of finite numbers or one line."""

import json

import numpy as np
import pytest
from fleets import make_fleet, make_model, make_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesplit.common.errors import InputError
from edgesplit.fitting.latency import LatencyModel
from edgesplit.fitting.pai import PaiCurve
from edgesplit.optimizer.inputs.example import example_files
from edgesplit.optimizer.inputs.fleet import resolve_system
from edgesplit.optimizer.inputs.users import read_users
from edgesplit.optimizer.model.qoe import Users
from edgesplit.optimizer.planner import compare, plan

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FILES = example_files(3)
VALUE = st.one_of(
    st.sampled_from([None, True, 0, -1, 1, 0.5, 1e9, 1e13, "", "none", "faces", "nope", "choose", [], ["faces"], {}]),
    st.integers(-2, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
LINKS = st.one_of(
    st.sampled_from(
        ["", "none", "edge-1", "edge-1:0", "edge-2:1e-12", "edge-3:1e6", "edge-1 edge-1:2", ":", "edge-1:"]
    ),
    st.text(max_size=12),
)
FAST = ("assign", "assign-exact", "greedy", "server-by-server", "nearest")


def places_in(value, path=()):
    """The path of every value in a JSON object."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_in(value[key], (*path, key))


PLACES = [path for path in places_in(json.loads(FILES["scenario.json"])) if path]


def write_files(folder):
    for name, text in FILES.items():
        (folder / name).write_text(text)


def must_plan_or_refuse(folder):
    try:
        resolved = resolve_system(str(folder / "scenario.json"))
        users = read_users(folder / "users.csv", resolved.for_alpha)
    except InputError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1500
        return
    outcome = plan(resolved.scenario, users)
    assert all(np.isfinite(column).all() for column in vars(outcome.evaluation).values())
    assert outcome.totals.gap >= 0


@FUZZ
@given(place=st.sampled_from(PLACES), value=VALUE, missing=st.booleans())
def test_a_fuzzed_scenario_of_several_servers(tmp_path, place, value, missing):
    write_files(tmp_path)
    content = json.loads(FILES["scenario.json"])
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    if missing:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    (tmp_path / "scenario.json").write_text(json.dumps(content))
    must_plan_or_refuse(tmp_path)


@FUZZ
@given(links=st.lists(LINKS, min_size=1, max_size=4), cluster=st.text(max_size=4))
def test_fuzzed_links(tmp_path, links, cluster):
    write_files(tmp_path)
    cells = (f'"{text}"'.replace("\0", "") for text in (link.replace('"', '""') for link in links))
    rows = "".join(f"u{i},0.3,{json.dumps(cluster)},{cell}\n" for i, cell in enumerate(cells))
    (tmp_path / "users.csv").write_text(
        "user_id,step_latency_s,cluster,servers\n" + rows, encoding="utf-8", errors="replace", newline=""
    )
    must_plan_or_refuse(tmp_path)


@pytest.mark.parametrize("seed", range(60))
def test_numbers_of_any_size_are_planned_and_no_plan_beats_the_bound(seed):
    """What the readers let through spans 24 orders of magnitude."""
    rng = np.random.default_rng([5, seed])

    def any_size(low=-12, high=12):
        return float(10 ** rng.uniform(low, high))

    curve = PaiCurve(any_size(-6, 2), float(rng.uniform(-50, 250)), any_size(-3, 1))
    servers = [
        make_server(
            name=f"server-{m}", hosts=(0, 1), edge=LatencyModel(any_size(-12, 2), any_size(-12, 2)), pai=curve,
            gpus=int(any_size(0, 4)), max_batch=int(any_size(0, 2)) + 1, bandwidth_hz=any_size(),
            latent_bits=any_size(),
        )
        for m in range(3)
    ]  # fmt: skip
    fleet = make_fleet(servers, [make_model("one", pai=curve), make_model("other", pai=curve, base=1)])
    count = 12
    users = Users(
        10 ** rng.uniform(-6, 6, count), 10 ** rng.uniform(-12, 12, count), np.full(count, 10), np.zeros(count, int),
        rate=np.where(rng.random((count, 3)) < 0.3, 0, 10 ** rng.uniform(-12, 6, (count, 3))),
    )  # fmt: skip
    for outcome in compare(fleet, users, FAST):
        assert outcome.totals.gap >= 0
        assert np.isfinite(outcome.evaluation.qoe).all()

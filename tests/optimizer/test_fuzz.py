"""Fuzz of the readers: whatever a file holds, it is a plan of finite numbers or one line, never a traceback."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.fitting.library import load_curve, load_profile
from edgesplit.optimizer.inputs.scenario import NO_OVERRIDES, overrides, resolve_scenario
from edgesplit.optimizer.inputs.users import COLUMNS, read_users
from edgesplit.optimizer.planner import plan

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CELL = st.one_of(
    st.sampled_from(["", "0", "1", "-1", "0.5", "1e-9", "1e12", "1e13", "nan", "inf", "-inf", "1e999", "0x1", "1_0"]),
    st.sampled_from(["rtx-4090", "RTX 3060", "gtx1060 6gb", "nope", "../x.json", "\0.json", "x" * 300 + ".json"]),
    st.floats().map(repr),
    st.integers(-2, 12).map(str),
    st.text(max_size=8),
)
HEADER = st.one_of(
    st.permutations(COLUMNS).flatmap(lambda names: st.integers(1, 7).map(lambda k: list(names)[:k])),
    st.lists(st.one_of(st.sampled_from(COLUMNS), st.text(max_size=6)), max_size=8),
)


def must_plan_or_refuse(path, scenario=None):
    resolved = scenario or resolve_scenario("default")
    try:
        table = read_users(path, resolved.for_alpha)
    except InputError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1500
        return
    outcome = plan(resolved.scenario, table)
    numbers = [np.asarray(column) for column in vars(outcome.evaluation).values()]
    assert all(np.isfinite(column).all() for column in numbers)
    assert len(table.user_id) == len(set(table.user_id)) == len(table)


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


@FUZZ
@given(header=HEADER, rows=st.lists(st.lists(CELL, min_size=0, max_size=8), max_size=5), neat=st.booleans())
def test_fuzzed_users_table(tmp_path, header, rows, neat):
    if neat:  # rows as long as the header, with unique ids: reaches the checks of the values
        rows = [[*row, *[""] * len(header)][: len(header)] for row in rows]
        if "user_id" in header:
            for i, row in enumerate(rows):
                row[header.index("user_id")] = f"u{i}"
    lines = [",".join(map(quoted, record)) for record in [header, *rows]]
    path = tmp_path / "users.csv"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass", newline="")
    must_plan_or_refuse(path)


@FUZZ
@given(content=st.binary(max_size=200))
def test_fuzzed_users_bytes(tmp_path, content):
    path = tmp_path / "users.csv"
    path.write_bytes(content)
    must_plan_or_refuse(path)


@FUZZ
@given(
    place=st.integers(0, 2000),
    length=st.integers(0, 30),
    patch=st.one_of(st.binary(max_size=12), st.sampled_from([b",", b'"', b"\n", b"1e308", b"-", b"nan"])),
)
def test_fuzzed_edits_of_the_sample_users(tmp_path, place, length, patch):
    original = data.sample("users.csv").read_bytes()
    path = tmp_path / "users.csv"
    path.write_bytes(original[:place] + patch + original[place + length :])
    must_plan_or_refuse(path)


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
        st.sampled_from([0, -1, 1e-300, 1e300, 10**400, "paper", "h100-nvl", "\0", "\ud800", "\ud800.json"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(content, prefix=()):
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*prefix, key)
        if isinstance(value, dict | list):
            yield from places(value, (*prefix, key))


@pytest.mark.parametrize(
    ("source", "option"),
    [
        (data.shipped("scenarios")["default"], None),
        (data.shipped("profiles")["h200"], "edge"),
        (data.shipped("pai")["paper"], "pai"),
    ],
)
@FUZZ
@given(draw=st.data())
def test_fuzzed_parameter_files(tmp_path, source, option, draw):
    content = json.loads(source.read_text())
    for _ in range(draw.draw(st.integers(1, 2))):
        *path, last = draw.draw(st.sampled_from(list(places(content))))
        target = content
        for key in path:
            target = target[key]
        if draw.draw(st.booleans()):
            target[last] = draw.draw(JSON)
        elif isinstance(target, dict):
            target.pop(last)
            target[draw.draw(st.text(max_size=6))] = draw.draw(JSON)
    text = json.dumps(content)
    cut = draw.draw(st.one_of(st.none(), st.integers(0, len(text))))
    edited = tmp_path / "edited.json"
    edited.write_text(text[:cut])
    try:
        options = overrides(**{option: str(edited)}) if option else NO_OVERRIDES
        resolved = resolve_scenario("default" if option else str(edited), options)
    except InputError as error:
        assert "\n" not in str(error)
        return
    must_plan_or_refuse(data.sample("users.csv"), resolved)


@FUZZ
@given(reference=st.text(max_size=20))
def test_fuzzed_names(reference):
    for load in (load_profile, load_curve, resolve_scenario):
        try:
            load(reference)
        except InputError as error:
            assert "\n" not in str(error)

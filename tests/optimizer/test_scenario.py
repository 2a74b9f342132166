"""The scenario file and the options that override it."""

import json
import re

import pytest

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.optimizer.inputs.scenario import overrides, resolve_scenario

DEFAULT = data.shipped("scenarios")["default"]
CURVE = data.shipped("pai")["paper"]


@pytest.fixture
def edited(tmp_path):
    def edited(source, name="edited.json", **changes):
        content = json.loads(source.read_text())
        for key, value in changes.items():
            target = content
            *path, last = key.split("__")
            for part in path:
                target = target[part]
            target[last] = value
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)

    return edited


def test_default_scenario_is_the_papers():
    s = resolve_scenario("default").scenario
    assert (s.total_steps, s.min_local_steps, s.reference_batch, s.gpus) == (200, 80, 20, 8)
    assert (s.bandwidth_hz, s.spectral_efficiency, s.prompt_bits, s.latent_bits) == (1e6, 10, 216, 4.4e6)
    assert (s.pai.steepness, s.pai.midpoint) == (0.0413, 71.44)
    assert (s.interval_s, s.slots, s.max_batch) == (1, 10, 20)


def test_options_override_the_file():
    s = resolve_scenario(
        "default",
        overrides(
            edge="H200",
            gpus=2,
            max_batch=5,
            bandwidth_mhz=3.5,
            latent_bits=0.0,
            total_steps=100,
            min_local_steps=0,
        ),
    ).scenario
    assert (s.gpus, s.max_batch, s.bandwidth_hz, s.latent_bits) == (2, 5, 3.5e6, 0)
    assert (s.total_steps, s.min_local_steps) == (100, 0)
    assert s.edge.floor_s == pytest.approx(0.02547, abs=1e-5)


def test_gpus_option_does_not_move_alpha():
    resolved = resolve_scenario("default", overrides(gpus=2, max_batch=5))
    assert resolved.for_alpha.gpus == 8
    assert resolved.for_alpha.max_batch == 5


def test_a_curve_brings_its_steps_unless_options_set_them(edited):
    curve = edited(CURVE, total_steps=50, min_local_steps=21, fit__midpoint=20.5)
    taken = resolve_scenario("default", overrides(pai=curve)).scenario
    assert (taken.total_steps, taken.min_local_steps) == (50, 21)
    set_by_hand = resolve_scenario("default", overrides(pai=curve, total_steps=60)).scenario
    assert (set_by_hand.total_steps, set_by_hand.min_local_steps) == (60, 21)


def test_paths_in_a_scenario_start_at_its_folder(edited, tmp_path):
    edited(data.shipped("profiles")["rtx-4090"], "card.json")
    scenario = edited(DEFAULT, "scenario.json", edge="card.json")
    assert resolve_scenario(scenario).edge_name == "RTX 4090"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gpus": 0}, "--gpus: found 0, accepted: 1 or more"),
        ({"max_batch": -3}, "--max-batch: found -3"),
        ({"bandwidth_mhz": 0.0}, "--bandwidth-mhz: found 0.0"),
        ({"latent_bits": float("nan")}, "--latent-bits: found nan"),
        ({"total_steps": 0}, "--total-steps: found 0"),
        (
            {"total_steps": 79},
            "--total-steps, --min-local-steps: found min_local_steps 80, accepted: 0 to .* 79",
        ),
        ({"min_local_steps": 201}, "found min_local_steps 201"),
        ({"edge": "h300"}, "found 'h300', accepted: .*did you mean 'h200'"),
        ({"pai": "nowhere.json"}, "nowhere.json: cannot read"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, says):
    with pytest.raises(InputError, match=says):
        resolve_scenario("default", overrides(**options))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpus": 1.5}, "field 'gpus': found 1.5"),
        ({"radio__bandwidth_hz": 0}, "field 'radio.bandwidth_hz': found 0"),
        ({"radio__bandwith_hz": 1}, "field 'radio.bandwith_hz': unknown; did you mean 'bandwidth_hz'"),
        ({"slots": 0}, "field 'slots': found 0"),
        ({"min_local_steps": 201}, "found min_local_steps 201, accepted: 0 to total_steps, which is 200"),
        ({"edge": ""}, "field 'edge': found ''"),
        ({"edge": "a\0b.json"}, "cannot read"),
        ({"schema": "edgesplit/scenario@7"}, "newer than"),
    ],
)
def test_bad_scenarios_are_refused_in_one_line(edited, changes, says):
    with pytest.raises(InputError, match=says) as caught:
        resolve_scenario(edited(DEFAULT, **changes))
    assert "\n" not in str(caught.value)


def test_an_unknown_scenario_suggests_the_nearest():
    with pytest.raises(InputError, match=r"--scenario: found 'defualt', .*did you mean 'default'"):
        resolve_scenario("defualt")


@pytest.mark.parametrize(("field", "value"), [("steepness", 0.0), ("steepness", -0.1), ("amplitude", -0.5)])
def test_a_curve_that_does_not_rise_is_refused(edited, field, value):
    curve = edited(CURVE, **{f"fit__{field}": value})
    with pytest.raises(InputError, match=f"field 'fit.{field}': found {value}, accepted: a curve that rises"):
        resolve_scenario("default", overrides(pai=curve))


def test_notices_say_where_the_curve_is_used_outside_its_range():
    assert resolve_scenario("default").notices == []
    (mismatch,) = resolve_scenario("default", overrides(total_steps=100)).notices
    assert "measured with 200 total steps" in mismatch
    (not_concave,) = resolve_scenario("default", overrides(min_local_steps=60)).notices
    assert "Proposition 2 does not hold" in not_concave


@pytest.mark.parametrize(("gpus", "fit", "expected"), [(1, 2, 2), (3, 2, 6), (8, 2, 16), (10, 2, 20), (1, None, 20)])
def test_no_more_are_granted_than_the_memory_of_all_edge_gpus_holds(edited, gpus, fit, expected):
    edge = edited(data.shipped("profiles")["h200"], "edge.json", max_batch=fit)
    resolved = resolve_scenario("default", overrides(edge=edge, gpus=gpus))
    assert (resolved.scenario.max_batch, resolved.for_alpha.max_batch) == (expected, 20)
    says = f"one .* holds 2 images at most in its memory .*, so B_max is {expected} with {gpus} of them, not 20"
    assert len(resolved.notices) == (expected < 20)
    assert all(re.search(says, notice) for notice in resolved.notices)

"""Policies as files: read as they were written, and refused in one line where they are damaged."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from oracles import make_scenario
from policy_files import save_policy
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.common.files import read_record, write_record
from edgesplit.optimizer.agent.instances import shipped_instance
from edgesplit.optimizer.agent.policies import Case, PolicyCard, RoundUsers, load_policy

CARDS = sorted((data.FOLDER / "policies").glob("*.json"))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_is_written_as_it_was_read(path, tmp_path):
    """Byte for byte, its scenario and its users too."""
    write_record(tmp_path / "again.json", read_record(path, PolicyCard))
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_a_case_is_read_as_it_was_written():
    own = shipped_instance(4)
    case = Case(scenario=own.scenario, users=RoundUsers.of(own.users))
    for again in (Case.model_validate_json(case.model_dump_json()), Case.model_validate(case.model_dump())):
        assert again.scenario == own.scenario
        users = again.users.users()
        assert all(np.array_equal(column, vars(own.users)[name]) for name, column in vars(users).items())


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def text(path):
    path.write_text("not weights")


def drop(path):
    weights = load_file(path)
    weights.pop("head.0.weight")
    save_file(weights, path)


def rewritten(change):
    """Damage that changes the weights, in torch, whose numbers NumPy may not have."""

    def damage(path):
        weights = {name: torch.from_numpy(value) for name, value in load_file(path).items()}
        first = "encoder.0.bias"
        save_torch(weights | {first: change(weights[first])}, path)

    return damage


def field(**changes):
    """Damage of the card."""

    def damage(path):
        card = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps(card | changes))

    return damage


def no_card(path):
    path.with_suffix(".json").unlink()


def case(**changes):
    """Damage of the card's scenario."""
    return field(case={"scenario": changes["scenario"] if "scenario" in changes else SCENARIO | changes})


SCENARIO, USERS = asdict(make_scenario()), {"step_latency_s": [0.1], "alpha": [1.0], "request_slot": [1]}
EDGE = SCENARIO["edge"]
NUMBERS = "accepted: finite float16, 32 or 64"
DAMAGE = {
    "cut short": (cut, r"made\.safetensors: no policy's weights"),
    "no safetensors": (text, r"made\.safetensors: no policy's weights"),
    "a weight short": (drop, r"made\.safetensors: field 'head\.0\.weight': found shape None, accepted: \[128, 54\]"),
    "no card": (no_card, r"made\.json"),
    "network": (field(network="tree"), r"made\.json.*network"),
    "bfloat16": (rewritten(lambda x: x.bfloat16()), r"made\.safetensors: .*plan train|accepted: finite"),
    "float8": (rewritten(lambda x: x.to(torch.float8_e4m3fn)), r"made\.safetensors: .*plan train|accepted: finite"),
    "integers": (rewritten(lambda x: x.int()), f"field 'encoder.0.bias': found int32, {NUMBERS}"),
    "complex": (rewritten(lambda x: x.to(torch.complex64)), r"made\.safetensors: .*plan train|accepted: finite"),
    "nan": (rewritten(lambda x: x * np.nan), f"field 'encoder.0.bias': found a number that is not finite, {NUMBERS}"),
    "inf": (rewritten(lambda x: x / 0), f"field 'encoder.0.bias': found a number that is not finite, {NUMBERS}"),
    "unknown range": (field(range={"colour": [0, 1]}), r"made\.json: field 'range\.colour"),
    "one bound": (field(range={"users": [1]}), r"made\.json: field 'range\.users"),
    "unknown field": (field(scenario={}), r"made\.json: field 'scenario': unknown"),
    "scenario without numbers": (case(scenario={}), r"made\.json: field 'case\.scenario\.edge': missing"),
    "scenario of text": (
        case(gpus="8"),
        r"made\.json: field 'case\.scenario\.gpus': found '8', accepted: a whole number",
    ),
    "half a GPU": (case(gpus=8.5), r"made\.json: field 'case\.scenario\.gpus': found 8\.5, accepted: a whole number"),
    "no GPU": (case(gpus=0), r"made\.json: field 'case\.scenario': .*gpus of 1 or more, not 0"),
    "more local steps than steps": (case(min_local_steps=201), r"made\.json: .*min_local_steps from 0 to total_steps"),
    "unknown number": (case(colour=1), r"made\.json: field 'case\.scenario\.colour'"),
    "unknown edge": (case(edge={"slope": 1}), r"made\.json: field 'case\.scenario\.edge\.slope"),
    "text for a slope": (
        case(edge=EDGE | {"slope_s": "0"}),
        r"made\.json: field 'case\.scenario\.edge\.slope_s': found '0'",
    ),
    "null for an edge": (case(edge=None), r"made\.json: field 'case\.scenario\.edge': found None"),
    "infinite bandwidth": (case(bandwidth_hz=1e999), r"made\.json: .*(Infinity|finite)"),
    "scenario as a list": (field(case={"scenario": []}), r"made\.json: field 'case\.scenario': found \[\]"),
    "a slot of a half": (field(case={"scenario": SCENARIO, "users": USERS | {"request_slot": [0.5]}}), r"request_slot"),
    "specific without a round": (field(scope="specific"), r"made\.json: .*with scope specific also case\.users"),
    "flat without a range": (field(network="flat", places=30, range={}), r"made\.json: .*flat network also range\."),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_bad_policies_are_one_line(tmp_path, damage):
    path, (change, says) = save_policy(tmp_path), DAMAGE[damage]
    load_policy(str(path))
    change(path)
    with pytest.raises(InputError, match=says) as caught:
        load_policy(str(path))
    assert "\n" not in str(caught.value)


def test_another_architecture_is_one_line(tmp_path):
    path = save_policy(tmp_path, "flat", places=20)
    shapes = r"field .layers\.0\.weight.: found shape \[256, 186\], accepted: \[256, 126\]"
    with pytest.raises(InputError, match=shapes):
        load_policy(str(path))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="set-general"):
        load_policy("set-genral")

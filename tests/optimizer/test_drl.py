"""Planning with policies: NumPy as torch, any order of users, ranges and bad files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import make_scenario, make_users
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.common.files import write_record
from edgesplit.fitting.pai import PaiCurve
from edgesplit.fitting.schemas import Provenance
from edgesplit.optimizer.dqn import make_network, roll_out
from edgesplit.optimizer.drl import decide, drl_convex, fall_backs, fixed_numbers, instance_key, out_of_range
from edgesplit.optimizer.env import PLACES, make_tables
from edgesplit.optimizer.exact import optimum
from edgesplit.optimizer.instances import Instance, Range, broad_instance, default_scenario, paper_instance
from edgesplit.optimizer.policies import Policy, PolicyCard, load_policy
from edgesplit.optimizer.qoe import Users
from edgesplit.optimizer.scores import value_of
from edgesplit.optimizer.tasks import shipped_instance

SHIPPED = sorted(path.stem for path in (data.FOLDER / "policies").glob("*.safetensors"))


def card(network="set", **changes):
    flat = network == "flat"
    values = {
        "name": "made",
        "network": network,
        "scope": "general",
        "preset": "paper" if flat else "set",
        "places": PLACES if flat else None,
        "gpus": None,
        "scenario": fixed_numbers(default_scenario()) if flat else None,
        "seeds": 1,
        "steps": 1,
        "minutes": 0.0,
        "scores": [],
        "provenance": Provenance(kind="measured", source="a test", date="2026-11-23", versions={}, notes=[]),
    }
    return PolicyCard(**(values | changes))


def random_policy(network, seed=0, **changes):
    torch.manual_seed(seed)
    made = make_network(network, PLACES)
    for values in made.parameters():  # a fresh network nearly always prefers one action
        torch.nn.init.normal_(values, std=0.3)
    weights = {name: value.numpy().astype(float) for name, value in made.state_dict().items()}
    return made, Policy(card(network, **changes), weights)


def in_cells(instances):
    """The users of several rounds of one scenario as cells."""
    columns = [[getattr(i.users, name) for i in instances] for name in ("step_latency_s", "alpha", "request_slot")]
    cell = np.repeat(np.arange(len(instances)), [len(i.users) for i in instances])
    return Users(*(np.concatenate(column) for column in columns), cell)


@pytest.mark.parametrize("network", ["flat", "set"])
def test_numpy_decides_as_torch(network):
    """The torch network acting in the environment, and NumPy, from the same weights: one value on every instance."""
    rng = np.random.default_rng(2)
    draw = (lambda: paper_instance(rng, Range(users=(1, 30)))) if network == "flat" else (lambda: broad_instance(rng))
    instances = [draw() for _ in range(60)]
    different = set()
    for seed in range(5):
        made, policy = random_policy(network, seed)
        flat = network == "flat"
        values = roll_out(made, network, make_tables(instances, PLACES if flat else None, canonical=not flat))
        ours = [value_of(i, drl_convex(i.scenario, i.users, policy)) for i in instances]
        assert values == pytest.approx(np.array(ours), rel=1e-6, abs=1e-6)
        different |= set(np.round(ours, 6))
    assert len(different) > 50  # the policies decide something


@pytest.mark.parametrize("name", SHIPPED)
def test_numpy_networks_equal_torch(name):
    from edgesplit.optimizer import policies

    policy = load_policy(name)
    network = make_network(policy.card.network, policy.card.places or 0)
    network.load_state_dict({key: torch.from_numpy(value).float() for key, value in policy.weights.items()})
    rng = np.random.default_rng(0)
    if policy.card.network == "flat":
        local, status, fixed = rng.random((9, PLACES, 3)), rng.integers(0, 4, (9, PLACES)), rng.random((9, 6))
        ours = policies.flat_q(policy.weights, local, status, fixed)
        state = {"local": local, "status": status, "fixed": fixed}
    else:
        gains, current, fixed = rng.random((9, 12, 5)), rng.random((9, 5)), rng.random((9, 6))
        masks = {"pending": rng.random((9, 12)) < 0.5, "granted": rng.random((9, 12)) < 0.3}
        encoded = policies.set_encoding(policy.weights, gains)
        pools = [
            (encoded * mask[:, :, None]).sum(axis=1) / np.maximum(mask.sum(axis=1, keepdims=True), 1)
            for mask in masks.values()
        ]
        ours = policies.set_q(policy.weights, current, *pools, fixed)
        state = {"gains": gains, "current": current, "fixed": fixed} | masks
    tensors = {k: torch.from_numpy(v if v.dtype == np.int64 else v.astype(np.float32)) for k, v in state.items()}
    with torch.no_grad():
        theirs = network(tensors).numpy()
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_the_order_of_users_does_not_matter_to_set_policies():
    rng = np.random.default_rng(4)
    for trial in range(40):
        instance = broad_instance(rng, (1, 80))
        order = rng.permutation(len(instance.users))
        plans = [
            drl_convex(instance.scenario, users, random_policy("set", trial)[1])
            for users in (instance.users, instance.users.take(order))
        ]
        assert np.array_equal(plans[0].local_steps[order], plans[1].local_steps)


def test_only_the_order_of_equal_users_decides_between_them():
    users = make_users([0.5] * 8, 30.0)
    plan = drl_convex(make_scenario(max_batch=3), users)
    assert plan.granted.sum() in {int(optimum(make_scenario(max_batch=3), users).granted.sum()), 3}
    assert np.array_equal(np.sort(plan.granted)[::-1], plan.granted)  # the first in the file


@pytest.mark.parametrize("network", ["flat", "set"])
def test_cells_are_planned_as_if_alone(network):
    rng, policy = np.random.default_rng(6), random_policy(network)[1]
    instances = [paper_instance(rng, Range(users=(1, 40), gpus=(8,))) for _ in range(30)]
    together = drl_convex(default_scenario(), in_cells(instances), policy)
    alone = [drl_convex(default_scenario(), instance.users, policy).granted for instance in instances]
    assert np.array_equal(together.granted, np.concatenate(alone))


def test_limits_of_plans():
    rng = np.random.default_rng(8)
    for trial in range(40):
        instance = broad_instance(rng, (1, 60))
        plan = drl_convex(instance.scenario, instance.users, random_policy("set", trial)[1])
        assert plan.granted.sum() <= instance.scenario.max_batch
        assert np.all(plan.local_steps[~plan.granted] == instance.scenario.total_steps)
        assert np.all(plan.local_steps >= instance.scenario.min_local_steps)


@pytest.mark.parametrize("users", [1, 2, 500])
@pytest.mark.parametrize("alpha", [0.0, 20.0, 1e9])
def test_the_default_plans_everything(users, alpha):
    rng = np.random.default_rng(users)
    round_ = make_users(rng.uniform(0.02, 0.5, users), alpha)
    instance = Instance(make_scenario(), round_)
    best = value_of(instance, optimum(instance.scenario, round_))
    assert value_of(instance, drl_convex(instance.scenario, round_)) >= 0.95 * best - 1e-9


OTHER = {
    "31 users, trained for 30": (make_scenario(), 31),
    "total_steps 100, trained for 200": (make_scenario(total_steps=100), 5),
    "midpoint 60, trained for": (make_scenario(pai=PaiCurve(0.0413, 60.0)), 5),
    "max_batch 4, trained for 20": (make_scenario(max_batch=4), 5),
    "4 GPUs, trained for 8": (make_scenario(gpus=4), 5),
}


@pytest.mark.parametrize("reason", OTHER)
def test_out_of_range_is_planned_exactly(reason):
    scenario, count = OTHER[reason]
    policy = random_policy("flat", scenario=fixed_numbers(make_scenario()), gpus=[8])[1]
    users = make_users(np.linspace(0.1, 0.5, count), 20.0)
    assert out_of_range(policy, make_scenario(), users.take(slice(0, 5))) is None
    assert list(fall_backs(policy, scenario, users)) == [pytest.approx(out_of_range(policy, scenario, users))]
    assert out_of_range(policy, scenario, users).startswith(reason)
    assert np.array_equal(drl_convex(scenario, users, policy).local_steps, optimum(scenario, users).local_steps)


def test_a_specific_policy_plans_its_own_instance_alone():
    own = shipped_instance()
    policy = random_policy("flat", instance=instance_key(own.users), gpus=[8])[1]
    assert out_of_range(policy, own.scenario, own.users) is None
    other = replace(own.users, alpha=own.users.alpha * 1.01)
    assert "other users" in out_of_range(policy, own.scenario, other)


def test_decide_stops_at_the_batch_limit():
    policy = random_policy("flat", scenario=None)[1]
    weights = dict(policy.weights) | {"layers.3.weight": np.zeros((2, 256)), "layers.3.bias": np.array([0.0, 1.0])}
    users = make_users([0.5] * 6, 30.0).take(np.arange(6)[None])
    granted = decide(Policy(policy.card, weights), make_scenario(max_batch=2), users)
    assert granted.tolist() == [[True, True, False, False, False, False]]


def saved(folder, network="set", **changes):
    made, policy = random_policy(network)
    save_torch(made.state_dict(), folder / "made.safetensors")
    write_record(folder / "made.json", policy.card.model_copy(update=changes))
    return folder / "made.safetensors"


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def text(path):
    path.write_text("not weights")


def drop(path):
    weights = load_file(path)
    weights.pop("head.0.weight")
    save_file(weights, path)


def no_card(path):
    path.with_suffix(".json").unlink()


def card_field(path):
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"network": "tree"}))


DAMAGE = {
    cut: r"made\.safetensors: no policy's weights",
    text: r"made\.safetensors: no policy's weights",
    drop: r"made\.safetensors: field 'head\.0\.weight': found shape None, accepted: \[128, 53\]",
    no_card: r"made\.json",
    card_field: r"made\.json.*network",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_bad_policies_are_one_line(tmp_path, damage):
    path = saved(tmp_path)
    load_policy(str(path))
    damage(path)
    with pytest.raises(InputError, match=DAMAGE[damage]) as caught:
        load_policy(str(path))
    assert "\n" not in str(caught.value)


def test_another_architecture_is_one_line(tmp_path):
    path = saved(tmp_path, "flat", places=20)
    shapes = r"field .layers\.0\.weight.: found shape \[256, 186\], accepted: \[256, 126\]"
    with pytest.raises(InputError, match=shapes):
        load_policy(str(path))


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match="set-general"):
        load_policy("set-genral")

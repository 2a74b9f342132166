"""Deciding with policies: NumPy as torch, any order of users, cells, and rounds out of range."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import make_scenario, make_users
from policy_files import random_policy

from edgesplit import data
from edgesplit.fitting.pai import PaiCurve
from edgesplit.optimizer.agent import paper_agent, set_agent
from edgesplit.optimizer.agent.decide import _orders, decide, drl_convex, fall_backs, greedy, out_of_range
from edgesplit.optimizer.agent.instances import (
    Instance,
    Range,
    broad_instance,
    default_scenario,
    device_latencies,
    grouped_instance,
    paper_instance,
    shipped_instance,
    varied_latencies,
)
from edgesplit.optimizer.agent.paper_agent import PLACES, PaperState
from edgesplit.optimizer.agent.policies import Case, Policy, RoundUsers, load_policy
from edgesplit.optimizer.agent.scores import gain, possible_gain
from edgesplit.optimizer.learn.dqn import roll_out
from edgesplit.optimizer.learn.networks import PaperNetwork, SetNetwork
from edgesplit.optimizer.learn.trainees import TRAINEES, tensors
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.model.qoe import Users
from edgesplit.optimizer.model.split import alpha_from_emphasis, split_granted

SHIPPED = sorted(path.stem for path in (data.FOLDER / "policies").glob("*.safetensors"))


def in_cells(instances):
    """The users of several rounds of one scenario as cells."""
    rows = [(i.users.step_latency_s, i.users.alpha, i.users.request_slot) for i in instances]
    cell = np.repeat(np.arange(len(instances)), [len(i.users) for i in instances])
    return Users(*(np.concatenate(column) for column in zip(*rows, strict=True)), cell)


@pytest.mark.parametrize("network", ["flat", "set"])
def test_numpy_decides_as_torch(network):
    """The torch network acting in the environment, and NumPy, from the same weights: one value on every instance."""
    rng = np.random.default_rng(2)
    draw = (lambda: paper_instance(rng, Range(users=(1, 30)))) if network == "flat" else (lambda: broad_instance(rng))
    instances = [draw() for _ in range(40)]
    tables, different = TRAINEES[network].make_tables(instances), set()
    for seed in range(5):
        made, policy = random_policy(network, seed)
        theirs = np.maximum(roll_out(made, tables), 0)  # `drl_convex` plans all local then
        ours = [gain(i, drl_convex(i.scenario, i.users, policy)) for i in instances]
        assert theirs == pytest.approx(np.array(ours), rel=1e-6, abs=1e-6)
        different |= set(np.round(ours, 6))
    assert len(different) > 35  # the policies decide something


FLAT = [name for name in SHIPPED if name != "set-general"]


def in_torch(network, policy, state):
    """Q by the torch network with a policy's weights."""
    network.load_state_dict({key: torch.from_numpy(value).float() for key, value in policy.weights.items()})
    with torch.no_grad():
        return network(tensors(state)).numpy()


@pytest.mark.parametrize("name", FLAT)
def test_the_papers_network_in_numpy_equals_torch(name):
    policy, rng = load_policy(name), np.random.default_rng(0)
    state = PaperState(rng.random((9, PLACES, 3)), rng.integers(0, 4, (9, PLACES)), rng.random((9, 6)))
    theirs = in_torch(PaperNetwork(PLACES), policy, vars(state))
    assert paper_agent.paper_q(policy.weights, state) == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_our_network_in_numpy_equals_torch():
    policy, rng = load_policy("set-general"), np.random.default_rng(0)
    gains, current, features = rng.random((9, 12, 5)), rng.random((9, 5)), rng.random((9, 6))
    masks = {"pending": rng.random((9, 12)) < 0.5, "granted": rng.random((9, 12)) < 0.3}
    encoded = set_agent.encoding(policy.weights, gains)
    pools = [
        (encoded * mask[:, :, None]).sum(axis=1) / np.maximum(mask.sum(axis=1, keepdims=True), 1)
        for mask in masks.values()
    ]
    rise = rng.normal(size=9)
    ours = set_agent.set_q(policy.weights, current, rise, *pools, features)
    state = {"gains": gains, "current": current, "rise": rise, "features": features} | masks
    assert ours == pytest.approx(in_torch(SetNetwork(), policy, state), rel=1e-5, abs=1e-5)


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


@pytest.mark.parametrize("first", ["file", "slowest"])
def test_the_best_of_many_orders_is_what_trying_each_order_alone_finds(first):
    """Cells together, against one round and one order after another; the first order is the card's."""
    rng, policy = np.random.default_rng(5), random_policy("flat", 3)[1]
    policy = replace(policy, card=policy.card.model_copy(update={"order": first}))
    rounds = [paper_instance(rng, Range(users=(9, 9), gpus=(4,))) for _ in range(12)]
    cells, scenario = in_cells(rounds), rounds[0].scenario
    in_file_order = replace(policy, card=policy.card.model_copy(update={"order": "file"}))
    orders = np.array(list(_orders(first, cells.take(np.arange(len(cells)).reshape(12, 9)), 5)))
    plan = drl_convex(scenario, cells, policy, orders=5)
    assert plan.note == "the best plan of 5 orders of the users"
    better = 0
    for k, instance in enumerate(rounds):
        users, values = instance.users, []
        for order in orders[:, k]:
            alone = drl_convex(scenario, users.take(order), in_file_order)
            values.append(gain(Instance(scenario, users.take(order)), alone))
        own = split_granted(scenario, users, plan.granted[cells.cell == k])
        assert gain(instance, own) == pytest.approx(max(values), rel=1e-9, abs=1e-9)
        assert values[0] == pytest.approx(gain(instance, drl_convex(scenario, users, policy)), rel=1e-12)
        better += max(values) > values[0]
        assert np.array_equal(own.granted, drl_convex(scenario, users, policy, orders=5).granted)  # as if it were alone
    assert better > 3  # the orders differ
    assert drl_convex(scenario, cells, policy, orders=5).granted.tolist() == plan.granted.tolist()


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
    assert gain(instance, drl_convex(instance.scenario, round_)) >= 0.98 * possible_gain(instance) - 1e-9


def _round(rng, latency, emphasis, for_alpha=None, **changes):
    scenario = make_scenario(**({"gpus": int(rng.integers(1, 17))} | changes))
    for_alpha = replace(scenario, gpus=for_alpha or scenario.gpus)
    alpha = np.minimum(alpha_from_emphasis(for_alpha, latency, np.broadcast_to(emphasis, latency.shape)), 1e9)
    return Instance(scenario, make_users(latency, alpha))


def _any(rng, count=None):
    """Devices of 5 to 60 users."""
    return varied_latencies(rng, count or int(rng.integers(5, 61)))


def _with_an_outlier(rng):
    latency = _any(rng)
    return np.concatenate([latency[1:], 100 * latency[:1]])


KINDS = {
    "one device, default emphasis": lambda r: _round(r, np.full(r.integers(2, 61), r.choice(device_latencies())), 0.25),
    "one device, any emphasis": lambda r: _round(r, np.full(20, r.choice(device_latencies())), r.uniform()),
    "one device, 5 % apart": lambda r: _round(r, r.choice(device_latencies()) * r.uniform(0.95, 1.05, 30), 0.25),
    "two devices": lambda r: _round(r, r.choice(r.choice(device_latencies(), 2), 30), 0.25),
    "emphasis 0.8 to 1": lambda r: _round(r, _any(r), r.uniform(0.8, 1)),
    "alpha of another G": lambda r: _round(r, _any(r), r.uniform(0, 1), for_alpha=int(r.integers(1, 17))),
    "B_max 500": lambda r: _round(r, _any(r, 500), r.uniform(0, 0.5), max_batch=500),
    "B_max 500, G 200, fast radio": lambda r: _round(r, _any(r, 500), 0.3, max_batch=500, gpus=200, bandwidth_hz=1e9),
    "four steps": lambda r: _round(r, _any(r), 0.3, total_steps=4, min_local_steps=1, pai=PaiCurve(2.0, 1.5)),
    "50 kHz": lambda r: _round(r, _any(r), r.uniform(0, 0.5), bandwidth_hz=5e4),
    "nothing to send": lambda r: _round(r, _any(r), r.uniform(0, 0.5), prompt_bits=0.0, latent_bits=0.0),
    "nearly flat curve": lambda r: _round(r, _any(r), r.uniform(0, 0.5), pai=PaiCurve(0.001, 71.0)),
    "curve like a step": lambda r: _round(r, _any(r), r.uniform(0, 0.1), pai=PaiCurve(5.0, 90.0)),
    "one device 100 times as slow": lambda r: _round(r, _with_an_outlier(r), r.uniform(0, 0.5)),
    "1 ms to 10 s a step": lambda r: _round(r, np.exp(r.uniform(np.log(1e-3), np.log(10), 30)), r.uniform(0, 0.5)),
    "few kinds": grouped_instance,
    "broad": lambda r: broad_instance(r, (1, 500)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_policy_holds_its_floor_on_every_kind(kind):
    """Mean and least captured of 15 rounds in which something can be gained."""
    rng, shares = np.random.default_rng(11), []
    while len(shares) < 15:
        instance = KINDS[kind](rng)
        possible = possible_gain(instance)
        if possible > 1e-6:
            shares.append(gain(instance, drl_convex(instance.scenario, instance.users)) / possible)
    assert np.mean(shares) >= 0.995
    assert min(shares) >= 0.97


def test_greedy_is_the_network_without_weights():
    """The baseline that `plan evaluate` prints: Q of granting is then the rise alone."""
    rng = np.random.default_rng(12)
    weights = {name: np.zeros_like(value) for name, value in load_policy().weights.items()}
    nothing = Policy(load_policy().card, weights)
    for _ in range(20):
        instance = broad_instance(rng)
        plans = greedy(instance.scenario, instance.users), drl_convex(instance.scenario, instance.users, nothing)
        assert np.array_equal(plans[0].granted, plans[1].granted)


@pytest.mark.parametrize("network", ["flat", "set"])
def test_no_plan_is_worth_less_than_all_local(network):
    rng, guarded = np.random.default_rng(13), 0
    for trial in range(40):
        instance, policy = paper_instance(rng, Range(users=(2, 12))), random_policy(network, trial)[1]
        granted = decide(policy, instance.scenario, instance.users.take(np.arange(len(instance.users))[None]))[0]
        undone = gain(instance, split_granted(instance.scenario, instance.users, granted)) <= 0
        plan = drl_convex(instance.scenario, instance.users, policy)
        assert gain(instance, plan) >= 0
        assert np.array_equal(plan.granted, granted & ~undone)
        guarded += undone and granted.any()
    assert guarded


# -- ranges -------------------------------------------------------------------------------------------------

OWN = make_scenario()
FIVE = make_users(np.linspace(0.1, 0.5, 5), 20.0)
BEYOND = {
    "31 users, trained for 30 at most": (OWN, make_users(np.linspace(0.1, 0.5, 31), 20.0)),
    "4 GPUs, trained for 8": (make_scenario(gpus=4), FIVE),
    "1 GPU, trained for 8": (make_scenario(gpus=1), FIVE),
    "total_steps 100, trained for 200": (make_scenario(total_steps=100), FIVE),
    "min_local_steps 60, trained for 80": (make_scenario(min_local_steps=60), FIVE),
    "midpoint 60, trained for 71.44": (make_scenario(pai=PaiCurve(0.0413, 60.0)), FIVE),
    "max_batch 4, trained for 20": (make_scenario(max_batch=4), FIVE),
    "bandwidth_hz 2e+06, trained for 1e+06": (make_scenario(bandwidth_hz=2e6), FIVE),
    "slots 20, trained for 10": (make_scenario(slots=20), FIVE),
    "request_slot 12, trained for 1 to 10": (OWN, replace(FIVE, request_slot=np.array([12, 1, 1, 1, 1]))),
    "alpha_s 212, trained for 0 to 200": (OWN, replace(FIVE, alpha=np.array([1.0, 2, 212, 3, 4]))),
    "step_latency_s 2, trained for 0.0245": (OWN, make_users([0.1, 0.1, 2.0, 0.1, 0.1], 20.0)),
}


@pytest.mark.parametrize("reason", BEYOND)
def test_out_of_range_is_planned_exactly_with_a_note(reason):
    scenario, users = BEYOND[reason]
    policy = random_policy("flat", gpus=[8])[1]
    plan = drl_convex(scenario, users, policy)
    assert plan.note.startswith(f"policy made: {reason}")
    assert plan.note.endswith("; planned exactly instead")
    assert list(fall_backs(policy, scenario, users)) == [plan.note]
    assert np.array_equal(plan.local_steps, optimum(scenario, users).local_steps)


def test_within_the_range_the_policy_itself_decides():
    """Also a little beyond it: a twentieth of its width."""
    users = replace(FIVE, alpha=np.array([1.0, 2, 208, 3, 4]))
    different = 0
    for seed in range(10):
        policy = random_policy("flat", seed, gpus=[8])[1]
        plan = drl_convex(OWN, users, policy)
        assert plan.note == ""
        different += not np.array_equal(plan.granted, optimum(OWN, users).granted)
    assert different


def test_only_the_cells_out_of_range_are_planned_exactly():
    policy = random_policy("flat", gpus=[8])[1]
    cells = [FIVE, replace(FIVE, alpha=FIVE.alpha * 20), FIVE]
    users = in_cells([Instance(OWN, cell) for cell in cells])
    plan = drl_convex(OWN, users, policy)
    assert plan.note == "policy made: alpha_s 400, trained for 0 to 200; 1 of 3 cells planned exactly instead"
    alone = [drl_convex(OWN, cell, policy).granted for cell in cells]
    assert np.array_equal(plan.granted, np.concatenate(alone))


@pytest.mark.parametrize("network", ["flat", "set"])
def test_a_specific_policy_plans_its_own_round_alone_in_any_number_of_cells(network):
    own = shipped_instance()
    case = Case(scenario=own.scenario, users=RoundUsers.of(own.users))
    policy = random_policy(network, gpus=[8], scope="specific", case=case)[1]
    other = replace(own.users, alpha=own.users.alpha * 0.99)
    assert drl_convex(own.scenario, own.users, policy).note == ""
    assert drl_convex(own.scenario, in_cells([own, own]), policy).note == ""
    assert "other users than the one round" in drl_convex(own.scenario, other, policy).note
    note = drl_convex(own.scenario, in_cells([own, Instance(own.scenario, other)]), policy).note
    assert note.endswith("1 of 2 cells planned exactly instead")


def test_a_set_policy_for_one_number_of_gpus_plans_no_other():
    policy = random_policy("set", gpus=[4])[1]
    assert out_of_range(policy, make_scenario(gpus=4), FIVE) is None
    assert out_of_range(policy, make_scenario(gpus=8), FIVE) == "8 GPUs, trained for 4"


def test_decide_stops_at_the_batch_limit():
    policy = random_policy("flat")[1]
    weights = dict(policy.weights) | {"layers.3.weight": np.zeros((2, 256)), "layers.3.bias": np.array([0.0, 1.0])}
    users = make_users([0.5] * 6, 30.0).take(np.arange(6)[None])
    granted = decide(Policy(policy.card, weights), make_scenario(max_batch=2), users)
    assert granted.tolist() == [[True, True, False, False, False, False]]

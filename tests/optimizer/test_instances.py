"""Random instances: the paper's distribution, parts of it replaced, and one seed for one instance."""

import numpy as np
import pytest
from oracles import make_scenario

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.optimizer.agent.instances import (
    broad_instance,
    default_scenario,
    device_latencies,
    draw_instances,
    paper_instance,
)
from edgesplit.optimizer.model.split import alpha_range


def same(first, second):
    columns = [(i.users.step_latency_s, i.users.alpha, i.users.request_slot, i.users.cell) for i in (first, second)]
    return first.scenario == second.scenario and all(map(np.array_equal, *columns))


def test_one_seed_draws_one_instance():
    drawn = [broad_instance(np.random.default_rng(7)) for _ in range(2)]
    assert same(*drawn)


def test_paper_instances():
    seen = []
    for instance in draw_instances(300):
        users, scenario = instance.users, instance.scenario
        low, high = alpha_range(scenario, users.step_latency_s)
        assert 5 <= len(users) <= 30
        assert np.all(np.isin(users.step_latency_s, device_latencies()))
        assert np.all((users.alpha >= low) & (users.alpha <= np.maximum(low, 0.05 * high)))
        assert np.all((users.request_slot >= 1) & (users.request_slot <= scenario.slots))
        seen.append(scenario.gpus)
    assert set(seen) == set(range(1, 17))


def test_an_instance_depends_on_the_seed_and_its_number_alone():
    few, many, other = draw_instances(3), draw_instances(6), draw_instances(3, seed=1)
    for number, instance in enumerate(many):
        assert same(instance, paper_instance(np.random.default_rng([0, number])))
    assert all(map(same, few, many[:3]))
    assert not any(map(same, few, other))


def test_own_users_gpus_and_scenario():
    base = make_scenario(total_steps=50, min_local_steps=10, slots=3)
    for instance in draw_instances(40, users=(2, 3), gpus=[3, 7], scenario=base):
        assert len(instance.users) in (2, 3)
        assert instance.scenario in [base.with_gpus(gpus) for gpus in (3, 7)]
        assert instance.users.request_slot.max() <= 3
    assert {i.scenario.gpus for i in draw_instances(40, gpus=[3, 7])} == {3, 7}


def test_own_devices_by_name_by_path_and_by_seconds():
    devices = ["RTX 4090", data.FOLDER / "profiles/rtx-2060.json", 0.125]
    drawn = np.concatenate([i.users.step_latency_s for i in draw_instances(30, devices=devices)])
    known = dict(zip(("rtx-2060", "rtx-4090"), device_latencies()[[0, -1]], strict=True))
    assert set(drawn.tolist()) == {known["rtx-4090"], known["rtx-2060"], 0.125}


def test_own_alphas_by_interval_and_by_function():
    for instance in draw_instances(20, alpha=(10, 20)):
        assert np.all((instance.users.alpha >= 10) & (instance.users.alpha < 20))
    for instance in draw_instances(20, alpha=lambda rng, latency: 100 * latency):
        assert np.array_equal(instance.users.alpha, 100 * instance.users.step_latency_s)
    first, second = (draw_instances(2, alpha=lambda rng, latency: rng.gamma(2.0, 5.0, latency.size)) for _ in range(2))
    assert all(map(same, first, second))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"count": -1}, "count: found -1, accepted: 0 or more"),
        ({"seed": -1}, "seed: found -1"),
        ({"users": (0, 3)}, r"users: found \(0, 3\)"),
        ({"users": (4, 3)}, r"users: found \(4, 3\)"),
        ({"gpus": []}, r"gpus: found \(\)"),
        ({"gpus": [0, 1]}, r"gpus: found \(0, 1\)"),
        ({"devices": []}, r"devices: found \(\)"),
        ({"devices": [0.0]}, r"devices: found \(0.0,\)"),
        ({"devices": ["rtx-4091"]}, "did you mean 'rtx-4090'"),
        ({"alpha": (2, 1)}, r"alpha: found \(2.0, 1.0\)"),
        ({"alpha": (0, np.inf)}, r"alpha: found \(0.0, inf\)"),
        ({"alpha": lambda rng, latency: -latency}, "alpha: found .* accepted: .* finite seconds, 0 or more"),
        ({"alpha": lambda rng, latency: 5.0}, "alpha: found 5.0, accepted"),
    ],
)
def test_wrong_choices_are_one_line(changes, says):
    with pytest.raises(InputError, match=says) as caught:
        draw_instances(**({"count": 1} | changes))
    assert "\n" not in str(caught.value)


def test_the_default_scenario_is_the_shipped_one():
    assert {i.scenario.with_gpus(8) for i in draw_instances(5)} == {default_scenario()}

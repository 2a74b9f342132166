"""The scheduler against brute force over who is granted and every split, and against `plan` on an empty edge."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from oracles import make_scenario, make_users, random_scenario

from edgesplit import data
from edgesplit.optimizer.inputs.scenario import load_scenario
from edgesplit.optimizer.inputs.users import read_users
from edgesplit.optimizer.methods.counts import Group
from edgesplit.optimizer.methods.exact import best_decision, optimum
from edgesplit.optimizer.methods.registry import find_method
from edgesplit.optimizer.model.qoe import with_load
from edgesplit.optimizer.model.terms import Prices, Terms
from edgesplit.service.scheduler import (
    RULES,
    Load,
    Slopes,
    TrainedPrices,
    by_method,
    decide,
    recent_rate,
    scenario_now,
    sending,
)

TRAINED = TrainedPrices(Slopes(0.001, 0.8, 0.4, 0.3), Slopes(0.05, 0.9, 0.5, 0.2))
ALL_RULES = {**RULES, "trained": TRAINED}
DRAWS = 500


def drawn_users(rng, scenario, count):
    return make_users(rng.uniform(0.01, 0.6, count), rng.choice([0.0, 1.0, 5.0, 20.0], count))


def step_latency(scenario, images):
    edge = scenario.edge
    return max(edge.floor_s, edge.slope_s * images / scenario.gpus + edge.intercept_s)


def value(scenario, load, charges, users, splits):
    """The gain over all local of one assignment: the formula of the design, user by user. None means denied."""
    p, p_rise, f, f_rise, delay = charges
    b = sum(n is not None for n in splits)
    total = 0.0
    for i, n in enumerate(splits):
        if n is not None:
            offloaded = scenario.total_steps - n
            pai = scenario.pai.value([n, scenario.total_steps])
            step = step_latency(scenario, load.in_flight + b) + p + p_rise * b
            alone = (scenario.prompt_bits + scenario.latent_bits) / scenario.spectral_efficiency / scenario.bandwidth_hz
            total += users.alpha[i] * (pai[0] - pai[1]) + offloaded * (users.step_latency_s[i] - step)
            total -= alone * (load.on_radio + b) + f + f_rise * b + delay(offloaded)
    return total


def best_value(scenario, load, charges, users):
    """The largest value over all subsets; given the subset, users do not interact, so each takes its best split."""
    best = 0.0
    for subset in itertools.product([False, True], repeat=len(users)):
        if sum(subset) > scenario.max_batch:
            continue
        splits = []
        for i, granted in enumerate(subset):
            ones = [[None] * len(users) for _ in range(scenario.total_steps + 1 - scenario.min_local_steps)]
            for row, n in zip(ones, range(scenario.min_local_steps, scenario.total_steps + 1), strict=True):
                row[i] = n
            alone = make_alone(charges, load, sum(subset))
            scores = [value(scenario, alone[0], alone[1], users, row) for row in ones] if granted else []
            splits.append(scenario.min_local_steps + int(np.argmax(scores)) if granted else None)
        best = max(best, value(scenario, load, charges, users, splits))
    return best


def make_alone(charges, load, b):
    """Load and charges at which one granted user alone sees what it sees among b."""
    p, p_rise, f, f_rise, delay = charges
    shifted = replace(load, in_flight=load.in_flight + b - 1, on_radio=load.on_radio + b - 1)
    return shifted, (p + p_rise * (b - 1), p_rise, f + f_rise * (b - 1), f_rise, delay)


@pytest.mark.parametrize("seed", range(10))
def test_it_equals_brute_force_under_load_and_prices(seed):
    """500 small instances with b_0, q_0, p and f drawn."""
    for number in range(DRAWS // 10):
        rng = np.random.default_rng([seed, number])
        scenario = random_scenario(rng)
        users = drawn_users(rng, scenario, int(rng.integers(1, 6)))
        load = Load(int(rng.integers(0, 30)), int(rng.integers(0, 5)), scenario.gpus)
        p, p_rise, f, f_rise = rng.choice([0.0, 1.0], 4) * rng.uniform(0, [0.05, 0.01, 1.0, 0.2])
        prices = Prices(p, p_rise, f, f_rise)
        terms = Terms(with_load(scenario, load.in_flight, load.on_radio), prices)
        granted, n = best_decision(terms, Group(users.step_latency_s[None], users.alpha[None]))
        splits = [int(s) if g else None for g, s in zip(granted[0], n[0], strict=True)]
        charges = (p, p_rise, f, f_rise, lambda offloaded: 0.0)
        found = value(scenario, load, charges, users, splits)
        assert found == pytest.approx(best_value(scenario, load, charges, users), abs=1e-9)


@pytest.mark.parametrize("name", ALL_RULES)
def test_every_rule_maximises_what_it_says(name):
    """The formulas of the design, written again here."""
    for number in range(25):
        rng = np.random.default_rng([77, number])
        scenario = random_scenario(rng)
        users = drawn_users(rng, scenario, int(rng.integers(1, 5)))
        left = tuple(rng.integers(1, 20, int(rng.integers(0, 6))).tolist())
        load = Load(len(left), int(rng.integers(0, 4)), scenario.gpus, float(rng.uniform(0, 9)), steps_left=left)
        added, alone = scenario.edge.slope_s / scenario.gpus, sending(scenario)
        b_0, q_0, rate = load.in_flight, load.on_radio, load.arrivals_per_s
        charges = {
            "blind": (0, 0, 0, 0, lambda offloaded: 0.0),
            "aware": (0, 0, 0, 0, lambda offloaded: 0.0),
            "aware-delay": (0, 0, 0, 0, lambda offloaded: added * sum(min(offloaded, m) for m in left)),
            "price": (added * b_0, 0, alone * (q_0 + b_0), 0, lambda offloaded: 0.0),
            "trained": (
                added * (0.8 * b_0 + 0.3 * rate) + 0.001,
                added * 0.4,
                alone * (0.9 * (q_0 + b_0) + 0.2 * rate) + 0.05,
                alone * 0.5,
                lambda offloaded: 0.0,
            ),
        }[name]
        seen = replace(load, in_flight=0, on_radio=0) if name == "blind" else load
        plan = decide(scenario, load, users, ALL_RULES[name])
        splits = [int(n) if g else None for g, n in zip(plan.granted, plan.local_steps, strict=True)]
        found = value(scenario, seen, charges, users, splits)
        assert found == pytest.approx(best_value(scenario, seen, charges, users), abs=1e-9)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_empty_edge_gives_todays_plan(rule):
    """The shipped users, and 500 random cells of all sizes, large ones with screening too."""
    scenario = load_scenario()
    cells = [(scenario, read_users(data.sample("users.csv"), scenario))]
    for number in range(DRAWS):
        rng = np.random.default_rng([3, number])
        own = random_scenario(rng) if number % 2 else make_scenario(gpus=int(rng.integers(1, 17)))
        cells.append((own, drawn_users(rng, own, int(rng.integers(1, 40)))))
    for own, users in cells:
        today, now = optimum(own, users), decide(own, Load(gpus=own.gpus), users, rule)
        assert np.array_equal(today.granted, now.granted)
        assert np.array_equal(today.local_steps, now.local_steps)


def test_screening_finds_the_optimum_under_load_and_prices():
    rng = np.random.default_rng(2)
    for number in range(6):
        scenario = with_load(make_scenario(max_batch=60, bandwidth_hz=2e7), 5 * number, number)
        users = drawn_users(rng, scenario, 900)
        prices = Prices(0.002 * number, 0.0005, 0.1 * number, 0.01)
        fast, slow = (optimum(scenario, users, screen=screen, prices=prices) for screen in (True, False))
        assert np.array_equal(fast.granted, slow.granted)
        assert np.array_equal(fast.local_steps, slow.local_steps)


def test_images_of_own_steps_have_their_best_split():
    """With one user the best split is found by trying all; with several, each is as if alone at that batch."""
    rng = np.random.default_rng(6)
    scenario = make_scenario(total_steps=20, min_local_steps=8, bandwidth_hz=1e8)
    for _ in range(40):
        users, own = drawn_users(rng, scenario, 1), np.array([int(rng.choice([10, 20, 30, 33]))])
        plan = decide(scenario, Load(3, 0, 8), users, RULES["aware"], own_steps=own)
        share = own[0] / 20
        least = int(np.ceil(8 * share))
        curve = scenario.pai.value(np.arange(own[0] + 1) / share)
        step = step_latency(scenario, 4)
        gains = [
            users.alpha[0] * (curve[n] - curve[-1])
            + (own[0] - n) * (users.step_latency_s[0] - step)
            - sending(scenario)
            for n in range(least, own[0] + 1)
        ]
        chosen = least + int(np.argmax(gains))
        if max(gains) > 1e-9:
            assert plan.granted[0]
            assert gains[int(plan.local_steps[0]) - least] == pytest.approx(gains[chosen - least], abs=1e-9)
        else:
            assert plan.local_steps[0] == own[0]
            assert not plan.granted[0]


def test_no_gpu_or_no_room_means_all_local():
    scenario, users = make_scenario(), make_users([0.5] * 4, 1.0)
    assert not decide(scenario, Load(gpus=0), users).granted.any()
    assert not decide(scenario, Load(16, 0, 8), users, images_each=2).granted.any()
    assert decide(scenario, Load(14, 0, 8), users, RULES["aware"], images_each=2).granted.sum() == 2
    assert scenario_now(scenario, Load(3, 0, 2), 4).max_batch == 5


def test_a_method_of_the_registry_sees_the_load():
    scenario, users = make_scenario(), make_users(np.linspace(0.05, 0.5, 10), 3.0)
    load = Load(25, 2, 4)
    made = by_method(find_method("ilp-joint"))(scenario, load, users)
    exact = decide(scenario, load, users, RULES["aware"])
    assert np.array_equal(made.granted, exact.granted)


def test_the_recent_rate_is_an_exponential_mean():
    """A steady stream is its own mean, and rounds without requests count as several at once."""
    rate = 0.0
    for _ in range(200):
        rate = recent_rate(rate, 6, 2.0)
    assert rate == pytest.approx(3.0)
    one_by_one = recent_rate(recent_rate(rate, 0, 2.0), 0, 2.0)
    assert recent_rate(rate, 0, 4.0) == pytest.approx(one_by_one)

"""Laws of the exact optimum; oracles: brute force, and the solver without screening."""

import numpy as np
import pytest
from oracles import (
    brute_force,
    joint_brute_force,
    make_scenario,
    make_users,
    plan_value,
    random_scenario,
    random_users,
)

from edgesplit.fitting.pai import PaiCurve
from edgesplit.optimizer.methods import exact, screening
from edgesplit.optimizer.methods.exact import captured_share, optimum
from edgesplit.optimizer.methods.registry import BUILT_IN
from edgesplit.optimizer.methods.screening import gain_bound
from edgesplit.optimizer.model.qoe import Plan, evaluate, feasible, objective
from edgesplit.optimizer.model.split import alpha_from_emphasis, best_split
from edgesplit.optimizer.planner import compare, plan, sweep_gpus

BLOCKS, PER_BLOCK = 20, 100


def value(scenario, users, plan):
    return float(objective(users, evaluate(scenario, users, plan))[0])


def assert_screening_changes_nothing(scenario, users):
    screened, rated = optimum(scenario, users), optimum(scenario, users, screen=False)
    np.testing.assert_array_equal(screened.granted, rated.granted)
    np.testing.assert_array_equal(screened.local_steps, rated.local_steps)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_exact_equals_brute_force(block):
    rng = np.random.default_rng(block)
    for _ in range(PER_BLOCK):
        scenario, users = random_scenario(rng), random_users(rng, int(rng.integers(1, 9)))
        plan = optimum(scenario, users)
        assert feasible(scenario, users, plan)
        best = brute_force(scenario, users)
        assert plan_value(scenario, users, plan.granted, plan.local_steps) == pytest.approx(best, rel=1e-12, abs=1e-12)


def test_exact_equals_joint_brute_force_over_decisions_and_splits():
    rng = np.random.default_rng(99)
    for _ in range(200):
        scenario, users = random_scenario(rng), random_users(rng, int(rng.integers(1, 3)))
        best = joint_brute_force(scenario, users)
        assert value(scenario, users, optimum(scenario, users)) == pytest.approx(best, rel=1e-12, abs=1e-12)


def test_no_method_beats_exact():
    rng = np.random.default_rng(7)
    for _ in range(300):
        scenario, users = random_scenario(rng), random_users(rng, int(rng.integers(1, 30)))
        fast = [name for name, entry in BUILT_IN.items() if entry.most_compared is None]
        outcomes = compare(scenario, users, fast)  # raises OptimumBeatenError
        assert [outcome.method for outcome in outcomes] == fast
        by_name = {outcome.method: outcome.totals for outcome in outcomes}
        assert by_name["offload-all-fixed"].objective <= by_name["offload-all"].objective + 1e-9
        assert all(total.gap >= 0 for total in by_name.values())
        assert by_name["exact"].gap == 0
        assert by_name["exact"].captured_share == 1


@pytest.mark.parametrize("count", [1, 3, 50, 300])
def test_screening_changes_nothing(count, monkeypatch):
    monkeypatch.setattr(exact, "SCREEN_FROM", 1)
    monkeypatch.setattr(screening, "LEAF_RATINGS", 64)
    rng = np.random.default_rng(count)
    for i in range(250):
        scenario = random_scenario(rng)
        scenario = make_scenario(**vars(scenario) | {"max_batch": int(rng.integers(1, 40))})
        users = random_users(rng, count)
        if i % 2:  # all different
            users = make_users(rng.uniform(0, 1, count), rng.choice([1, 10, 1000]) * rng.uniform(size=count))
        assert_screening_changes_nothing(scenario, users)


KINDS = ["cards", "any", "heavy tail", "fast", "one device", "identical", "nearly identical"]


@pytest.mark.parametrize("kind", KINDS)
def test_screening_changes_nothing_in_a_large_cell(kind):
    check_large_cell(kind, 6000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_screening_changes_nothing_in_a_very_large_cell(kind):
    check_large_cell(kind, 200_000)


def check_large_cell(kind, count):
    rng = np.random.default_rng(3)
    latency = {
        "cards": rng.choice([0.02, 0.1, 0.3, 0.8], count),
        "any": rng.uniform(0.02, 1, count),
        "heavy tail": np.exp(rng.normal(-2, 1, count)),
        "fast": rng.uniform(0.01, 0.06, count),
        "one device": np.full(count, 0.4),
        "identical": np.full(count, 0.4),
        "nearly identical": 0.4 + 1e-6 * rng.uniform(size=count),
    }[kind]
    emphasis = 0.25 if "identical" in kind else rng.uniform(0, 1, count)
    for bits in (0.0, 262144.0, 4.4e6):
        scenario = make_scenario(max_batch=64, latent_bits=bits)
        users = make_users(latency, alpha_from_emphasis(scenario, latency, emphasis))
        assert_screening_changes_nothing(scenario, users)


def test_screening_bound_is_above_every_gain():
    rng = np.random.default_rng(5)
    for _ in range(300):
        scenario = random_scenario(rng)
        alpha, latency = 10 ** rng.uniform(-3, 4, 50), rng.uniform(0, 1, 50)
        saving = latency - rng.uniform(0, 1)
        gain = best_split(scenario, alpha, saving)[1]
        assert np.all(gain_bound(scenario, alpha, saving) >= gain * (1 - screening.SLACK))


@pytest.mark.parametrize("steepness", [1e-10, 1e-6, 0.1, 10.0])
def test_screening_bound_is_a_number_where_an_end_is_almost_the_midpoint(steepness):
    """F (1 - F) then rounds to a hair above 1/4, which once made NaN of the bound."""
    rng = np.random.default_rng(6)
    alpha, saving = rng.uniform(0, 20, 200), rng.uniform(-0.1, 1, 200)
    for distance in np.append(10 ** rng.uniform(-16, -7, 300) / steepness, 0):
        for end in (80, 200):
            scenario = make_scenario(pai=PaiCurve(steepness, end - distance))
            assert np.all(gain_bound(scenario, alpha, saving) >= best_split(scenario, alpha, saving)[1] * (1 - 1e-9))


@pytest.mark.parametrize("midpoint", [79.999999999, 60.0])
@pytest.mark.parametrize("steepness", [0.1, 1e-10])
def test_screening_changes_nothing_where_an_end_is_almost_the_midpoint(midpoint, steepness):
    rng = np.random.default_rng(0)
    latency, alpha = rng.uniform(0.02, 0.3, 20_000), rng.uniform(0, 20, 20_000)
    latency[:3], alpha[:3] = 1, 1
    scenario = make_scenario(pai=PaiCurve(steepness, midpoint), max_batch=8)
    users = make_users(latency, alpha)
    assert_screening_changes_nothing(scenario, users)


@pytest.mark.parametrize("seed", range(3))
def test_screening_changes_nothing_among_groups_of_nearly_equal_users(seed, monkeypatch):
    """Thresholds bend most where whole groups overtake each other: the line must lie below them."""
    monkeypatch.setattr(exact, "SCREEN_FROM", 1)
    monkeypatch.setattr(screening, "LEAF_RATINGS", 1)
    rng = np.random.default_rng(seed)
    for _ in range(150):
        limit = int(rng.integers(3, 12))
        sizes = rng.integers(1, 2 * limit + 1, rng.integers(2, 5))
        latency = np.repeat(rng.uniform(0.05, 1, sizes.size), sizes) + 1e-6 * rng.uniform(size=sizes.sum())
        alpha = np.repeat(10 ** rng.uniform(-1, 3, sizes.size), sizes)
        scenario = make_scenario(gpus=1, max_batch=limit, latent_bits=float(rng.choice([0, 1e5, 1e6])))
        users = make_users(latency, alpha)
        assert_screening_changes_nothing(scenario, users)


def test_plan_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(11)
    for _ in range(100):
        scenario = random_scenario(rng)
        users = make_users(rng.uniform(0.01, 1, 12), rng.uniform(0, 50, 12), rng.integers(1, 11, 12))
        order = rng.permutation(12)
        shuffled = users.take(order)
        plan, other = optimum(scenario, users), optimum(scenario, shuffled)
        np.testing.assert_array_equal(plan.granted[order], other.granted)
        np.testing.assert_array_equal(plan.local_steps[order], other.local_steps)


def test_equal_users_are_granted_in_file_order():
    users = make_users([0.5] * 5, 5.0)
    plan = optimum(make_scenario(max_batch=2), users)
    np.testing.assert_array_equal(plan.granted, [True, True, False, False, False])


def test_a_user_who_gains_nothing_stays_local():
    free = make_scenario(latent_bits=0.0, prompt_bits=0.0)
    plan = optimum(free, make_users([0.001, 0.5], 5.0))  # the first is faster than the edge: n = N, gain 0
    np.testing.assert_array_equal(plan.granted, [False, True])


def test_cells_are_planned_as_if_alone():
    rng = np.random.default_rng(13)
    scenario = make_scenario(max_batch=4)
    cell = rng.integers(0, 6, 60)
    users = make_users(rng.uniform(0.01, 1, 60), rng.uniform(0, 20, 60), cell=cell)
    plan = optimum(scenario, users)
    for number in range(6):
        mine = cell == number
        alone = optimum(scenario, make_users(users.step_latency_s[mine], users.alpha[mine]))
        np.testing.assert_array_equal(plan.granted[mine], alone.granted)
        np.testing.assert_array_equal(plan.local_steps[mine], alone.local_steps)


def test_optimum_never_falls_as_gpus_or_batch_limit_grow():
    rng = np.random.default_rng(17)
    scenario = make_scenario()
    users = make_users(rng.uniform(0.01, 1, 40), rng.uniform(0, 20, 40))
    by_gpus = [point.objective for point in sweep_gpus(scenario, users, range(1, 17))]
    limits = [make_scenario(max_batch=b) for b in range(1, 21)]
    by_limit = [value(s, users, optimum(s, users)) for s in limits]
    assert np.all(np.diff(by_gpus) >= -1e-9)
    assert np.all(np.diff(by_limit) >= -1e-9)


def test_captured_share_is_one_where_nothing_can_be_gained():
    shares = captured_share(np.array([3.0, 5.0, 1.0]), np.array([3.0, 1.0, 3.0]), np.array([3.0, 9.0, 7.0]))
    np.testing.assert_allclose(shares, [1, 0.5, -0.5])


def test_a_plan_above_the_optimum_is_a_defect_that_is_raised(monkeypatch):
    from edgesplit.optimizer.methods import scoring

    def deny_all(scenario, users):
        return Plan(np.zeros(len(users), bool), np.full(len(users), scenario.total_steps))

    monkeypatch.setattr(scoring, "optimum", deny_all)
    with pytest.raises(scoring.OptimumBeatenError):
        plan(make_scenario(), make_users([1.0, 1.0], 1.0), "offload-all")


@pytest.mark.parametrize("seed", range(6))
def test_where_most_users_may_be_granted_counts_are_discarded_without_rating_all(seed, monkeypatch):
    """A free radio and a B_max of everybody: few ratings of the promising users, and the same plan."""
    monkeypatch.setattr("edgesplit.optimizer.methods.screening.MOST_RATINGS", 1 << 12)
    monkeypatch.setattr("edgesplit.optimizer.methods.screening.LEAF_RATINGS", 1 << 12)
    rng = np.random.default_rng([9, seed])
    scenario = make_scenario(latent_bits=0.0, prompt_bits=0.0, max_batch=700, gpus=int(rng.choice([8, 60, 400])))
    users = make_users(rng.uniform(0.02, 0.5, 700), rng.uniform(0, 20, 700))
    screened, rated = optimum(scenario, users), optimum(scenario, users, screen=False)
    assert np.array_equal(screened.granted, rated.granted)
    assert np.array_equal(screened.local_steps, rated.local_steps)

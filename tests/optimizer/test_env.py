"""The MDP: a return is the objective, the two environments are one, and a plain greedy policy does well in it."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from oracles import brute_force, make_scenario, make_users, random_scenario

from edgesplit.optimizer.drl import split_granted
from edgesplit.optimizer.env import DENY, ENV_ID, GRANT, PLACES, OffloadingEnv, VectorEnv, make_tables
from edgesplit.optimizer.instances import Instance, Range, broad_instance, device_latencies, paper_instance
from edgesplit.optimizer.qoe import evaluate, objective
from edgesplit.optimizer.split import alpha_range
from edgesplit.optimizer.state import CURRENT, DENIED, GRANTED, PENDING


def small_instance(rng):
    """Any kind of scenario with 1 to 30 users."""
    if rng.random() < 0.5:
        return broad_instance(rng, (1, PLACES))
    scenario, users = random_scenario(rng), int(rng.integers(1, 9))
    return Instance(scenario, make_users(rng.choice([0.01, 0.1, 0.5], users), rng.uniform(0, 50, users)))


def test_check_env():
    check_env(gymnasium.make("edgesplit.optimizer.env:" + ENV_ID).unwrapped, skip_render_check=True)


def test_make_passes_arguments():
    env = gymnasium.make(ENV_ID, reward="gain", instances=lambda rng: paper_instance(rng, Range(users=(3, 3))))
    env.reset(seed=0)
    assert len(env.unwrapped.instance.users) == 3


def play(env, instance, actions):
    """The rewards, the last info and how many steps an episode took."""
    env.reset(options={"instance": instance})
    rewards, done = [], False
    while not done:
        _, reward, done, truncated, info = env.step(int(actions[len(rewards)]))
        rewards.append(reward)
        assert not truncated
    return rewards, info, len(rewards)


@pytest.mark.parametrize("seed", range(60))
def test_a_return_is_the_objective(seed):
    rng = np.random.default_rng(seed)
    instance, actions = small_instance(rng), rng.integers(0, 2, PLACES)
    env = OffloadingEnv()
    rewards, info, _ = play(env, instance, actions)
    scenario, users = instance.scenario, instance.users
    value = objective(users, evaluate(scenario, users, split_granted(scenario, users, env.granted)))[0]
    assert sum(rewards) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert info["objective"] == pytest.approx(value, rel=1e-9, abs=1e-9)
    gains, _, _ = play(OffloadingEnv(reward="gain"), instance, actions)
    assert sum(gains) == pytest.approx(value - info["all_local_objective"], rel=1e-9, abs=1e-8)


def test_a_step_pays_alpha_times_pai_at_the_split_for_those_granted_so_far():
    users = make_users([0.5, 0.4, 0.6], [30.0, 60.0, 10.0])
    instance = Instance(make_scenario(), users)
    rewards, _, _ = play(OffloadingEnv(), instance, [GRANT, DENY, GRANT])
    alone = split_granted(instance.scenario, users, np.array([True, False, False]))
    paid = users.alpha * evaluate(instance.scenario, users, alone).pai
    assert rewards[:2] == pytest.approx(paid[:2])


@pytest.mark.parametrize("reward", ["paper", "gain"])
def test_the_twin_is_equal_step_by_step(reward):
    rng = np.random.default_rng(3)
    instances = [small_instance(rng) for _ in range(40)]
    actions = rng.integers(0, 2, (PLACES, len(instances)))
    twin = VectorEnv.start(make_tables(instances, PLACES), np.arange(len(instances)), reward)
    singles = [OffloadingEnv(reward=reward) for _ in instances]
    for single, instance in zip(singles, instances, strict=True):
        single.reset(options={"instance": instance})
    running = np.ones(len(instances), bool)
    for t in range(PLACES):
        rows = np.flatnonzero(running)
        part = VectorEnv(twin.tables, reward, twin.which[rows], twin.granted[rows], twin.t[rows], twin.paid[rows])
        rewards, done = part.step(actions[t][rows])
        twin.granted[rows], twin.t[rows], twin.paid[rows] = part.granted, part.t, part.paid
        for row, reward_, done_ in zip(rows, rewards, done, strict=True):
            _, expected, ended, _, _ = singles[row].step(int(actions[t][row]))
            assert (reward_, done_) == (pytest.approx(expected, rel=1e-12, abs=1e-9), ended)
        running[rows[done]] = False
        if not running.any():
            return
    pytest.fail("an episode did not end")


def test_observation():
    users = make_users([0.5, 0.4, 0.6], [30.0, 60.0, 10.0], slot=[2, 5, 9])
    env = OffloadingEnv()
    seen, _ = env.reset(options={"instance": Instance(make_scenario(), users)})
    rows, fixed = seen[:-6].reshape(PLACES, 4), seen[-6:]
    assert rows[0] == pytest.approx([30, 0.5, 2, CURRENT])
    assert rows[1] == pytest.approx([60, 0.4, 5, PENDING])
    assert rows[3] == pytest.approx([0, 0, 0, DENIED])
    assert fixed == pytest.approx([20, 0.0105 / 8, 0.012, 3, 0, 0])
    seen, *_ = env.step(GRANT)
    rows, fixed = seen[:-6].reshape(PLACES, 4), seen[-6:]
    assert rows[0] == pytest.approx([60, 0.4, 5, CURRENT])
    assert rows[-1] == pytest.approx([30, 0.5, 2, GRANTED])
    assert fixed == pytest.approx([20, 0.0105 / 8, 0.012, 2, 1, 0])


def test_an_episode_ends_when_the_batch_is_full():
    instance = Instance(make_scenario(max_batch=2), make_users([0.5] * 6, 30.0))
    _, _, steps = play(OffloadingEnv(), instance, [GRANT, DENY, GRANT, GRANT])
    assert steps == 3


def test_a_greedy_policy_passes_a_floor():
    """Granting while the objective rises captures most of what can be gained."""
    rng, shares = np.random.default_rng(5), []
    for _ in range(60):
        instance = paper_instance(rng, Range(users=(4, 9), gpus=(2, 4, 8)))
        tables = make_tables([instance])
        which, granted = np.zeros(1, int), np.zeros((1, len(instance.users)), bool)
        for t in range(len(instance.users)):
            tried = granted.copy()
            tried[0, t] = True
            if tried.sum() <= instance.scenario.max_batch and tables.value(which, tried) > tables.value(which, granted):
                granted = tried
        rewards, info, _ = play(OffloadingEnv(), instance, granted[0].astype(int))
        best, local = brute_force(instance.scenario, instance.users), info["all_local_objective"]
        shares.append((sum(rewards) - local) / (best - local) if best - local > 1e-9 else 1.0)
    assert np.mean(shares) > 0.95


def test_paper_instances():
    rng, seen = np.random.default_rng(0), []
    for _ in range(300):
        instance = paper_instance(rng)
        users, scenario = instance.users, instance.scenario
        low, high = alpha_range(scenario, users.step_latency_s)
        assert 5 <= len(users) <= 30
        assert np.all(np.isin(users.step_latency_s, device_latencies()))
        assert np.all((users.alpha >= low) & (users.alpha <= np.maximum(low, 0.05 * high)))
        assert np.all((users.request_slot >= 1) & (users.request_slot <= scenario.slots))
        seen.append(scenario.gpus)
    assert set(seen) == set(range(1, 17))


def test_one_seed_draws_one_instance():
    drawn = [broad_instance(np.random.default_rng(7)) for _ in range(2)]
    assert drawn[0].scenario == drawn[1].scenario
    assert np.array_equal(drawn[0].users.alpha, drawn[1].users.alpha)

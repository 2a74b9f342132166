"""The MDP: a return is the objective, the two environments are one, and a plain greedy policy does well in it."""

import subprocess
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from oracles import brute_force, make_scenario, make_users, random_scenario

from edgesplit.optimizer.agent.instances import (
    Instance,
    Range,
    broad_instance,
    grouped_instance,
    paper_instance,
)
from edgesplit.optimizer.agent.names import DENY, GRANT
from edgesplit.optimizer.agent.paper_agent import CURRENT, DENIED, GRANTED, PENDING, PLACES
from edgesplit.optimizer.agent.scores import gain
from edgesplit.optimizer.agent.set_agent import set_features
from edgesplit.optimizer.learn.env import ENV_ID, OffloadingEnv
from edgesplit.optimizer.learn.paper_tables import paper_tables
from edgesplit.optimizer.learn.rewards import make_reward
from edgesplit.optimizer.learn.vector_env import VectorEnv
from edgesplit.optimizer.methods.counts import most_granted
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.model.qoe import Users, edge_step_latency, evaluate, objective, transmit_time
from edgesplit.optimizer.model.split import best_split, split_granted


def small_instance(rng):
    """Any kind of scenario with 1 to 30 users."""
    if rng.random() < 0.5:
        return broad_instance(rng, (1, PLACES))
    scenario, users = random_scenario(rng), int(rng.integers(1, 9))
    return Instance(scenario, make_users(rng.choice([0.01, 0.1, 0.5], users), rng.uniform(0, 50, users)))


def test_check_env():
    check_env(gymnasium.make("edgesplit.optimizer.learn.env:" + ENV_ID).unwrapped, skip_render_check=True)


def test_the_id_alone_imports_and_registers_once():
    """In a new process: with the module's name in front, then, as it is imported, without; no warning either time."""
    module = "edgesplit.optimizer.learn.env"
    code = f"import gymnasium; a = gymnasium.make('{module}:{ENV_ID}'); b = gymnasium.make('{ENV_ID}')"
    code += f"; import importlib, {module} as e; importlib.reload(e); print(type(b.unwrapped).__name__)"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.stdout.strip(), done.stderr) == ("OffloadingEnv", "")


@pytest.mark.parametrize("count", [0, 31])
def test_rounds_without_a_place_are_refused(count):
    instance = Instance(make_scenario(), make_users([0.5] * count, 30.0))
    with pytest.raises(ValueError, match=f"found {count} users, accepted: 1 to 30"):
        OffloadingEnv().reset(options={"instance": instance})


def test_wrong_steps_are_told_in_words():
    env = OffloadingEnv()
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(GRANT)
    env.reset(options={"instance": Instance(make_scenario(), make_users([0.5], 30.0))})
    with pytest.raises(ValueError, match=r"action: found 7, accepted: 0 \(deny\) or 1 \(grant\)"):
        env.step(7)
    env.step(GRANT)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(DENY)


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


@pytest.mark.parametrize("seed", range(40))
def test_a_return_is_the_objective(seed):
    rng = np.random.default_rng(seed)
    instance, actions = small_instance(rng), rng.integers(0, 2, PLACES)
    env = OffloadingEnv()
    rewards, info, _ = play(env, instance, actions)
    scenario, users = instance.scenario, instance.users
    value = objective(users, evaluate(scenario, users, split_granted(scenario, users, env.granted)))[0]
    assert sum(rewards) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert info["objective"] == pytest.approx(value, rel=1e-9, abs=1e-9)
    worth = users.alpha * evaluate(scenario, users, split_granted(scenario, users, env.granted)).pai
    hindsight = info["hindsight_rewards"]
    assert len(hindsight) == len(rewards)
    assert hindsight[:-1] == pytest.approx(worth[: len(rewards) - 1], rel=1e-12)
    assert hindsight.sum() == pytest.approx(value, rel=1e-9, abs=1e-9 * max(1, worth.sum()))
    gains, _, _ = play(OffloadingEnv(reward="gain"), instance, actions)
    rounding = 1e-9 * max(1, abs(value))
    assert sum(gains) == pytest.approx(value - info["all_local_objective"], rel=1e-9, abs=rounding)


def test_a_step_pays_alpha_times_pai_at_the_split_for_those_granted_so_far():
    users = make_users([0.5, 0.4, 0.6], [30.0, 60.0, 10.0])
    instance = Instance(make_scenario(), users)
    rewards, _, _ = play(OffloadingEnv(), instance, [GRANT, DENY, GRANT])
    alone = split_granted(instance.scenario, users, np.array([True, False, False]))
    paid = users.alpha * evaluate(instance.scenario, users, alone).pai
    assert rewards[:2] == pytest.approx(paid[:2])


def plain_episode(instance, actions, reward):
    """Rewards and observations by the plan evaluator and plain loops: what the docstring says."""
    scenario, users = instance.scenario, instance.users
    granted, paid, steps = np.zeros(len(users), bool), 0.0, []
    nobody = value = objective_of(instance, granted)
    for t, action in enumerate(actions[: len(users)]):
        granted[t] = action == GRANT
        full = granted.sum() == scenario.max_batch
        done, before, value = full or t + 1 == len(users), value, objective_of(instance, granted)
        plan = split_granted(scenario, users, granted)
        worth = users.alpha[t] * scenario.pai.value(plan.local_steps[t])
        last = value - paid if done else worth
        steps.append(
            ((value - before) if reward == "gain" else last, done, plain_observation(instance, granted, t + 1))
        )
        paid += last
        if done:
            break
    return steps, nobody


def objective_of(instance, granted):
    plan = split_granted(instance.scenario, instance.users, granted)
    return float(objective(instance.users, evaluate(instance.scenario, instance.users, plan))[0])


def plain_observation(instance, granted, t):
    scenario, users = instance.scenario, instance.users
    rows = []
    for place in [*range(t, PLACES), *range(min(t, PLACES))]:
        if place >= len(users):
            rows += [0, 0, 0, DENIED]
            continue
        decided = GRANTED if granted[place] else DENIED
        status = CURRENT if place == t else PENDING if place > t else decided
        rows += [users.alpha[place], users.step_latency_s[place], users.request_slot[place], status]
    edge = scenario.edge
    rows += [scenario.max_batch, edge.slope_s / scenario.gpus, edge.intercept_s]
    return np.array([*rows, len(users) - t, granted.sum(), t - granted.sum()], np.float32)


@pytest.mark.parametrize("reward", ["paper", "gain"])
def test_the_environment_and_its_twin_are_what_the_specification_says(reward):
    rng = np.random.default_rng(3)
    instances = [small_instance(rng) for _ in range(25)]
    actions = rng.integers(0, 2, (len(instances), PLACES))
    tables = paper_tables(instances)
    rounds = tables.rounds(np.arange(len(instances)), "file", rng)
    twin = VectorEnv.start(tables, rounds, make_reward(reward, tables))
    plain = [plain_episode(instance, row, reward) for instance, row in zip(instances, actions, strict=True)]
    singles = [OffloadingEnv(reward=reward) for _ in instances]
    for single, instance in zip(singles, instances, strict=True):
        single.reset(options={"instance": instance})
    for t in range(PLACES):
        rewards, ends = twin.step(actions[twin.rounds.which, t])
        state = tables.paper_state(twin.rounds, twin.granted, twin.t)
        for k, row in enumerate(twin.rounds.which):
            steps, nobody = plain[row]
            expected, done, seen = steps[t]
            close = pytest.approx(expected, rel=1e-9, abs=1e-9 * max(1, abs(nobody)))
            observation, paid, ended, truncated, _ = singles[row].step(int(actions[row, t]))
            assert (paid, ended, truncated) == (close, done, False)
            assert (rewards[k], ends[k]) == (close, done)
            assert observation == pytest.approx(seen, rel=1e-6)
            rows = np.concatenate([state.users[k], state.status[k, :, None]], axis=1)
            assert np.concatenate([rows.ravel(), state.system[k]]) == pytest.approx(seen, rel=1e-6)
        twin = twin.select(~ends)
        if not twin.t.size:
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
    for _ in range(40):
        instance = paper_instance(rng, Range(users=(4, 7), gpus=(2, 4, 8)))
        tables = paper_tables([instance], len(instance.users))
        granted = np.zeros((1, len(instance.users)), bool)
        one = tables.rounds(np.zeros(1, int), "file", rng)
        for t in range(len(instance.users)):
            tried = granted.copy()
            tried[0, t] = True
            if tried.sum() <= instance.scenario.max_batch and tables.value(one, tried) > tables.value(one, granted):
                granted = tried
        rewards, info, _ = play(OffloadingEnv(), instance, granted[0].astype(int))
        best, local = brute_force(instance.scenario, instance.users), info["all_local_objective"]
        shares.append((sum(rewards) - local) / (best - local) if best - local > 1e-9 else 1.0)
    assert np.mean(shares) > 0.95


def test_a_tables_rise_is_what_granting_the_next_user_adds():
    rng = np.random.default_rng(9)
    instances = [small_instance(rng) for _ in range(30)]
    tables = paper_tables(instances)
    rounds = tables.rounds(np.arange(30), "file", rng)
    for k, instance in enumerate(instances):
        granted = np.zeros((1, PLACES), bool)
        t = int(rng.integers(len(instance.users)))
        granted[0, :t] = rng.random(t) < 0.3
        b = granted.sum()
        if b >= instance.scenario.max_batch:
            continue
        more = granted.copy()
        more[0, t] = True
        count = len(instance.users)
        expected = objective_of(instance, more[0, :count]) - objective_of(instance, granted[0, :count])
        rounding = 1e-9 * max(1, abs(objective_of(instance, more[0, :count])))
        assert tables.rise(rounds.take(np.array([k])), granted, np.array([t]))[0] == pytest.approx(
            expected, rel=1e-9, abs=rounding
        )


# -- what the `set` network sees ----------------------------------------------------------------------------


def one_cell(users):
    """Users as one cell of a matrix."""
    return users.take(np.arange(len(users))[None])


@pytest.mark.parametrize("draw", [paper_instance, broad_instance, grouped_instance])
def test_no_optimal_plan_grants_more_than_the_bound_nor_one_off_the_shortlist(draw):
    rng = np.random.default_rng(21)
    for _ in range(60):
        instance = draw(rng)
        scenario, users = instance.scenario, instance.users
        best = optimum(scenario, users)
        cell = one_cell(users)
        (most,) = most_granted(scenario, cell.step_latency_s, cell.alpha)
        assert best.granted.sum() <= most <= min(len(users), scenario.max_batch)
        listed = users.take(set_features(scenario, cell).order[0])
        kept = gain(Instance(scenario, listed), optimum(scenario, listed))
        possible = gain(instance, best)
        assert kept >= (1 - 1e-4) * possible


def test_the_bound_is_the_largest_count_whose_users_all_gain_more_than_they_cost():
    """Every b rated, against bisection."""
    rng = np.random.default_rng(22)
    for _ in range(80):
        instance = small_instance(rng)
        scenario, users = instance.scenario, instance.users
        counts = range(1, min(scenario.max_batch, len(users)) + 1)
        worth = []
        for b in counts:
            saving = users.step_latency_s - edge_step_latency(scenario, b)
            gain = best_split(scenario, users.alpha, saving)[1]
            worth.append(int((gain > transmit_time(scenario, 1) * (2 * b - 1)).sum()))
        expected = max((b for b, enough in zip(counts, worth, strict=True) if enough >= b), default=0)
        cell = one_cell(users)
        assert most_granted(scenario, cell.step_latency_s, cell.alpha)[0] == expected


def test_the_features_are_free_of_units():
    """All seconds times 60, that is a plan in minutes: the same features."""
    for seed in range(20):
        instance = broad_instance(np.random.default_rng(seed))
        s, cell = instance.scenario, one_cell(instance.users)
        edge = replace(s.edge, slope_s=60 * s.edge.slope_s, intercept_s=60 * s.edge.intercept_s)
        edge = replace(edge, floor_s=60 * s.edge.floor_s)
        slow = replace(s, edge=edge, bandwidth_hz=s.bandwidth_hz / 60)
        slow_cell = Users(60 * cell.step_latency_s, 60 * cell.alpha, cell.request_slot, cell.cell)
        first, second = set_features(s, cell), set_features(slow, slow_cell)
        assert second.gains == pytest.approx(first.gains, rel=1e-6, abs=1e-6)
        assert second.fixed == pytest.approx(first.fixed, rel=1e-6)
        assert second.scale == pytest.approx(60 * first.scale, rel=1e-6)


# -- the order of the users --------------------------------------------------------------------------------------------


def test_orders():
    """Every order takes each user once and empty places last; random ones differ; the slowest device comes first."""
    rng = np.random.default_rng(0)
    tables = paper_tables([paper_instance(rng) for _ in range(50)])
    orders = {name: tables.rounds(np.arange(50), name, rng).order for name in ("file", "random", "slowest", "mixed")}
    for order in orders.values():
        for k, row in enumerate(order):
            count = tables.users[k]
            assert sorted(row[:count]) == list(range(count))
            assert sorted(row[count:]) == list(range(count, PLACES))
    assert np.array_equal(orders["file"], np.tile(np.arange(PLACES), (50, 1)))
    assert (orders["random"] != orders["file"]).any(axis=1).all()
    sorted_ones = (orders["mixed"] == orders["slowest"]).all(axis=1)
    assert 10 < sorted_ones.sum() < 40
    for k, row in enumerate(orders["slowest"]):
        seen = [(-tables.local[k, place, 1], tables.local[k, place, 0]) for place in row[: tables.users[k]]]
        assert seen == sorted(seen)


def test_a_round_in_another_order_is_the_round_with_its_users_in_that_order():
    """State, value and rise of permuted rounds equal those of instances whose users stand in that order in the file."""
    rng = np.random.default_rng(4)
    instances = [small_instance(rng) for _ in range(30)]
    tables = paper_tables(instances)
    rounds = tables.rounds(np.arange(30), "random", rng)
    moved = [Instance(i.scenario, i.users.take(rounds.order[k, : len(i.users)])) for k, i in enumerate(instances)]
    theirs = paper_tables(moved)
    same = theirs.rounds(np.arange(30), "file", rng)
    t = np.array([rng.integers(len(instance.users)) for instance in instances])
    granted = (rng.random((30, PLACES)) < 0.3) & (np.arange(PLACES) < t[:, None])
    granted &= np.cumsum(granted, axis=1) < tables.max_batch[:, None]
    for name in ("users", "status", "system"):
        assert np.array_equal(
            getattr(tables.paper_state(rounds, granted, t), name), getattr(theirs.paper_state(same, granted, t), name)
        )
    assert tables.value(rounds, granted) == pytest.approx(theirs.value(same, granted), rel=1e-12, abs=1e-9)
    assert tables.rise(rounds, granted, t) == pytest.approx(theirs.rise(same, granted, t), rel=1e-9, abs=1e-9)

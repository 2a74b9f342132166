"""Service-v0 in its three forms: Gymnasium's rules, and rewards that add up to what a world gains."""

from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from edgesplit.optimizer.methods.exact import optimum
from edgesplit.service.learn.env import ENV_ID, USERS_ENV_ID, ServiceEnv, ServiceUsersEnv, ServiceVectorEnv
from edgesplit.service.learn.vector_simulation import VectorSimulation, formula_pricing
from edgesplit.service.price_policy import FEATURES, OUTPUTS
from edgesplit.service.scheduler import decide, price
from edgesplit.service.simulator import Simulation, decider
from edgesplit.service.worlds import draw_world

NOTHING = np.zeros(OUTPUTS)


def moving_world(arrivals="poisson:8", seed=4):
    return draw_world(arrivals=arrivals, rounds=30, seed=seed, gpus_over_time="random:10,2,4,8")


@pytest.mark.filterwarnings("ignore:.*Box.*:UserWarning")
@pytest.mark.parametrize("name", [ENV_ID, USERS_ENV_ID])
def test_gymnasium_finds_nothing_to_complain_of(name):
    env = gymnasium.make(name)
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("arrivals", ["poisson:1", "poisson:8", "bursts:0,20,5"])
def test_the_rewards_of_the_rule_price_add_up_to_what_it_gains(arrivals):
    world = moving_world(arrivals)
    env, rewards, ended = ServiceEnv(), [], False
    env.reset(options={"world": world})
    while not ended:
        _, reward, ended, _, info = env.step(NOTHING)
        rewards.append(reward)
    gain = VectorSimulation([world]).run(formula_pricing)[0]
    assert sum(rewards) == pytest.approx(gain)
    assert info["gain"] == pytest.approx(gain)
    assert len(rewards) == len(world.rounds)


def test_what_is_seen_is_what_the_simulator_is_at_work_on():
    world = draw_world(arrivals="poisson:12", rounds=12, seed=1)
    env, ended = ServiceEnv(), False
    seen, _ = env.reset(options={"world": world})
    loads = []

    def watch(requests, load):
        loads.append((load, world.step_latency_s[requests], world.alpha[requests]))
        users = world.users.take(world.requests.user[requests])
        plan = decide(world.scenario, load, users)
        return plan.granted.tolist(), plan.local_steps.tolist()

    Simulation(world, counts_steps=True).run(watch)
    for load, latency, alpha in loads:
        assert seen["features"].shape == (FEATURES,)
        there = seen["users"][:, 0] == 1
        assert np.allclose(seen["users"][there, 1:], np.column_stack([latency, alpha]))
        left = sorted(load.steps_left, reverse=True)
        assert seen["in_flight"][: len(left)].tolist() == left
        assert not seen["in_flight"][len(left) :].any()
        assert seen["system"][:2].tolist() == [load.on_radio, load.gpus]
        seen, _, ended, _, _ = env.step(NOTHING)
    assert ended


def test_many_worlds_at_once_are_paid_and_see_what_each_alone_does():
    worlds = [moving_world(seed=seed) for seed in range(3)]
    env = gymnasium.make_vec(ENV_ID, num_envs=3, vectorization_mode="vector_entry_point")
    seen, _ = env.reset(options={"worlds": worlds})
    assert env.observation_space.contains(seen)
    total, ended = np.zeros(3), np.zeros(3, bool)
    while not ended.any():
        seen, reward, ended, _, info = env.step(np.zeros((3, OUTPUTS)))
        total += reward
    assert ended.all()
    alone = [VectorSimulation([world]).run(formula_pricing)[0] for world in worlds]
    assert total == pytest.approx(np.array(alone))
    assert info["gain"] == pytest.approx(total)


def test_many_worlds_begin_others_after_their_end():
    env = ServiceVectorEnv(2, worlds=lambda rng: draw_world(rounds=3, seed=int(rng.integers(1000))))
    one = first(env, seed=5)
    for _ in range(3):
        *_, ended, _, _ = env.step(np.zeros((2, OUTPUTS)))
    assert ended.all()
    seen, reward, ended, _, _ = env.step(np.zeros((2, OUTPUTS)))
    assert not reward.any()
    assert not ended.any()
    assert not np.array_equal(seen["users"], one["users"])
    assert np.array_equal(one["users"], first(env, seed=5)["users"])


def first(env, seed):
    return env.reset(seed=seed)[0]


def exactly_priced(world):
    """The decisions of the rule `price`, by request."""
    found = Simulation(world).run(decider(world, partial(decide, rule=price)))
    return found.granted, found.local_steps


def test_deciding_user_by_user_as_the_exact_solver_gains_what_it_gains():
    world = moving_world()
    granted, _ = exactly_priced(world)
    env, total, ended = ServiceUsersEnv(), 0.0, False
    seen, _ = env.reset(options={"world": world})
    for request in range(len(world.requests)):
        assert seen["current"][:2] == pytest.approx([world.step_latency_s[request], world.alpha[request]], rel=1e-6)
        assert not ended
        seen, reward, ended, _, info = env.step(int(granted[request]))
        total += reward
    assert ended
    assert total == pytest.approx(info["gain"])
    assert total == pytest.approx(VectorSimulation([world]).run(formula_pricing)[0])


def test_a_full_edge_ends_the_round_and_denies_the_rest():
    world = draw_world(arrivals="poisson:30", rounds=2, seed=1)
    assert np.diff([first for _, first, _ in world.rounds])[0] > world.scenario.max_batch
    env = ServiceUsersEnv()
    env.reset(options={"world": world})
    for _ in range(world.scenario.max_batch):
        seen, *_ = env.step(1)
    assert seen["current"][2] == 0
    assert env.played.play.round == 1
    first, end = world.rounds[0][1:]
    local_steps = env.played.play.local_steps[0, first:end]
    assert not (local_steps[world.scenario.max_batch :] < world.scenario.total_steps).any()


def test_in_an_empty_edge_the_first_round_is_the_papers():
    world = draw_world(rounds=1, seed=2)
    env = ServiceUsersEnv()
    env.reset(options={"world": world})
    plan = optimum(world.scenario, world.asking)
    for grant in plan.granted:
        env.step(int(grant))
    assert np.array_equal(env.played.play.local_steps[0], plan.local_steps)


def test_wrong_use_is_told():
    env = ServiceEnv()
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(NOTHING)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"accepted: {OUTPUTS} finite numbers"):
        env.step(np.full(OUTPUTS, np.nan))
    with pytest.raises(ValueError, match=f"accepted: {OUTPUTS} finite numbers"):
        env.step(np.zeros(OUTPUTS + 1))
    users = ServiceUsersEnv()
    with pytest.raises(ValueError, match="accepted: 0"):
        users.step(2)
    with pytest.raises(ValueError, match="accepted: 0"):
        users.step(np.array([1, 0]))
    many = ServiceVectorEnv(2)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        many.step(np.zeros((2, OUTPUTS)))
    many.reset(seed=0)
    with pytest.raises(ValueError, match=f"accepted: 2 x {OUTPUTS} finite numbers"):
        many.step(NOTHING)
    for given in ([], [moving_world()]):
        with pytest.raises(ValueError, match=f"found {len(given)}, accepted: 2"):
            many.reset(options={"worlds": given})


def test_where_no_gpu_is_there_that_is_seen_and_nobody_is_granted():
    world = replace(draw_world(rounds=4, seed=3), gpus_over_time=[(0.0, 0)])
    env = ServiceUsersEnv()
    seen, _ = env.reset(options={"world": world})
    assert seen["system"][1] == 0
    ended = False
    while not ended:
        *_, ended, _, info = env.step(1)
    assert info["gain"] == 0

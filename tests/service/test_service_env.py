"""Service-v0: Gymnasium's rules, and rewards that add up to what a world gains."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from edgesplit.service.learn.env import ENV_ID, ServiceEnv
from edgesplit.service.learn.vector_simulation import VectorSimulation, price
from edgesplit.service.price_policy import FEATURES
from edgesplit.service.scheduler import decide
from edgesplit.service.simulator import Simulation
from edgesplit.service.worlds import draw_world


@pytest.mark.filterwarnings("ignore:.*Box.*:UserWarning")
def test_gymnasium_finds_nothing_to_complain_of():
    env = gymnasium.make(ENV_ID)
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("arrivals", ["poisson:1", "poisson:8", "bursts:0,20,5"])
def test_the_rewards_of_the_rule_price_add_up_to_what_it_gains(arrivals):
    world = draw_world(arrivals=arrivals, rounds=30, seed=4, gpus_over_time="random:10,2,4,8")
    env, rewards, ended = ServiceEnv(), [], False
    env.reset(options={"world": world})
    while not ended:
        _, reward, ended, _, info = env.step(np.zeros(2))
        rewards.append(reward)
    gain = VectorSimulation([world]).run(price)[0]
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
        seen, _, ended, _, _ = env.step(np.zeros(2))
    assert ended


def test_wrong_use_is_told():
    env = ServiceEnv()
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(np.zeros(2))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="accepted: 2 finite numbers"):
        env.step(np.array([np.nan, 0]))
    with pytest.raises(ValueError, match="accepted: 2 finite numbers"):
        env.step(np.zeros(3))

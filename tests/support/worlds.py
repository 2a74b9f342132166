"""Worlds for the tests: a few users, random arrivals, every setting of the simulator."""

import numpy as np
from fleets import random_fleet, random_fleet_users
from oracles import make_scenario, make_users

from edgesplit.service.simulator import Requests, World


def random_world(rng, **settings):
    """A small world of any kind, and random decisions on all of its requests."""
    scenario = make_scenario(
        gpus=int(rng.choice([1, 2, 8])),
        bandwidth_hz=float(rng.choice([1e6, 5e6])),
        latent_bits=float(rng.choice([0.0, 4.4e5, 4.4e6])),
        total_steps=int(rng.choice([20, 50])),
        min_local_steps=5,
    )
    users = make_users(rng.uniform(0.02, 0.2, 6), rng.uniform(1, 20, 6))
    count = int(rng.integers(3, 14))
    requests = Requests(
        time_s=np.sort(rng.uniform(0, 5, count)),
        user=rng.integers(0, 6, count),
        patience_s=np.where(rng.random(count) < 0.2, rng.uniform(0, 6, count), np.inf),
    )
    world = World(scenario=scenario, users=users, requests=requests, **settings)
    granted = rng.random(count) < 0.7
    n = np.where(granted, rng.integers(5, scenario.total_steps + 1, count), scenario.total_steps)
    return world, granted.tolist(), n.tolist()


def random_fleet_world(rng, servers=2, models=2, requests=14, **settings):
    """A small world of several servers of every kind, users with links of all kinds and none; nobody gives up."""
    fleet = random_fleet(rng, servers, models)
    users = random_fleet_users(rng, 6, servers)
    asked = Requests(
        time_s=np.sort(rng.uniform(0, 5, requests)),
        user=rng.integers(0, 6, requests),
        patience_s=np.full(requests, np.inf),
    )
    return World(scenario=fleet, users=users, requests=asked, **settings)

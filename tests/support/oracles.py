"""Independent oracles: the model written again, plainly, from the paper; brute force; random instances."""

import itertools
import math

import numpy as np

from edgesplit.fitting.latency import LatencyModel
from edgesplit.fitting.pai import PaiCurve
from edgesplit.optimizer.model.qoe import Scenario, Users


def make_scenario(**changes):
    values = {
        "edge": LatencyModel(0.0105, 0.012, 0.018),
        "gpus": 8,
        "max_batch": 20,
        "bandwidth_hz": 1e6,
        "spectral_efficiency": 10.0,
        "prompt_bits": 216.0,
        "latent_bits": 4.4e6,
        "interval_s": 1.0,
        "slots": 10,
        "reference_batch": 20,
        "total_steps": 200,
        "min_local_steps": 80,
        "pai": PaiCurve(0.0413, 71.44),
    }
    return Scenario(**(values | changes))


def make_users(latency, alpha, slot=None, cell=None):
    latency = np.asarray(latency, float)
    return Users(
        latency,
        np.broadcast_to(np.asarray(alpha, float), latency.shape),
        np.full(latency.size, 10) if slot is None else np.asarray(slot),
        np.zeros(latency.size, int) if cell is None else np.asarray(cell),
    )


def random_scenario(rng):
    """Small scenarios of every kind: floors, G > b, steep, flat and late curves (F(N-hat) < 1/2), free radio."""
    total = int(rng.integers(2, 25))
    floor = rng.choice([0.0, 0.02])
    return make_scenario(
        edge=LatencyModel(rng.choice([0.0, 0.01, 0.1]), rng.choice([0.001, 0.02, 0.2]), floor),
        gpus=int(rng.choice([1, 2, 8, 64])),
        max_batch=int(rng.integers(1, 10)),
        latent_bits=float(rng.choice([0.0, 1e4, 1e6, 4.4e6])),
        prompt_bits=float(rng.choice([0.0, 216.0])),
        total_steps=total,
        min_local_steps=int(rng.integers(0, total + 1)),
        pai=PaiCurve(
            steepness=float(rng.choice([0.04, 0.5, 5.0, 60.0])),
            midpoint=float(rng.uniform(-0.2, 1.2) * total),
            amplitude=float(rng.choice([1.0, 0.7, 0.0])),
            offset=float(rng.choice([0.0, 0.1, -0.2])),
        ),
    )


def random_users(rng, count):
    """Users with ties, alpha = 0, and devices on both sides of the edge's speed."""
    latency = rng.choice([0.005, 0.05, 0.3, 1.0, rng.uniform(0.01, 1)], count)
    alpha = rng.choice([0.0, 0.5, 5.0, 500.0, rng.uniform(0, 50)], count)
    return make_users(latency, alpha, rng.integers(1, 11, count))


def user_qoe(s, latency, alpha, slot, granted, n, b):
    """One user's QoE, term by term from the paper, in plain Python."""
    curve = s.pai
    t = curve.steepness * (n - curve.midpoint)
    f = 1 / (1 + math.exp(-t)) if t > -700 else 0.0
    total = (s.slots - slot) * s.interval_s / s.slots + n * latency
    if granted:
        total += (s.prompt_bits + s.latent_bits) / (s.spectral_efficiency * s.bandwidth_hz / b)
        total += (s.total_steps - n) * max(s.edge.floor_s, s.edge.slope_s * b / s.gpus + s.edge.intercept_s)
    return alpha * (curve.offset + curve.amplitude * f) - total


def plan_value(s, users, granted, local_steps):
    b = int(sum(granted))
    rows = zip(users.step_latency_s, users.alpha, users.request_slot, granted, local_steps, strict=True)
    return math.fsum(user_qoe(s, latency, alpha, slot, g, n, b) for latency, alpha, slot, g, n in rows)


def brute_force(s, users):
    """The best objective over every subset; given b, each granted user's split over all integers."""
    rows = list(zip(users.step_latency_s, users.alpha, users.request_slot, strict=True))
    splits = range(s.min_local_steps, s.total_steps + 1)
    local = [user_qoe(s, *row, False, s.total_steps, 0) for row in rows]
    best = -math.inf
    for b in range(min(s.max_batch, len(rows)) + 1):
        granted = [max(user_qoe(s, *row, True, n, b) for n in splits) if b else 0 for row in rows]
        for chosen in itertools.combinations(range(len(rows)), b):
            best = max(best, math.fsum(granted[i] if i in chosen else local[i] for i in range(len(rows))))
    return best


def joint_brute_force(s, users):
    """The best objective over every decision and every split, all together; for one or two users."""
    rows = list(zip(users.step_latency_s, users.alpha, users.request_slot, strict=True))
    choices = [(False, s.total_steps)] + [(True, n) for n in range(s.min_local_steps, s.total_steps + 1)]
    plans = itertools.product(choices, repeat=len(rows))
    return max(
        plan_value(s, users, *zip(*plan, strict=True)) for plan in plans if sum(g for g, _ in plan) <= s.max_batch
    )

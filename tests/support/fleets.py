"""Independent oracles for several servers and models: the model written again in plain Python, and brute force."""

import itertools
import math
from dataclasses import replace

import numpy as np
from oracles import make_scenario

from edgesplit.fitting.latency import LatencyModel
from edgesplit.fitting.pai import PaiCurve
from edgesplit.optimizer.model.qoe import Users, numbers_of
from edgesplit.optimizer.model.servers import Fleet, FleetServer, SharedModel


def make_model(name="shared", size=0.0, clusters=(), pai=None, others=None, base=0):
    pai = pai or make_scenario().pai
    return SharedModel(name=name, size_bytes=size, clusters=clusters, pai=pai, pai_others=others or pai, base=base)


def make_server(name="edge", hosts=(0,), memory=None, **changes):
    return FleetServer(name=name, scenario=make_scenario(**changes), hosts=tuple(hosts), memory_bytes=memory)


def make_fleet(servers, models=None, clusters=()):
    models = models or [make_model()]
    return Fleet(**numbers_of(servers[0].scenario), servers=tuple(servers), models=tuple(models), clusters=clusters)


def random_curve(rng, total):
    return PaiCurve(
        steepness=float(rng.choice([0.04, 0.5, 5.0])),
        midpoint=float(rng.uniform(0, 1.2) * total),
        amplitude=float(rng.choice([1.0, 0.7, 0.0])),
        offset=float(rng.choice([0.0, 0.1])),
    )


def random_fleet(rng, servers, models):
    """Small fleets of every kind: floors, radio or none, fixed hosts or a choice, adapters, models that take turns."""
    total = int(rng.integers(2, 12))
    common = {"total_steps": total, "min_local_steps": int(rng.integers(0, total)), "pai": random_curve(rng, total)}
    base = [c if c == 0 or rng.random() < 0.6 else 0 for c in range(models)]
    kinds = [
        make_model(
            name=f"model-{c}",
            size=float(rng.integers(1, 4)),
            clusters=tuple(np.flatnonzero(rng.random(3) < 0.5).tolist()),
            pai=common["pai"] if rng.random() < 0.4 else random_curve(rng, total),
            others=random_curve(rng, total),
            base=base[c],
        )
        for c in range(models)
    ]
    places = []
    for m in range(servers):
        chosen = set(np.flatnonzero(rng.random(models) < 0.7).tolist())
        places.append(
            make_server(
                name=f"server-{m}",
                hosts=sorted(chosen | {base[c] for c in chosen}),
                memory=float(rng.integers(0, 8)) if rng.random() < 0.7 else None,
                edge=LatencyModel(
                    rng.choice([0.0, 0.01, 0.1]), rng.choice([0.001, 0.02, 0.1]), rng.choice([0.0, 0.05])
                ),
                gpus=int(rng.choice([1, 2, 8])),
                max_batch=int(rng.integers(1, 6)),
                latent_bits=float(rng.choice([0.0, 1e4, 1e6])),
                prompt_bits=0.0,
                **common,
            )
        )
    return make_fleet(places, kinds, ("a", "b", "c"))


def random_fleet_users(rng, count, servers):
    """Users with ties, alpha = 0, links of all kinds and none at all, and clusters that no model knows."""
    rate = rng.choice([0.0, 1.0, 10.0, np.nan], (count, servers))
    return Users(
        rng.choice([0.005, 0.05, 0.3, 1.0, rng.uniform(0.01, 1)], count),
        rng.choice([0.0, 0.5, 5.0, 50.0, rng.uniform(0, 50)], count),
        rng.integers(1, 11, count),
        np.zeros(count, int),
        cluster=rng.integers(-1, 3, count),
        rate=rate,
    )


def sigmoid(curve, n):
    t = curve.steepness * (n - curve.midpoint)
    return curve.offset + curve.amplitude * (1 / (1 + math.exp(-t)) if t > -700 else 0.0)


def gain_of(fleet, users, i, m, c, n, b, turns):
    """What user i gains over all local at server m, with model c and split n, as one of b where models take turns."""
    server, model, total = fleet.servers[m], fleet.models[c], fleet.total_steps
    s = server.scenario
    rate = s.spectral_efficiency if users.rate is None or math.isnan(users.rate[i, m]) else users.rate[i, m]
    if rate == 0:
        return -math.inf
    cluster = -1 if users.cluster is None else users.cluster[i]
    curve = model.pai if not model.clusters or cluster in model.clusters else model.pai_others
    step = max(s.edge.floor_s, s.edge.slope_s * b / s.gpus + s.edge.intercept_s)
    step += (turns - 1) * max(s.edge.floor_s, s.edge.intercept_s)
    saved = (total - n) * (users.step_latency_s[i] - step)
    sent = (s.prompt_bits + s.latent_bits) * b / (rate * s.bandwidth_hz)
    return users.alpha[i] * (sigmoid(curve, n) - sigmoid(curve, total)) + saved - sent


def fitting_sets(fleet, m):
    """Every set of models, bases among them, that server m may serve at a time."""
    server = fleet.servers[m]
    for size in range(1, len(server.hosts) + 1):
        for chosen in itertools.combinations(server.hosts, size):
            closed = all(fleet.models[c].base in chosen for c in chosen)
            if closed and sum(fleet.models[c].size_bytes for c in chosen) <= server.memory:
                yield chosen


def server_values(fleet, users, m):
    """The most that server m gains with each set of users, by the set's bits."""
    count, splits = len(users), range(fleet.min_local_steps, fleet.total_steps + 1)
    worth = [0.0] + [-math.inf] * (2**count - 1)
    for chosen in fitting_sets(fleet, m):
        turns = len({fleet.models[c].base for c in chosen})
        for b in range(1, min(count, fleet.servers[m].scenario.max_batch) + 1):
            gain = [
                max(gain_of(fleet, users, i, m, c, n, b, turns) for c in chosen for n in splits) for i in range(count)
            ]
            for some in itertools.combinations(range(count), b):
                bits = sum(1 << i for i in some)
                worth[bits] = max(worth[bits], math.fsum(gain[i] for i in some))
    return worth


def brute_force_gain(fleet, users):
    """The largest gain over all local: every set of users at every server, with every set of models and every split."""
    best = [0.0] * 2 ** len(users)
    for m in range(len(fleet.servers)):
        worth = server_values(fleet, users, m)
        after = list(best)
        for bits in range(len(best)):
            part = bits
            while part:
                after[bits] = max(after[bits], best[bits ^ part] + worth[part])
                part = (part - 1) & bits
        best = after
    return best[-1]


def plan_gain(fleet, users, plan):
    """What a plan gains over all local, term by term."""
    total = 0.0
    for m in range(len(fleet.servers)):
        here = np.flatnonzero(plan.server == m)
        turns = len({fleet.models[plan.model[i]].base for i in here})
        total += math.fsum(
            gain_of(fleet, users, i, m, plan.model[i], plan.local_steps[i], here.size, turns) for i in here
        )
    return total


PRIVATE_STEPS, SET_SIZE = 100, 3


def packing_fleet(sets, elements):
    """docs/servers.md's reduction from 3-set packing: a server for each set, and users for elements and servers.

    Each server has a user of its own, who saves almost nothing as soon as somebody else is granted beside it. A user of
    an element offloads one step, whose PAI nearly equals that of all local, and gains 0.4 times as much: only three of
    them are worth more than the server's own user.

    Returns:
        (fleet, users, gain of a server with its own user, gain of a server with three elements).
    """
    curve = PaiCurve(steepness=200.0, midpoint=PRIVATE_STEPS - 1.5)
    edge = LatencyModel(slope_s=0.01, intercept_s=0.01)
    server = make_server(
        edge=edge, gpus=1, max_batch=SET_SIZE, latent_bits=0.0, prompt_bits=0.0, total_steps=PRIVATE_STEPS,
        min_local_steps=0, pai=curve,
    )  # fmt: skip
    fleet = make_fleet([replace(server, name=f"set-{m}") for m in range(len(sets))], [make_model(pai=curve)])
    step = edge.step_latency(np.arange(4))
    alone = PRIVATE_STEPS * (step[2] - step[1])
    latency = np.concatenate([np.full(len(sets), step[2]), np.full(elements, step[1] + 0.4 * alone)])
    alpha = np.concatenate([np.zeros(len(sets)), np.full(elements, 1e6)])
    rate = np.zeros((len(sets) + elements, len(sets)))
    rate[np.arange(len(sets)), np.arange(len(sets))] = 1.0
    for m, members in enumerate(sets):
        rate[[len(sets) + element for element in members], m] = 1.0
    together = SET_SIZE * (step[1] + 0.4 * alone - step[3])
    zeros = np.zeros(latency.size, int)
    return fleet, Users(latency, alpha, zeros + 10, zeros, rate=rate), alone, together


def largest_packing(sets):
    """The largest number of sets of which no two share an element, by trying all."""
    for size in range(len(sets), 0, -1):
        for chosen in itertools.combinations(sets, size):
            if sum(map(len, chosen)) == len(set().union(*chosen)):
                return size
    return 0


def coverage_fleet(sets, elements, held):
    """docs/servers.md's reduction from maximum coverage: one server with room for `held` adapters, one for each set.

    There is one user for each element, of a cluster of its own, who gains 1 second with a model of its cluster.
    """
    total, latency = 10, 0.2
    flat, worthless = PaiCurve(steepness=200.0, midpoint=-1.0), PaiCurve(steepness=200.0, midpoint=total - 0.5)
    base = len(sets)
    models = [make_model(f"set-{c}", 1.0, tuple(own), flat, worthless, base) for c, own in enumerate(sets)]
    models.append(make_model("base", 1.0, (), worthless, worthless, base))
    server = make_server(
        hosts=range(len(models)), memory=held + 1.0, edge=LatencyModel(0.0, 0.1), max_batch=elements, latent_bits=0.0,
        prompt_bits=0.0, total_steps=total, min_local_steps=0, pai=flat,
    )  # fmt: skip
    fleet = make_fleet([server], models, tuple(map(str, range(elements))))
    zeros = np.zeros(elements, int)
    users = Users(np.full(elements, latency), np.full(elements, 10.0), zeros + 10, zeros, cluster=np.arange(elements))
    return fleet, users


def largest_coverage(sets, held):
    """The most elements that so many sets cover, by trying all."""
    return max(len(set().union(*chosen)) for chosen in itertools.combinations(sets, held))

"""Random cases with several servers: users and servers lie in a square, and every server has GPUs of its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...common.arrays import Floats
from ...fitting.library import load_profile
from ...fitting.pai import PaiCurve
from ...optimizer.model.qoe import Scenario, Users, numbers_of
from ...optimizer.model.servers import Fleet, FleetServer, SharedModel
from .setup import Setup

EDGES = ("h100-nvl", "h100-pcie", "a100-80gb-pcie", "a10", "l4", "rtx-4090")
GPUS = (1, 2, 4, 8, 16)
"""Profiles and numbers of GPUs that a server may have, each equally likely."""
REACH = 0.7
"""Distance beyond which a server is out of reach, in sides of the square."""
LATER = 0.15
"""Steps by which the PAI of users of other clusters rises later, as a share of N."""
WIDE_HZ = 20e6
"""The paper's 1 MHz lets a server grant few users, and then servers hardly compete for them."""


def draw_fleet(
    setup: Setup, models: Sequence[SharedModel], size: tuple[int, int], number: int, one_each: bool = False, **same: Any
) -> Fleet:
    """The servers of a random case, with memory for all models that they may host.

    Args:
        setup: numbers of the reproduction.
        models: the cluster-wide models.
        size: numbers of users and of servers.
        number: number of the case.
        one_each: whether a server hosts one model, the next one the next; otherwise each chooses among all.
        same: fields of `Scenario` that are the same at every server.
    """
    rng = np.random.default_rng([setup.choices.seed, *size, number, 0])
    edges = [replace(random_edge(rng, setup.scenario), **same) for _ in range(size[1])]
    every = tuple(range(len(models)))
    servers = tuple(
        FleetServer(
            name=f"edge-{m + 1}", scenario=edge, hosts=(m % len(models),) if one_each else every, memory_bytes=None
        )
        for m, edge in enumerate(edges)
    )
    clusters = tuple(str(c) for c in sorted({c for model in models for c in model.clusters}))
    return Fleet(**numbers_of(edges[0]), servers=servers, models=tuple(models), clusters=clusters)


def draw_users(setup: Setup, clusters: int, size: tuple[int, int], number: int) -> Users:
    """The users of a random case, drawn as in section 6.1.1, each of one of so many clusters, with links to servers.

    The arguments are as in `draw_fleet`. Devices, alphas and slots are those of the case of this number elsewhere.
    """
    users, servers = size
    rng = np.random.default_rng([setup.choices.seed, *size, number, 1])
    rate, cluster = random_links(rng, users, servers), rng.integers(0, clusters, users)
    return replace(setup.case(users, number).users, cluster=cluster, rate=rate)


def random_edge(rng: np.random.Generator, base: Scenario) -> Scenario:
    """A system with one of `EDGES` and one of `GPUS` as its edge."""
    edge = load_profile(EDGES[rng.integers(len(EDGES))]).fit.model()
    return replace(base, gpus=int(rng.choice(GPUS)), edge=edge)


def random_links(rng: np.random.Generator, users: int, servers: int) -> Floats:
    """Spectral efficiency of links between random places of a square, bit/s/Hz, shape (users, servers); 0 out of reach.

    A link is as fast as its distance lets it be.
    """
    distance = np.linalg.norm(rng.random((users, 1, 2)) - rng.random((servers, 2)), axis=2)
    rate: Floats = np.where(distance < REACH, np.clip(np.log2(1 + 5 / (0.05 + distance) ** 2), 0.5, 12), 0.0)
    return rate


def later(scenario: Scenario) -> PaiCurve:
    """The PAI of users of other clusters: the scenario's curve, later."""
    return replace(scenario.pai, midpoint=scenario.pai.midpoint + LATER * scenario.total_steps)

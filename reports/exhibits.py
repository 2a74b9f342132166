"""All exhibits in the order of the report, and all experiments that their rows come from."""

from collections.abc import Mapping

import pandas as pd

from ..optimizer.methods.registry import DEFAULT_METHOD
from .basis.definitions import Exhibit, Material, Unit
from .basis.scoring import Row
from .basis.setup import Setup, Size, Sources
from .exhibit import (
    complexity,
    fixed_batch,
    latency,
    latents,
    learning,
    memory,
    over_time,
    pai,
    peers,
    rounds,
    scopes,
    sensitivity,
    servers,
    splits,
    wanted,
)


def exhibits(proposed: str = DEFAULT_METHOD) -> tuple[Exhibit, ...]:
    """Every figure and table, with this method as the proposed one."""
    return (
        latency.FIG3,
        pai.FIG4A,
        pai.FIG4B,
        splits.FIG7A,
        splits.FIG7B,
        learning.FIG8,
        scopes.FIG9A,
        scopes.FIG9B,
        scopes.FIG9C,
        scopes.FIG9_CASE,
        *rounds.fig10(proposed),
        peers.fig11(proposed),
        complexity.table1(proposed),
        fixed_batch.beyond_shrinking(proposed),
        sensitivity.BEYOND_SENSITIVITY,
        latents.BEYOND_LATENTS,
        wanted.BEYOND_GPUS,
        over_time.BEYOND_TIME,
        servers.BEYOND_SERVERS,
        memory.BEYOND_MEMORY,
    )


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        peers.BY_PEERS,
        fixed_batch.SHRINKING,
        rounds.BY_USERS,
        rounds.BY_GPUS,
        rounds.OF_SAME_USERS,
        latents.LATENTS,
        wanted.WANTED,
        sensitivity.SENSITIVITY,
        scopes.BY_DRAWS,
        scopes.BY_SCOPE,
        over_time.TIME,
        servers.SERVERS,
        memory.MEMORY_SWEEP,
        complexity.TIMING,
    )
}
"""Every experiment by its name, slow ones first."""


def units(size: Size) -> list[Unit]:
    """All pieces of work."""
    return [unit for experiment in EXPERIMENTS.values() for unit in experiment.units(size)]


def compute(setup: Setup, unit: Unit) -> list[Row]:
    """The rows of one piece of work."""
    return list(EXPERIMENTS[unit.experiment].rows(setup, unit.point, unit.case))


def tables(
    setup: Setup, sources: Sources, rows: Mapping[str, pd.DataFrame], latency_goal_s: float | None = None
) -> list[tuple[Exhibit, pd.DataFrame]]:
    """Every exhibit with its table.

    Args:
        setup: numbers of the reproduction.
        sources: parameter files.
        rows: rows of every experiment by its name.
        latency_goal_s: wanted average latency in seconds, None if there is none.
    """
    empty = pd.DataFrame()
    pairs = []
    for exhibit in exhibits(setup.choices.proposed):
        own = rows[exhibit.experiment.name] if exhibit.experiment else empty
        material = Material(setup=setup, sources=sources, rows=own, latency_goal_s=latency_goal_s)
        pairs.append((exhibit, exhibit.table(material)))
    return pairs

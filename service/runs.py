"""Runs of worlds under one way to decide each: a row a request, and the use of edge and radio."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..optimizer.inputs.users import named
from ..optimizer.model.servers import Fleet, place_names
from . import outcome
from .outcome import Parts
from .simulator import Call, Decide, Records, Revise, Simulation, World

Rows = Mapping[str, NDArray[np.generic]]
"""One entry per request under each column's name."""


@dataclass(frozen=True)
class Run:
    """What one way to decide made of one world.

    Attributes:
        method: name of the way to decide.
        world: number of the world.
        rows: what happened to every request, by column.
        duration_s: seconds from the start until nothing was left to do.
        edge_busy_s: seconds with a step under way, of every server.
        radio_busy_s: seconds with something to send, of every server.
        calls: calls of the scheduler, where they were kept.
    """

    method: str
    world: int
    rows: Rows
    duration_s: float
    edge_busy_s: Sequence[float]
    radio_busy_s: Sequence[float]
    calls: tuple[Call, ...] = ()


def play(
    world: World,
    decide: Decide,
    *,
    method: str,
    number: int = 0,
    log: bool = False,
    counts_steps: bool = False,
    progress: Callable[[int], None] | None = None,
    revise: Revise | None = None,
) -> Run:
    """Play a world to its end.

    Args:
        world: the world.
        decide: the way to decide its rounds.
        method: name of that way.
        number: number of the world.
        log: whether the scheduler's calls are kept.
        counts_steps: whether the way to decide needs the steps left of every image in flight.
        progress: function that is called with the number of decided requests.
        revise: new splits of images in flight; None where splits stay.
    """
    simulation = Simulation(world, log, progress, counts_steps, revise)
    records = simulation.run(decide)
    state = simulation.state
    ended = float(np.max(records.ended_s, initial=0.0))
    rows = request_rows(world, records)
    edges, radios = ([place.busy_s for place in places] for places in (state.edges, state.radios))
    return Run(method, number, rows, ended, edges, radios, tuple(simulation.calls or ()))


def request_rows(world: World, records: Records) -> Rows:
    """The columns of the requests file: what was decided, what was planned and what happened."""
    happened, planned = outcome.realised(world, records), outcome.planned(world, records)
    names = np.array(named(world.users).user_id, object)
    return {
        "request": np.arange(len(world.requests)),
        "user_id": names[world.requests.user],
        "time_s": world.requests.time_s,
        "round": world.round_of,
        "granted": records.granted,
        "given_up": records.given_up,
        "total_steps": world.total_steps,
        "local_steps": records.local_steps,
        "planned_local_steps": records.planned_steps,
        **_columns("", happened),
        **_columns("planned_", planned),
        "latency_s": outcome.latency(world, records),
        "pai": outcome.pai(world, records),
        "qoe": outcome.quality_of_experience(world, records),
        "in_flight_met": records.met,
        "gpus": records.gpus,
        **_places(world, records),
    }


def _places(world: World, records: Records) -> Rows:
    """With several servers the names of every request's server and model, blank for local."""
    if not isinstance(world.scenario, Fleet):
        return {}
    names = place_names(world.scenario, records.server, records.model)
    return {column: np.array(values, object) for column, values in names.items()}


def _columns(prefix: str, parts: Parts) -> Rows:
    return {f"{prefix}{name}": values for name, values in vars(parts).items()}

"""What a run gave everybody: the terms of the QoE as they happened, beside what the plans predicted."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..common.arrays import Bools, Floats
from ..optimizer.model import qoe
from ..optimizer.model.qoe import local_time, transmit_time
from ..optimizer.model.servers import FleetServer
from .simulator import Records, World


@dataclass(frozen=True)
class Parts:
    """The parts of every request's latency, arrays of shape (requests,), seconds.

    Attributes:
        wait_s: from the request to the end of its round.
        edge_s: from there until it left the edge; 0 if denied.
        transmit_s: from there until its intermediate was on the device; 0 if denied.
        local_s: from there until its image was there, with decoding and its device's other requests.
    """

    wait_s: Floats
    edge_s: Floats
    transmit_s: Floats
    local_s: Floats


def realised(world: World, records: Records) -> Parts:
    """The parts as they happened; where a request was given up, the part under way ends then."""
    left = np.where(records.granted, records.left_s, records.decided_s)
    left = np.where(np.isnan(left), records.ended_s, left)
    wait = records.decided_s - world.requests.time_s
    edge, transmit = left - records.decided_s, records.arrived_s - left
    return Parts(wait, edge, transmit, records.ended_s - records.arrived_s)


def planned(world: World, records: Records) -> Parts:
    """The parts as the paper's formulas predict them at the load of the decision, eqs. (6) to (10)."""
    n = records.planned_steps
    edge, transmit = np.zeros((2, len(world.requests)))
    for m, server, here in _by_server(world, records):
        step = server.step_latency(records.turns[here], records.batch[here])
        edge[here] = (world.total_steps[here] - n[here]) * step
        transmit[here] = transmit_time(server.scenario, records.sending[here], world.rate[here, m])
    wait = records.decided_s - world.requests.time_s
    return Parts(wait, edge, transmit, local_time(n, world.step_latency_s) + world.decoding_s)


def _by_server(world: World, records: Records) -> Iterator[tuple[int, FleetServer, Bools]]:
    """Every server as it was at a decision, with its number and who was granted then; one server's GPUs may change."""
    for m, server in enumerate(world.fleet.servers):
        own = records.granted & (records.server == m)
        for gpus in np.unique(records.gpus[own]).tolist() if not world.several else [server.scenario.gpus]:
            now = replace(server, scenario=server.scenario.with_gpus(gpus))
            yield m, now, own if world.several else own & (records.gpus == gpus)


def latency(world: World, records: Records) -> Floats:
    """From the request to its image, or until it was given up, seconds; shape (requests,)."""
    return records.ended_s - world.requests.time_s


def pai(world: World, records: Records) -> Floats:
    """The PAI of every image; 0 where the request was given up."""
    return np.where(records.given_up, 0.0, world.pai(records.local_steps, records.model))


def quality_of_experience(world: World, records: Records) -> Floats:
    """QoE of every request as it happened: alpha_i F(n_i) - L_i, seconds; shape (requests,)."""
    return qoe.quality_of_experience(world.alpha, pai(world, records), latency(world, records))

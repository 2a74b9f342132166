"""A device: it asks the edge, waits as long as that can pay, and goes on by itself whenever the edge does not help.

The picture is the same whatever happens to the edge's part only where the personal model is the cluster-wide one; what
is always kept is the seed: a fall-back is the picture that the device alone makes of it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .client import EdgeClient, EdgeError
from .protocol import Ask, Decision, LatencyParts

MARGIN = 2.0
"""Times that the planned seconds may pass before a device gives the edge up."""


@dataclass(frozen=True, kw_only=True)
class DeviceResult:
    """What became of one image on its device.

    Attributes:
        decision: the server's decision; None where there was none.
        granted: whether its first steps ran at the edge.
        measured: the parts of its latency, seconds.
        reason: why the device went on by itself where the edge had not denied it; "" else.
    """

    decision: Decision | None
    granted: bool
    measured: LatencyParts
    reason: str = ""


FinishLocally = Callable[[bytes | None, int], Awaitable[None]]
"""Runs the last n steps on the device: hand-off (None: from the seed's noise, all N steps) and n."""


async def run_device(client: EdgeClient, ask: Ask, interval_s: float, finish: FinishLocally) -> DeviceResult:
    """One image: asked for, waited for, finished.

    Args:
        client: the edge.
        ask: what is asked for.
        interval_s: length of a round, seconds.
        finish: function that runs the device's own steps.
    """
    start = time.monotonic()
    all_local_s = ask.total_steps * ask.step_latency_s
    decision, payload, edge_s, reason = None, None, 0.0, ""
    decided = start
    try:
        decision = await client.ask(ask, longest_wait(interval_s, all_local_s))
        decided = time.monotonic()
        if decision.decision == "grant":
            payload, edge_s = await _fetch(client, ask, decision)
        reason = decision.reason or ""
    except EdgeError as error:
        reason = str(error)
    received = time.monotonic()
    granted = payload is not None and decision is not None
    n = decision.local_steps if granted and decision else ask.total_steps
    await finish(payload, n)
    measured = _parts(start, decided, received, time.monotonic(), edge_s if granted else None)
    if decision is not None and not reason:
        await _report(client, decision, measured)
    return DeviceResult(decision=decision, granted=granted, measured=measured, reason=reason)


def longest_wait(interval_s: float, all_local_s: float) -> float:
    """Seconds that a device waits for a decision: two rounds and a second, and never longer than all local takes."""
    return min(2 * interval_s + 1.0, all_local_s)


def longest_fetch(ask: Ask, decision: Decision) -> float:
    """Seconds that a device waits for a hand-off: twice the plan and a second, while it can still pay.

    After (N - n) L_i the hand-off saves nothing any more. So a device is later than all local by these seconds at most,
    and by those that the decision took.
    """
    planned = decision.planned.edge_s + decision.planned.transmit_s
    return min(MARGIN * planned + 1.0, decision.offloaded_steps * ask.step_latency_s)


async def _fetch(client: EdgeClient, ask: Ask, decision: Decision) -> tuple[bytes, float]:
    """The hand-off of a granted request; where it comes too late, the request is cancelled."""
    try:
        return await client.handoff(decision.id, longest_fetch(ask, decision))
    except EdgeError:
        with contextlib.suppress(EdgeError, TimeoutError):  # an edge that is gone has nothing to cancel
            await asyncio.wait_for(client.cancel(decision.id), 1.0)
        raise


def _parts(start: float, decided: float, received: float, end: float, edge_s: float | None) -> LatencyParts:
    """The parts of a latency; `edge_s` as the server measured it, None for a request without a hand-off."""
    remote = received - decided
    if edge_s is None:  # what was waited for in vain is waiting
        return LatencyParts(wait_s=received - start, edge_s=0.0, transmit_s=0.0, local_s=end - received)
    edge = min(edge_s, remote)
    return LatencyParts(wait_s=decided - start, edge_s=edge, transmit_s=remote - edge, local_s=end - received)


async def _report(client: EdgeClient, decision: Decision, measured: LatencyParts) -> None:
    try:
        await client.report(decision.id, measured)
    except EdgeError:
        return  # the picture is there; a report that is lost harms nobody


async def sleep_locally(ask: Ask, payload: bytes | None, n: int) -> None:  # noqa: ARG001 - it only takes time
    """The device's part of an emulated device: n L_i seconds of sleep."""
    await asyncio.sleep(n * ask.step_latency_s)

"""A device: it asks the edge, waits as long as that can pay, and goes on by itself whenever the edge does not help.

The picture is the same whatever happens to the edge's part only where the personal model is the cluster-wide one; what
is always kept is the seed: a fall-back is the picture that the device alone makes of it.

A device is later than all local by `longest_wait`, `longest_fetch` and `LAST_WORDS_S` at most.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..common.errors import InputError
from .client import EdgeClient, EdgeError, HandedOff, NotReadyError
from .protocol import Ask, Decision, LatencyParts

MARGIN = 2.0
"""Times that the expected seconds may pass before a device asks the edge what it expects now."""
ANSWER_S = 1.0
"""Seconds that the edge's answer may take to come."""
LAST_WORDS_S = 1.0
"""Seconds for what a device tells the edge last: that it needs a hand-off no more, or what it measured."""


@dataclass(frozen=True, kw_only=True)
class DeviceResult:
    """What became of one image on its device.

    Attributes:
        decision: the server's decision; None where there was none.
        granted: whether its first steps ran at the edge.
        measured: the parts of its latency, seconds.
        local_steps: steps that ran on the device, n; N where all did.
        reason: why the device went on by itself where the edge had not denied it; "" else.
    """

    decision: Decision | None
    granted: bool
    measured: LatencyParts
    local_steps: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Received:
    """What came of asking the edge.

    Attributes:
        decision: the server's decision; None where there was none.
        payload: the hand-off; None where all steps are to run on the device.
        decided_s: seconds until the decision.
        edge_s: seconds that the image was at the edge, as the server measured them.
        local_steps: steps that the hand-off leaves to the device.
        reason: why there is no hand-off where the edge had not denied it; "" else.
    """

    decision: Decision | None = None
    payload: bytes | None = None
    decided_s: float = 0.0
    edge_s: float = 0.0
    local_steps: int = 0
    reason: str = ""


FinishLocally = Callable[[bytes | None, int], Awaitable[None]]
"""Runs the last n steps on the device: hand-off (None: from the seed's noise, all N steps) and n. It raises InputError
for a hand-off that it cannot go on from."""


async def run_device(client: EdgeClient, ask: Ask, interval_s: float, finish: FinishLocally) -> DeviceResult:
    """One image: asked for, waited for, finished.

    Args:
        client: the edge.
        ask: what is asked for.
        interval_s: length of a round, seconds.
        finish: function that runs the device's own steps.
    """
    start = time.monotonic()
    received = await _from_edge(client, ask, interval_s)
    result = await _finished(ask, received, finish, start, time.monotonic())
    if result.decision is not None and not result.reason:
        await _last_words(client.report(result.decision.id, result.measured))
    return result


async def run_alone(ask: Ask, finish: FinishLocally, reason: str, start: float) -> DeviceResult:
    """One image without the edge.

    Args:
        ask: what would have been asked for.
        finish: function that runs the device's own steps.
        reason: why the edge is not asked.
        start: monotonic time from which its latency counts.
    """
    return await _finished(ask, Received(reason=reason), finish, start, time.monotonic())


def longest_wait(interval_s: float, all_local_s: float) -> float:
    """Seconds that a device waits for a decision: two rounds and a second, and never longer than all local takes."""
    return min(2 * interval_s + 1.0, all_local_s)


def longest_fetch(ask: Ask, decision: Decision) -> float:
    """Seconds that a device waits for a hand-off: after (N - n) L_i it saves nothing any more.

    Where the edge revises its splits, n is the least that it may become.
    """
    return (decision.most_offloaded_steps or decision.offloaded_steps) * ask.step_latency_s


async def _from_edge(client: EdgeClient, ask: Ask, interval_s: float) -> Received:
    """Ask, and wait for the hand-off where it is granted; whatever goes wrong is a reason to go on without."""
    start = time.monotonic()
    try:
        decision = await client.ask(ask, longest_wait(interval_s, ask.total_steps * ask.step_latency_s))
        _check_decision(ask, decision)
    except EdgeError as error:
        return Received(reason=str(error), decided_s=time.monotonic() - start)
    decided_s = time.monotonic() - start
    if decision.decision == "deny":
        return Received(decision=decision, decided_s=decided_s, reason=decision.reason or "")
    try:
        payload, edge_s, n = await _handed_off(client, ask, decision)
    except EdgeError as error:
        await _last_words(client.cancel(decision.id))
        return Received(decision=decision, decided_s=decided_s, reason=str(error))
    return Received(decision=decision, payload=payload, decided_s=decided_s, edge_s=edge_s, local_steps=n)


async def _handed_off(client: EdgeClient, ask: Ask, decision: Decision) -> tuple[bytes, float, int]:
    """Wait for a hand-off as long as it can pay; returns it, the seconds that it was at the edge, and its split n.

    A plan cannot know who joins later, so the edge may well be later than planned. It is asked again what it expects,
    and given up where that does not pay, or where it does not answer.

    Raises:
        EdgeError: where the edge cannot help any more.
    """
    end = time.monotonic() + longest_fetch(ask, decision)
    expected_s = decision.planned.edge_s + decision.planned.transmit_s
    while True:
        word_s, left_s = math.ceil(MARGIN * expected_s) + 1, end - time.monotonic()
        try:
            if word_s + ANSWER_S > left_s:
                return _checked(await client.handoff(decision.id, left_s), ask, decision)
            return _checked(await client.handoff(decision.id, word_s + ANSWER_S, word_s), ask, decision)
        except NotReadyError as late:
            expected_s = late.expected_s
            if time.monotonic() + expected_s > end:
                raise


def _checked(handed: HandedOff, ask: Ask, decision: Decision) -> tuple[bytes, float, int]:
    """A hand-off with its split: that of the decision, unless the edge may revise it.

    Raises:
        EdgeError: where it is another.
    """
    n = decision.local_steps if handed.local_steps is None else handed.local_steps
    most = decision.most_offloaded_steps
    if n != decision.local_steps and not (most and ask.total_steps - most <= n < ask.total_steps):
        raise EdgeError(f"the server handed off at {n} steps left, which it had not granted; it is wrong")
    return handed.payload, handed.edge_s, n


def _check_decision(ask: Ask, decision: Decision) -> None:
    """Refuse a grant whose steps are not those of the image.

    Raises:
        EdgeError: naming them.
    """
    n, offloaded, total = decision.local_steps, decision.offloaded_steps, ask.total_steps
    most = decision.most_offloaded_steps
    right = 0 <= n < total and n + offloaded == total and (most is None or offloaded <= most <= total)
    if decision.decision == "grant" and not right:
        raise EdgeError(f"the server granted {offloaded} + {n} steps of {total}; it is wrong")


async def _finished(
    ask: Ask, received: Received, finish: FinishLocally, start: float, received_s: float
) -> DeviceResult:
    """Run the device's own steps: the last n, or all of them where there is no hand-off or a wrong one."""
    payload, reason = received.payload, received.reason
    if payload is not None and received.decision is not None:
        try:
            await finish(payload, received.local_steps)
        except InputError as error:
            payload, reason = None, str(error)
    if payload is None:
        await finish(None, ask.total_steps)
    measured = _parts(received, received_s - start, time.monotonic() - received_s, payload is not None)
    return DeviceResult(
        decision=received.decision,
        granted=payload is not None,
        measured=measured,
        local_steps=ask.total_steps if payload is None else received.local_steps,
        reason=reason,
    )


def _parts(received: Received, remote_s: float, local_s: float, granted: bool) -> LatencyParts:
    """The parts of a latency; what was waited for in vain is waiting."""
    if not granted:
        return LatencyParts(wait_s=remote_s, edge_s=0.0, transmit_s=0.0, local_s=local_s)
    after = max(0.0, remote_s - received.decided_s)
    edge = min(received.edge_s, after)
    return LatencyParts(wait_s=received.decided_s, edge_s=edge, transmit_s=after - edge, local_s=local_s)


async def _last_words(said: Awaitable[None]) -> None:
    """Tell the edge something that nobody waits for; where it is gone, nothing is lost."""
    try:
        await asyncio.wait_for(said, LAST_WORDS_S)
    except (EdgeError, TimeoutError):
        return


async def sleep_locally(ask: Ask, payload: bytes | None, n: int) -> None:  # noqa: ARG001 - it only takes time
    """The device's part of an emulated device: n L_i seconds of sleep."""
    await asyncio.sleep(n * ask.step_latency_s)

"""W of the measured network: estimated from the last transfers, used in every plan, and logged."""

import asyncio
import json
import re
from contextlib import closing
from dataclasses import replace

import httpx
import numpy as np
import pytest
from servers import SCENARIO, make_ask, make_rounds, serving

from edgesplit.optimizer.model.qoe import transmit_time
from edgesplit.service.call_log import CallLog, replay
from edgesplit.service.client import EdgeClient
from edgesplit.service.device import run_device
from edgesplit.service.engines import EmulatedEngine
from edgesplit.service.estimates import FEWEST_TRANSFERS, WINDOW_TRANSFERS, BandwidthEstimate, alone_seconds
from edgesplit.service.protocol import LatencyParts
from edgesplit.service.resources import SharedRadio
from edgesplit.service.scheduler import decide

LINK = replace(SCENARIO, bandwidth_hz=1e6, latent_bits=4e6, prompt_bits=0.0)
"""A link on which one hand-off takes 0.4 s."""


def radio_transfers(bandwidth_hz, starts):
    """Start and duration of every transfer of a shared radio of this bandwidth."""
    radio = SharedRadio(float(transmit_time(replace(LINK, bandwidth_hz=bandwidth_hz), 1)))
    ends = {}
    for number, start in enumerate(starts):
        while radio.next_time() <= start:
            end = radio.next_time()
            ends[radio.fire(end)] = end
        radio.add(start, [number])
    while len(ends) < len(starts):
        end = radio.next_time()
        ends[radio.fire(end)] = end
    return [(start, ends[number] - start) for number, start in enumerate(starts)]


def estimate_of(transfers):
    estimate = BandwidthEstimate(LINK)
    for start, seconds in transfers:
        estimate.note(start, seconds)
    return estimate.bandwidth_hz()


@pytest.mark.parametrize("bandwidth_hz", [2e5, 1e6, 3e7])
@pytest.mark.parametrize("load", [0.0, 0.3, 0.8, "bursts"])
def test_a_shared_radios_bandwidth_is_found_at_every_load(bandwidth_hz, load):
    rng = np.random.default_rng(1)
    alone_s = float(transmit_time(replace(LINK, bandwidth_hz=bandwidth_hz), 1))
    if load == "bursts":
        starts = np.repeat(np.arange(20) * 100 * alone_s, 5)
    else:
        starts = np.cumsum(rng.exponential(alone_s / load, 100) if load else np.full(100, 10 * alone_s))
    found = estimate_of(radio_transfers(bandwidth_hz, starts.tolist()))
    assert found == pytest.approx(bandwidth_hz, rel=0.1 if load == 0.8 else 0.02)


def test_single_slow_transfers_and_lies_move_it_little():
    transfers = radio_transfers(1e6, [5.0 * number for number in range(100)])
    lies = [(start, 60.0 if number % 4 == 0 else seconds) for number, (start, seconds) in enumerate(transfers[:60])]
    lies = [(1000.0 * number, seconds) for number, (_, seconds) in enumerate(lies)]
    assert estimate_of(lies) == pytest.approx(1e6, rel=0.01)


def test_a_network_that_changes_is_followed():
    slow = [(start + 1e4, seconds) for start, seconds in radio_transfers(2e5, [50.0 * n for n in range(100)])]
    fast = radio_transfers(1e6, [5.0 * n for n in range(100)])
    assert estimate_of(fast + slow[: WINDOW_TRANSFERS // 5]) == pytest.approx(1e6, rel=0.01)
    assert estimate_of(fast + slow) == pytest.approx(2e5, rel=0.01)


def test_few_transfers_leave_the_scenarios():
    assert estimate_of([(float(number), 9.0) for number in range(FEWEST_TRANSFERS - 1)]) == LINK.bandwidth_hz
    free = BandwidthEstimate(replace(LINK, latent_bits=0.0))
    for number in range(50):
        free.note(float(number), 0.0)
    assert free.bandwidth_hz() == LINK.bandwidth_hz


def test_a_transfer_alone_takes_its_own_time():
    assert alone_seconds(np.array([0.0, 10.0, 10.0]), np.array([2.0, 4.0, 4.0])) == pytest.approx([2.0, 2.0, 2.0])


class PacedClient(EdgeClient):
    """A client on a link that takes so long for a hand-off."""

    pace_s = 0.1

    async def handoff(self, name, wait_s, word_s=None):
        handed = await super().handoff(name, wait_s, word_s)
        await asyncio.sleep(self.pace_s)
        return handed


def served_by(address, count):
    """So many images, one after the other, of a device on the paced link; what became of them."""

    async def finish(payload, n):
        pass

    async def run():
        async with PacedClient(address) as client:
            return [await run_device(client, make_ask(seed=seed), SCENARIO.interval_s, finish) for seed in range(count)]

    return asyncio.run(run())


def test_a_paced_client_is_planned_with_its_own_pace(tmp_path):
    """The server's plans start from a link of 0.4 s and end at the client's 0.1 s; its log replays all the same."""
    log = CallLog(tmp_path / "calls.jsonl", "price", "mixed")
    rounds = make_rounds(EmulatedEngine(SCENARIO.edge, payload=bytes(100)), scenario=LINK)
    rounds.watch(log.begin, log.write)
    with closing(log), serving(rounds) as (address, _):
        results = served_by(address, 3 * FEWEST_TRANSFERS)
        metrics = httpx.get(f"{address}/metrics").text
        scenario = httpx.get(f"{address}/v1/scenario").json()
    assert all(result.granted for result in results)
    planned = [result.decision.planned.transmit_s for result in results]
    assert planned[0] == pytest.approx(0.4)
    # A device hears of its decision a little late, and takes that off what it says of the transfer.
    late_s = max(result.measured.wait_s - result.decision.planned.wait_s for result in results)
    assert PacedClient.pace_s - late_s <= planned[-1] < 0.2  # a busy machine adds some of its own
    assert scenario["bandwidth_hz"] == pytest.approx(0.4 / planned[-1] * 1e6, rel=0.2)
    shown = re.search(r"^edgesplit_bandwidth_hertz (\S+)$", metrics, re.MULTILINE)
    assert float(shown[1]) == scenario["bandwidth_hz"]
    calls = replay(tmp_path / "calls.jsonl", decide)
    assert len({call["bandwidth_hz"] for call, _ in calls}) > 3
    for call, plan in calls:
        again = call | {"granted": plan.granted.tolist(), "local_steps": plan.local_steps.tolist()}
        assert json.dumps(again) == json.dumps(call)


@pytest.mark.parametrize("settings", [{"frozen_profile": True}, {"emulate_radio": True}])
def test_a_frozen_or_emulated_radio_keeps_the_scenarios(settings):
    rounds = make_rounds(EmulatedEngine(SCENARIO.edge, payload=b"x"), **settings)
    with serving(rounds) as (address, _):
        served_by(address, FEWEST_TRANSFERS + 2)
    assert rounds.scenario().bandwidth_hz == SCENARIO.bandwidth_hz


def test_a_hand_off_on_its_way_counts_as_load_until_the_plan_has_it_there():
    rounds = make_rounds(scenario=LINK)
    with serving(rounds) as (address, _), httpx.Client(base_url=address, timeout=60) as http:
        name = http.post("/v1/requests", json=make_ask().model_dump()).json()["id"]
        assert http.get(f"/v1/requests/{name}/handoff").status_code == 200
        assert rounds.on_radio == 1
        parts = LatencyParts(wait_s=0, edge_s=0, transmit_s=0.1, local_s=0).model_dump()
        assert http.post(f"/v1/requests/{name}/report", json=parts).status_code == 204
        assert rounds.on_radio == 0


def test_a_device_cannot_claim_more_time_than_has_passed():
    rounds = make_rounds(scenario=LINK)
    claim = LatencyParts(wait_s=0, edge_s=0, transmit_s=1e6, local_s=0).model_dump()
    with serving(rounds) as (address, _), httpx.Client(base_url=address, timeout=60) as http:
        for seed in range(FEWEST_TRANSFERS + 1):
            name = http.post("/v1/requests", json=make_ask(seed=seed).model_dump()).json()["id"]
            http.get(f"/v1/requests/{name}/handoff")
            http.post(f"/v1/requests/{name}/report", json=claim)
    assert rounds.scenario().bandwidth_hz > LINK.bandwidth_hz  # the seconds that really passed are fewer than 0.4

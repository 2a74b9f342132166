"""`edgesplit device`: the edge's help where there is some, else the picture that the device alone makes of the seed."""

import asyncio
import io
import json
import time

import numpy as np
import pytest
import torch
from commands import call_root, refused
from edges import ModelEngine, false_edge
from models import as_model, make_pipeline
from oracles import make_scenario
from PIL import Image
from servers import free_port, make_rounds, make_server, serving

from edgesplit.diffusion.inference.batch import generate
from edgesplit.diffusion.inference.handoff import Handoff
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, finish_local
from edgesplit.diffusion.inference.models import latent_facts
from edgesplit.diffusion.inference.sampling import Sampling
from edgesplit.fitting.latency import LatencyModel
from edgesplit.fitting.pai import PaiCurve
from edgesplit.service import own_step
from edgesplit.service.client import EdgeClient, EdgeError, HandedOff, NotReadyError, PlainClient
from edgesplit.service.device import LAST_WORDS_S, longest_fetch, longest_wait, run_device
from edgesplit.service.own_pictures import FACTS_S, PersonalDevice
from edgesplit.service.personal import PersonalModel, StoppedError, Watch, png, stops
from edgesplit.service.protocol import Ask, Decision, Facts, LatencyParts

SCENARIO = make_scenario(
    edge=LatencyModel(0.001, 0.002, 0.0), gpus=1, interval_s=0.2, total_steps=6, min_local_steps=2, bandwidth_hz=2e7,
    pai=PaiCurve(0.9, 2.0),
)  # fmt: skip
SAMPLING = Sampling(total_steps=6, guidance_scale=3.0)
TEMPLATE, SEED = "a photo of {subject}", 7
STEP_S = 0.5
"""What the devices say that a step takes; theirs take milliseconds."""


@pytest.fixture(scope="module")
def own():
    return PersonalModel(model=as_model(make_pipeline(seed=1), "sks dog"), sampling=SAMPLING, words=("sks dog",))


@pytest.fixture(scope="module")
def edge():
    return as_model(make_pipeline(seed=0))


@pytest.fixture(scope="module")
def alone(own):
    """The all-local picture of the seed."""
    return png(generate(own.model, ["a photo of sks dog"], [SEED], SAMPLING)[0])


def make_picture(own, address, alpha=1.0, watch=None, **settings):
    """One picture of a device at this edge."""

    async def made():
        async with EdgeClient(address) as client:
            device = PersonalDevice(client=client, own=own, step_latency_s=STEP_S, alpha=alpha, emphasis=0.0)
            for name, value in settings.items():
                setattr(device, name, value)
            return await device.picture(TEMPLATE, SEED, watch or Watch())

    return asyncio.run(made())


# -- the edge helps -----------------------------------------------------------------------------------------


def test_a_granted_picture_is_that_of_hybrid_inference(own, edge):
    left = []
    rounds = make_rounds(ModelEngine(edge, SAMPLING), SCENARIO)
    with serving(rounds) as (address, _):
        made = make_picture(own, address, alpha=None, watch=Watch(step=left.append))
    n = made.result.decision.local_steps
    assert made.result.granted, made.result.reason
    assert made.result.reason == ""
    assert rounds.counters.granted == 1
    assert left == list(range(n - 1, -1, -1))
    (handoff,) = edge_prefix(edge, [Request(prompt_template=TEMPLATE, local_steps=n, seed=SEED)], SAMPLING)
    expected = own.model.decode(finish_local(own.model, handoff, SAMPLING))[0]
    assert png(made.picture) == png(expected)


def test_a_denied_picture_is_made_alone(own, edge, alone):
    rounds = make_rounds(ModelEngine(edge, SAMPLING), SCENARIO)
    with serving(rounds) as (address, _):
        made = make_picture(own, address, alpha=1e9)
    assert made.result.decision.decision == "deny"
    assert (made.result.granted, made.result.reason, rounds.counters.denied) == (False, "", 1)
    assert png(made.picture) == alone


# -- it does not --------------------------------------------------------------------------------------------


def test_without_a_server_the_picture_is_the_all_local_one(own, alone):
    made = make_picture(own, f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in made.result.reason
    assert png(made.picture) == alone


def spoilt(**changes):
    """A function that makes another hand-off of one."""

    def spoil(payload):
        handoff = Handoff.from_bytes(payload)
        named = {name: getattr(handoff, name) for name in Handoff.__dataclass_fields__}
        return Handoff(**named | changes).to_bytes("fp32")

    return spoil


WRONG = {
    "cut short": lambda payload: payload[:-5],
    "empty": lambda payload: b"",
    "other bytes": lambda payload: bytes(range(256)) * 9,
    "other step": spoilt(step=1),
    "other seed": spoilt(seed=SEED + 1),
    "other prompt": spoilt(prompt_template="a painting of {subject}"),
    "other scheduler": spoilt(scheduler_hash="0" * 16),
    "other shape": spoilt(latents=torch.zeros(4, 4, 4)),
    "endless numbers": spoilt(latents=torch.full((4, 8, 8), 3e38)),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_a_wrong_hand_off_is_refused_and_all_steps_run_here(own, edge, alone, spoil):
    rounds = make_rounds(ModelEngine(edge, SAMPLING, spoil), SCENARIO)
    with serving(rounds) as (address, _):
        made = make_picture(own, address)
    assert made.result.decision.decision == "grant"
    assert not made.result.granted
    assert made.result.reason
    assert made.result.measured.edge_s == 0
    assert png(made.picture) == alone


def test_a_hand_off_that_changes_on_its_way_is_refused(own, edge, alone):
    app = make_server(make_rounds(ModelEngine(edge, SAMPLING), SCENARIO))

    async def changed(scope, receive, send):
        async def pass_on(message):
            if scope["path"].endswith("/handoff") and message.get("body"):
                message = message | {"body": message["body"][:-1] + bytes([message["body"][-1] ^ 1])}
            await send(message)

        await app(scope, receive, pass_on if scope["type"] == "http" else send)

    with serving(changed) as (address, _):
        made = make_picture(own, address)
    assert "damaged on its way" in made.result.reason
    assert png(made.picture) == alone


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (Sampling(total_steps=5, guidance_scale=3.0), "--steps"),
        (Sampling(total_steps=6, guidance_scale=2.0), "--guidance"),
        (Sampling(total_steps=6, guidance_scale=3.0, scheduler="euler"), "--scheduler"),
    ],
)
def test_a_device_of_other_settings_does_not_ask(own, edge, sampling, said):
    other = PersonalModel(model=own.model, sampling=sampling, words=own.words)
    rounds = make_rounds(ModelEngine(edge, SAMPLING), SCENARIO)
    with serving(rounds) as (address, _):
        made = make_picture(other, address)
    assert said in made.result.reason
    assert not rounds.ledger.past
    assert png(made.picture) == png(generate(own.model, ["a photo of sks dog"], [SEED], sampling)[0])


def test_a_model_of_other_latents_does_not_ask(edge):
    other = PersonalModel(
        model=as_model(make_pipeline(seed=1, channels=6), "sks dog"), sampling=SAMPLING, words=("sks dog",)
    )
    rounds = make_rounds(ModelEngine(edge, SAMPLING), SCENARIO)
    with serving(rounds) as (address, _):
        assert "latents" in make_picture(other, address).result.reason
    assert not rounds.ledger.past


# -- bounds -------------------------------------------------------------------------------------------------


def silent(connection):
    """Never answers."""


def trickling(connection):
    """Answers byte by byte, without end."""
    connection.recv(1 << 16)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n"
    try:
        connection.sendall(head)
        while True:
            time.sleep(0.02)
            connection.sendall(b" ")
    except OSError:
        return


def garbage(connection):
    """Answers what is no HTTP."""
    connection.recv(1 << 16)
    connection.sendall(b"\x00\xff" * 4000)
    connection.close()


def closing(connection):
    """Hangs up."""
    connection.close()


@pytest.mark.parametrize("answer", [silent, trickling, garbage, closing])
def test_a_false_edge_costs_no_more_than_the_bound(answer):
    ask = Ask(prompt_template=TEMPLATE, seed=SEED, step_latency_s=0.01, alpha=1.0, total_steps=50)
    finished = []

    async def finish(payload, n):
        finished.append((payload, n))
        await asyncio.sleep(n * ask.step_latency_s)

    async def run(address):
        async with EdgeClient(address) as client:
            return await run_device(client, ask, 0.1, finish)

    with false_edge(answer) as address:
        start = time.monotonic()
        result = asyncio.run(run(address))
        took_s = time.monotonic() - start
    assert finished == [(None, 50)]
    assert result.reason
    assert result.decision is None
    all_local_s = 50 * ask.step_latency_s
    bound_s = all_local_s + longest_wait(0.1, all_local_s) + LAST_WORDS_S
    assert took_s < bound_s + 5  # a busy machine is slow to wake up


def test_a_picture_at_a_silent_edge_is_the_all_local_one(own, alone):
    with false_edge(silent) as address:
        made = make_picture(own, address)
    assert f"within {FACTS_S:g} s" in made.result.reason
    assert png(made.picture) == alone


def test_a_hand_off_that_never_comes_is_cancelled():
    ask = Ask(prompt_template=TEMPLATE, seed=SEED, step_latency_s=0.05, alpha=0.0, total_steps=6)

    class Lazy(ModelEngine):
        def __init__(self):
            self.cancelled = []

        async def start(self, on_tick, on_death):
            return {"name": "lazy", "scheduler_hash": "0", "latent_shape": [1, 1, 1]}

        def add(self, images):
            pass

        def cancel(self, names):
            self.cancelled += names

    engine, finished = Lazy(), []

    async def finish(payload, n):
        finished.append((payload, n))

    async def run(address):
        async with EdgeClient(address) as client:
            return await run_device(client, ask, SCENARIO.interval_s, finish)

    rounds = make_rounds(engine, SCENARIO)
    with serving(rounds) as (address, _):
        result = asyncio.run(run(address))
        assert rounds.in_flight == 0
    assert finished == [(None, 6)]
    assert "within" in result.reason
    assert engine.cancelled == [result.decision.id]


class LateEdge:
    """An edge that grants, plans a second, and says each time that its hand-off takes so many seconds more."""

    def __init__(self, *expected_s):
        self.expected_s, self.waits_s, self.words_s, self.cancelled = list(expected_s), [], [], []

    async def ask(self, ask, wait_s):
        planned = LatencyParts(wait_s=0, edge_s=1.0, transmit_s=0.0, local_s=0)
        return Decision(id="r", decision="grant", local_steps=1, offloaded_steps=5, planned=planned)

    async def handoff(self, name, wait_s, word_s=None):
        self.waits_s.append(wait_s)
        self.words_s.append(word_s)
        if not self.expected_s:
            return HandedOff(b"there", 9.0, None)
        raise NotReadyError("not ready", self.expected_s.pop(0))

    async def report(self, name, measured):
        pass

    async def cancel(self, name):
        self.cancelled.append(name)


def waited_for(edge):
    ask, finished = Ask(prompt_template=TEMPLATE, seed=0, step_latency_s=2.0, alpha=0.0, total_steps=6), []

    async def finish(payload, n):
        finished.append((payload, n))

    return asyncio.run(run_device(edge, ask, 0.1, finish)), finished


def test_an_edge_that_is_later_than_planned_is_waited_for_while_that_pays():
    """Five steps of two seconds can be saved.

    A word is wanted after twice the plan and a second, then after twice what it said and a second; where that is more
    than can be saved, there is one last wait.
    """
    edge = LateEdge(3.0, 8.0)
    result, finished = waited_for(edge)
    assert result.granted
    assert finished == [(b"there", 1)]
    assert edge.words_s == [3, 7, None]
    assert edge.waits_s == pytest.approx([4.0, 8.0, 10.0], abs=0.5)


def test_an_edge_that_expects_more_than_can_be_saved_is_given_up_at_once():
    edge = LateEdge(3.0, 11.0)
    result, finished = waited_for(edge)
    assert result.reason == "not ready"
    assert finished == [(None, 6)]
    assert len(edge.waits_s) == 2
    assert edge.cancelled == ["r"]


def test_what_a_later_server_says_beside_is_passed_over():
    facts = {
        "model": "m", "total_steps": 6, "min_local_steps": 2, "guidance_scale": 3.0, "scheduler": "ddim",
        "scheduler_hash": "0", "latent_shape": [4, 8, 8], "interval_s": 1.0, "version": "9", "more": {"of": "it"},
    }  # fmt: skip
    assert Facts.model_validate_json(json.dumps(facts)).version == "9"
    planned = {"wait_s": 0, "edge_s": 0, "transmit_s": 0, "local_s": 0}
    decision = {"id": "r", "decision": "deny", "local_steps": 6, "offloaded_steps": 0, "planned": planned, "more": 1}
    assert Decision.model_validate_json(json.dumps(decision)).id == "r"


def test_waits_never_cost_more_than_they_can_save():
    rng = np.random.default_rng(3)
    for _ in range(200):
        n, offloaded = int(rng.integers(0, 50)), int(rng.integers(1, 50))
        ask = Ask(
            prompt_template=TEMPLATE, seed=0, step_latency_s=float(rng.exponential(1) + 1e-3), alpha=0.0,
            total_steps=n + offloaded,
        )  # fmt: skip
        planned = LatencyParts(
            wait_s=0, edge_s=float(rng.exponential(9)), transmit_s=float(rng.exponential(9)), local_s=0
        )
        decision = Decision(id="r", decision="grant", local_steps=n, offloaded_steps=offloaded, planned=planned)
        assert longest_fetch(ask, decision) <= offloaded * ask.step_latency_s
        assert longest_wait(float(rng.exponential(9)), ask.total_steps * ask.step_latency_s) <= (
            ask.total_steps * ask.step_latency_s
        )


@pytest.mark.parametrize(("n", "offloaded"), [(6, 0), (-1, 7), (2, 3), (10**6, 6 - 10**6), (5, 6)])
def test_a_grant_of_wrong_steps_is_not_believed(n, offloaded):
    planned = LatencyParts(wait_s=0, edge_s=0, transmit_s=0, local_s=0)
    ask = Ask(prompt_template=TEMPLATE, seed=0, step_latency_s=1e-4, alpha=0.0, total_steps=6)

    class Wrong:
        async def ask(self, ask, wait_s):
            return Decision(id="r", decision="grant", local_steps=n, offloaded_steps=offloaded, planned=planned)

    finished = []

    async def finish(payload, n):
        finished.append((payload, n))

    result = asyncio.run(run_device(Wrong(), ask, 0.1, finish))
    assert finished == [(None, 6)]
    assert "wrong" in result.reason


def test_who_does_not_wait_stops_the_steps(own):
    seen = []

    async def run():
        async with EdgeClient(f"http://127.0.0.1:{free_port()}") as client:
            device = PersonalDevice(client=client, own=own, step_latency_s=STEP_S, alpha=1.0, emphasis=0.0)
            loop, first = asyncio.get_running_loop(), asyncio.Event()

            def slowly(left):
                seen.append(left)
                loop.call_soon_threadsafe(first.set)
                time.sleep(0.2)

            task = asyncio.create_task(device.picture(TEMPLATE, SEED, Watch(step=slowly)))
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert len(seen) < SAMPLING.total_steps


def test_a_stop_is_heard_before_the_next_step(own):
    import threading

    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        own.finish(own.noise(TEMPLATE, SEED), stop=stop)


# -- the model's own part -----------------------------------------------------------------------------------


def test_looking_at_unfinished_pictures_changes_nothing(own, alone):
    seen = []
    watch = Watch(partials=2, partial=lambda number, picture: seen.append((number, picture.shape)))
    latents = own.finish(own.noise(TEMPLATE, SEED), watch)
    assert png(own.decode(latents)) == alone
    assert seen == [(0, (3, 32, 32)), (1, (3, 32, 32))]


def test_stops_lie_between_the_first_and_the_last_step():
    for n in range(12):
        for partials in range(4):
            places = stops(n, partials)
            assert all(0 < place < n for place in places)
            assert places == sorted(set(places), reverse=True)
            assert len(places) == min(partials, max(0, n - 1))


# -- the step latency ---------------------------------------------------------------------------------------


def test_a_step_is_measured_once_and_kept(own, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(own_step, "own_folder", lambda kind: tmp_path / kind)
    first = own_step.own_step_latency(own)
    assert "measured and kept" in capsys.readouterr().err
    (path,) = (tmp_path / "devices").iterdir()
    assert first > 0
    assert own_step.own_step_latency(own) == first
    assert capsys.readouterr().err == ""
    path.write_text(path.read_text()[:-9])
    assert own_step.own_step_latency(own) > 0
    said = capsys.readouterr().err
    assert "measured anew" in said
    assert "measured and kept" in said
    known = json.loads(path.read_text())
    known["durations_s"] = [123.0]
    path.write_text(json.dumps(known))
    assert own_step.own_step_latency(own) == 123.0
    assert own_step.own_step_latency(own, again=True) < 100


def test_one_step_alone_can_be_timed(own):
    single = PersonalModel(model=own.model, sampling=Sampling(total_steps=1, guidance_scale=3.0), words=own.words)
    assert all(seconds > 0 for seconds in own_step.step_durations(single))
    assert len(own_step.step_durations(own)) == own_step.RUNS * (SAMPLING.total_steps - 1)


# -- the command --------------------------------------------------------------------------------------------


def toy(*options, **environment):
    return call_root("device", "--user", "anna", "--steps", "3", "--step-latency-s", "0.5", *options, **environment)


def test_the_command_writes_the_all_local_picture_where_no_edge_is(tmp_path):
    from edgesplit import data
    from edgesplit.diffusion.inference.models import load_model

    path = tmp_path / "new" / "snow.png"
    address = f"http://127.0.0.1:{free_port()}"
    result = toy("--server", address, "--prompt", "a photo of sks dog on the beach", "-o", path, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["granted"], report["local_steps"], report["planned"]) == (False, 3, None)
    assert report["prompt_template"] == "a photo of {subject} on the beach"
    assert "cannot be reached" in report["reason"]
    model = load_model(data.FOLDER / "toyworld" / "users" / "anna")
    sampling = Sampling(total_steps=3, guidance_scale=3.0)
    assert path.read_bytes() == png(generate(model, ["a photo of sks dog on the beach"], [0], sampling)[0])
    assert Image.open(io.BytesIO(path.read_bytes())).size == (model.picture_side,) * 2
    table = toy("--server", address, "--prompt", "a photo of {subject}", "-o", path)
    assert [line.split()[0] for line in table.stdout.splitlines()[2:]] == [
        "wait", "edge", "transmit", "local", "latency", "decode",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompt", "a photo of {subject}"], "--user, --model: found neither"),
        (["--user", "anna", "--model", "x", "--prompt", "a {subject}"], "--user, --model: found both"),
        (["--user", "ana", "--prompt", "a {subject}"], "did you mean 'anna'?"),
        (["--user", "anna"], "--prompt: missing"),
        (["--user", "anna", "--prompt", "a cat"], "found no {subject}"),
        (["--user", "anna", "--prompt", "a {subject} \U0001f993"], "does not know"),
        (["--user", "anna", "--prompt", "a {subject}", "-o", "x.jpg"], "ends in .png"),
        (["--user", "anna", "--prompt", "a {subject}", "--seed", "-1"], "seed: found -1"),
        (["--user", "anna", "--prompt", "a {subject}", "--alpha", "1", "--emphasis", "1"], "--alpha, --emphasis"),
        (["--user", "anna", "--prompt", "a {subject}", "--profile", "no such"], "latency profile: found 'no such'"),
        (["--user", "anna", "--prompt", "a {subject}", "--step-latency-s", "1", "--measure"], "found together"),
        (["--user", "anna", "--prompt", "a {subject}", "--server", "http://:::1"], "--server: found"),
        (["--user", "anna", "--prompt", "a {subject}", "--server", "ftp://x"], "--server: found"),
        (["--user", "anna", "--prompt", "a {subject}", "--token", "a\nb"], "--token: found"),
        (["--model", "nowhere/at-all/x", "--prompt", "a {subject}"], "nowhere/at-all/x"),
    ],
)
def test_wrong_options_are_one_line(options, said, tmp_path):
    line = refused(call_root("device", *options, cwd=tmp_path, HF_HUB_OFFLINE="1", XDG_DATA_HOME=str(tmp_path)))
    assert said in line
    assert list(tmp_path.iterdir()) == []


# -- the clients --------------------------------------------------------------------------------------------


def test_the_plain_client_does_the_same(edge):
    rounds = make_rounds(ModelEngine(edge, SAMPLING), SCENARIO)
    with serving(rounds) as (address, _):
        client = PlainClient(address)
        facts = client.facts()
        ask = Ask(prompt_template=TEMPLATE, seed=SEED, step_latency_s=1.0, alpha=0.0, total_steps=facts.total_steps)
        decision = client.ask(ask, 10.0, key="k")
        assert client.ask(ask, 10.0, key="k") == decision
        payload, edge_s, n = client.handoff(decision.id, 10.0)
        assert Handoff.from_bytes(payload).step == n == decision.local_steps
        assert edge_s >= 0
        client.report(decision.id, decision.planned)
        client.cancel(decision.id)
        with pytest.raises(EdgeError, match="404"):
            client.cancel("nobody")
        client.close()


def test_an_answer_without_end_is_not_read_to_it(monkeypatch):
    from edgesplit.service import client as module

    monkeypatch.setattr(module, "MOST_ANSWER", 10_000)

    async def huge(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def run(address):
        async with EdgeClient(address) as client:
            with pytest.raises(EdgeError, match="MiB"):
                await client.facts()

    with serving(huge) as (address, _):
        asyncio.run(run(address))


@pytest.mark.parametrize(
    ("what", "theirs"), [("family", "PixArt-Sigma"), ("latent scale", "0.13025"), ("latent shift", "0.0609")]
)
def test_a_device_does_not_ask_an_edge_for_latents_that_mean_something_else_to_its_model(own, what, theirs):
    """Shape and scheduler are equal, as they are between Stable Diffusion and PixArt-Sigma of one size."""
    facts = Facts(
        model="edge", total_steps=SAMPLING.total_steps, min_local_steps=2, guidance_scale=SAMPLING.guidance_scale,
        scheduler="ddim", scheduler_hash=own.fingerprint, latent_shape=list(own.model.latent_shape),
        latents=latent_facts(own.model), interval_s=1.0, version="0",
    )  # fmt: skip
    assert not own.difference(facts)
    other = facts.model_copy(update={"latents": facts.latents | {what: theirs}})
    ours = facts.latents[what]
    assert own.difference(other) == f"the edge's {what} is {theirs}, that of this model {ours}; see --model"

"""The edge server's HTTP: its laws, and what hostile, broken and overloaded devices can do to it."""

import asyncio
import base64
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import httpx
import numpy as np
import psutil
import pytest
import servers
from commands import call_root, refused
from crowd import crowding
from edges import dying_worker
from servers import DENIED, SCENARIO, SLOW, free_port, make_ask, make_rounds, serving

from edgesplit.diffusion.inference.families.flux import Flux
from edgesplit.fitting.latency import LatencyModel
from edgesplit.optimizer.inputs.scenario import overrides, resolve_scenario
from edgesplit.service.call_log import CallLog, replay
from edgesplit.service.client import EdgeClient, EdgeError, PlainClient
from edgesplit.service.engines import EmulatedEngine, ProcessEngine
from edgesplit.service.listening import bound_socket
from edgesplit.service.protocol import MEDIA_HANDOFF, MEDIA_PROBLEM, MOST_BODY, LatencyParts
from edgesplit.service.scheduler import decide
from edgesplit.service.serve_command import make_engine
from edgesplit.service.server import Token

PATIENCE_S = 60
BODY = make_ask().model_dump()


def until(holds):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def is_problem(answer, status, kind):
    """Whether an answer is this problem document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_PROBLEM
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail"}
    assert (document["type"], document["status"]) == (f"urn:edgesplit:problem:{kind}", status)
    return document["detail"]


@pytest.fixture(scope="module")
def quick():
    """A server with a quick engine for the tests that leave it as it is, and its core."""
    rounds = make_rounds()
    with serving(rounds) as (address, _), httpx.Client(base_url=address, timeout=PATIENCE_S) as http:
        yield http, rounds


@pytest.mark.parametrize(("asked", "guidance"), [(None, 3.5), (2.0, 2.0)])
def test_an_emulated_engine_says_the_guidance_of_the_models_that_it_stands_for(tmp_path, asked, guidance):
    parts = {name: [part.library, part.classes[0]] for name, part in Flux.PARTS.items()}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": Flux.PIPELINES[0]} | parts))
    request = SimpleNamespace(engine="emulated", cluster=str(tmp_path), guidance=asked)
    assert make_engine(request, resolve_scenario("default", overrides()), toy=False)[1] == guidance


# -- the way of a request ------------------------------------------------------------------------------------


def test_a_request_is_decided_handed_off_and_reported(quick):
    http, rounds = quick
    decision = http.post("/v1/requests", json=BODY).json()
    assert decision["decision"] == "grant"
    assert set(decision["planned"]) == {"wait_s", "edge_s", "transmit_s", "local_s"}
    handoff = http.get(f"/v1/requests/{decision['id']}/handoff")
    assert (handoff.content, handoff.headers["content-type"]) == (b"x", MEDIA_HANDOFF)
    digest = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    assert handoff.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert re.fullmatch(r"edge;dur=[0-9.]+", handoff.headers["server-timing"])
    measured = {"wait_s": 0.1, "edge_s": 0.2, "transmit_s": 0.3, "local_s": 0.4}
    before = metric(http, 'edgesplit_planned_minus_measured_seconds_count{part="edge"}')
    for _ in range(2):  # one that comes twice counts once
        assert http.post(f"/v1/requests/{decision['id']}/report", json=measured).status_code == 204
    assert metric(http, 'edgesplit_planned_minus_measured_seconds_count{part="edge"}') == before + 1
    assert rounds.in_flight == 0


def metric(http, name):
    """A value of /metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_are_in_base_units_and_name_nobody(quick):
    http, _ = quick
    decision = http.post("/v1/requests", json=BODY).json()
    text = http.get("/metrics").text
    for name in ("requests_total", "in_flight", "step_seconds_bucket", "handoff_bytes_total", "engine_deaths"):
        assert f"edgesplit_{name}" in text
    assert decision["id"] not in text


def test_a_denied_request_has_no_handoff(quick):
    http, _ = quick
    decision = http.post("/v1/requests", json=BODY | DENIED).json()
    assert decision["decision"] == "deny"
    assert "run all steps locally" in is_problem(http.get(f"/v1/requests/{decision['id']}/handoff"), 409, "denied")


def test_one_key_is_one_run(quick):
    http, rounds = quick
    headers, granted = {"Idempotency-Key": "one"}, rounds.counters.granted
    answers = [http.post("/v1/requests", json=BODY, headers=headers).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert rounds.counters.granted == granted + 1
    other = http.post("/v1/requests", json=BODY | {"seed": 9}, headers=headers)
    is_problem(other, 422, "key-reused")


def test_the_plain_client_speaks_the_protocol(quick):
    http, _ = quick
    client = PlainClient(str(http.base_url))
    try:
        assert client.facts().total_steps == SCENARIO.total_steps
        decision = client.ask(make_ask(), PATIENCE_S)
        payload, edge_s, n = client.handoff(decision.id, PATIENCE_S)
        assert (payload, n) == (b"x", decision.local_steps)
        assert edge_s > 0
        client.report(decision.id, LatencyParts(wait_s=0, edge_s=0, transmit_s=0, local_s=0))
        client.cancel(decision.id)
        with pytest.raises(EdgeError, match="the server answered 404"):
            client.cancel("nobody")
    finally:
        client.close()


def test_names_that_nobody_has_are_not_found(quick):
    http, _ = quick
    for method, path in (("GET", "/handoff"), ("POST", "/report"), ("DELETE", "")):
        body = {"json": {"wait_s": 0, "edge_s": 0, "transmit_s": 0, "local_s": 0}} if method == "POST" else {}
        is_problem(http.request(method, f"/v1/requests/nobody{path}", **body), 404, "unknown-request")
    is_problem(http.get("/v1/nothing"), 404, "not-found")
    is_problem(http.put("/v1/requests", json=BODY), 405, "method-not-allowed")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"total_steps": 19}, "total_steps"),
        ({"scheduler_hash": "another"}, "scheduler_hash"),
        ({"latent_shape": [4, 8, 8]}, "latent_shape"),
    ],
)
def test_what_cannot_be_handed_off_is_refused_before_any_step(quick, changes, named):
    http, rounds = quick
    before = len(rounds.ledger.past)
    assert is_problem(http.post("/v1/requests", json=BODY | changes), 409, "cannot-hand-off").startswith(named)
    assert len(rounds.ledger.past) == before
    assert not rounds.ledger.entries


# -- malformed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[" * 30_000, None),
        (b'{"a":' * 10_000, None),
        (b"\xff\xfe\x00", None),
        (json.dumps(BODY | {"prompt_template": "\ud800 {subject}"}).encode(), 422),
        (json.dumps(BODY | {"\ud800": 1}).encode(), 422),
        (json.dumps(BODY | {"x" * 50_000: 1}).encode(), 422),
        (json.dumps(BODY | {"seed": 10**400}).encode(), 422),
        (json.dumps(BODY | {"seed": True}).encode(), 422),
        (json.dumps(BODY | {"alpha": float("nan")}).encode(), 422),
        (json.dumps(BODY | {"step_latency_s": 0}).encode(), 422),
        (json.dumps(BODY | {"prompt_template": "nobody"}).encode(), 422),
        (json.dumps(BODY | {"latent_shape": [1, 1]}).encode(), 422),
    ],
)
def test_malformed_bodies_are_problem_documents(quick, body, status):
    http, _ = quick
    answer = http.post("/v1/requests", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in ({status} if status else {400, 422}), answer.text
    assert answer.headers["content-type"] == MEDIA_PROBLEM
    assert len(answer.content) < 2000


def test_large_bodies_are_refused_whether_their_length_is_told_or_not(quick):
    http, _ = quick
    is_problem(http.post("/v1/requests", content=b"x" * (MOST_BODY + 1)), 413, "too-large")
    parts = (b"x" * 10_000 for _ in range(10))
    chunked = http.post("/v1/requests", content=parts, headers={"content-type": "application/json"})
    is_problem(chunked, 413, "too-large")


def mutated(rng, body):
    """A request's body with something wrong, most often."""
    kind = rng.integers(6)
    if kind == 0:
        raw = bytearray(json.dumps(body).encode())
        for place in rng.integers(0, len(raw), 3):
            raw[place] = int(rng.integers(256))
        return bytes(raw)
    if kind == 1:
        return json.dumps(body).encode()[: int(rng.integers(200))]
    if kind == 2:
        return rng.bytes(int(rng.integers(300)))
    odd = [None, True, -1, 0, 1e308, -1e308, 2**70, "", "x", [], {}, [[]], float("inf"), float("nan"), "\x00", "\udfff"]
    name = str(rng.choice([*body, "extra", ""]))
    value = odd[int(rng.integers(len(odd)))]
    if kind == 3:
        return json.dumps({key: kept for key, kept in body.items() if key != name} | {"extra": value}).encode()
    if kind == 4:
        return json.dumps([body, value]).encode()
    return json.dumps(body | {name: value}).encode()


def fuzz(http, count, seed):
    """Malformed requests; every answer is a decision or a problem document. Returns how often each status came."""
    rng, seen = np.random.default_rng(seed), {}
    short = BODY | DENIED
    paths = [
        "/v1/requests",
        "/v1/requests/x/report",
        "/v1/requests/%00/handoff",
        "/v1/%ff",
        "/v1/requests/..%2f/report",
    ]
    for _ in range(count):
        path = paths[0] if rng.random() < 0.7 else str(rng.choice(paths))
        method = "POST" if rng.random() < 0.8 else str(rng.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]))
        headers = {"content-type": str(rng.choice(["application/json", "text/plain", "x", "multipart/form-data"]))}
        if rng.random() < 0.2:
            headers["Idempotency-Key"] = "k" * int(rng.integers(300))
        answer = http.request(method, path, content=mutated(rng, short), headers=headers)
        assert answer.status_code < 500, (method, path, answer.text)
        assert answer.status_code < 300 or answer.headers["content-type"] == MEDIA_PROBLEM, (method, path, answer.text)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
    return seen


def test_malformed_requests_get_problems_and_no_traceback(quick, capfd):
    http, _ = quick
    assert fuzz(http, 300, 1)[422] > 100
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_ten_thousand_malformed_requests(quick, capfd):
    http, _ = quick
    assert sum(fuzz(http, 2500, seed)[422] for seed in range(4)) > 4000
    assert capfd.readouterr().err == ""


def test_what_is_not_http_is_refused(quick):
    http, _ = quick
    for junk in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\x00" * 5000):
        with closing(socket.create_connection((http.base_url.host, http.base_url.port), PATIENCE_S)) as raw:
            raw.sendall(junk + b"\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 400")
    assert http.get("/healthz").text == "ok"


# -- tokens --------------------------------------------------------------------------------------------------


def test_a_token_is_needed_where_one_is_set():
    tokens = (Token("right"), Token("old", time.time() - 1), Token("young", time.time() + 3600))
    with serving(make_rounds(), tokens=tokens) as (address, _), httpx.Client(base_url=address) as http:
        for header in (
            None,
            "right",
            "Bearer",
            "Bearer wrong",
            "Bearer old",
            "Basic right",
            "Bearer right2",
            b"Bearer \xff",
        ):
            headers = {"Authorization": header} if header else {}
            for path in ("/v1/facts", "/metrics", "/", "/events", "/openapi.json"):
                answer = http.get(path, headers=headers)
                is_problem(answer, 401, "unauthorised")
                assert answer.headers["www-authenticate"] == "Bearer"
        for token in ("Bearer right", "bearer young"):
            assert http.get("/v1/facts", headers={"Authorization": token}).status_code == 200
        assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200


# -- devices that leave, and servers that do ----------------------------------------------------------------


def raw_request(address, method, path, body=b""):
    """An open connection that has sent a request, for one who hangs up."""
    host, port = address.removeprefix("http://").split(":")
    raw = socket.create_connection((host, int(port)), PATIENCE_S)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    raw.sendall(head.encode() + body)
    return raw


def test_a_device_that_hangs_up_is_out_of_the_batch_and_others_are_not():
    rounds = make_rounds(EmulatedEngine(SLOW))
    with serving(rounds) as (address, _), httpx.Client(base_url=address, timeout=PATIENCE_S) as http:
        names = [http.post("/v1/requests", json=BODY | {"seed": seed}).json()["id"] for seed in range(2)]
        with closing(raw_request(address, "GET", f"/v1/requests/{names[0]}/handoff")):
            until(lambda: rounds.find(names[0]).waiting == 1)
        until(lambda: names[0] not in rounds.engine._left)
        assert rounds.in_flight == 1
        assert names[1] in rounds.engine._left
        assert rounds.counters.cancelled == 1


def test_a_device_that_hangs_up_before_its_decision_is_forgotten():
    scenario = make_scenario_of(interval_s=1.0)
    rounds = make_rounds(scenario=scenario)
    with serving(rounds) as (address, _):
        with closing(raw_request(address, "POST", "/v1/requests", json.dumps(BODY).encode())):
            until(lambda: rounds.pending == 1)
        until(lambda: rounds.pending == 0)
        assert rounds.counters.cancelled == 1


def make_scenario_of(**changes):
    from dataclasses import replace

    return replace(SCENARIO, **changes)


def test_of_two_calls_that_wait_for_one_handoff_one_may_leave():
    rounds = make_rounds(EmulatedEngine(LatencyModel(0.0, 0.03, 0.0), payload=b"x"))
    with serving(rounds) as (address, _), httpx.Client(base_url=address, timeout=PATIENCE_S) as http:
        name = http.post("/v1/requests", json=BODY).json()["id"]
        with closing(raw_request(address, "GET", f"/v1/requests/{name}/handoff")):
            got = []
            thread = threading.Thread(target=lambda: got.append(http.get(f"/v1/requests/{name}/handoff")))
            thread.start()
            until(lambda: rounds.find(name).waiting == 2)
        thread.join(PATIENCE_S)
        assert got[0].content == b"x"


def test_a_handoff_that_takes_too_long_can_be_waited_for_again():
    rounds = make_rounds(EmulatedEngine(LatencyModel(0.0, 0.02, 0.0), payload=b"x"))
    with serving(rounds, wait_s=0.01) as (address, _), httpx.Client(base_url=address, timeout=PATIENCE_S) as http:
        name = http.post("/v1/requests", json=BODY).json()["id"]
        is_problem(http.get(f"/v1/requests/{name}/handoff"), 504, "too-slow")
        until(lambda: http.get(f"/v1/requests/{name}/handoff").status_code == 200)


def test_a_device_says_how_long_it_waits_and_hears_how_long_it_still_takes():
    """15 steps of 0.2 s."""
    rounds = make_rounds(EmulatedEngine(SLOW), replace(SCENARIO, edge=SLOW))
    with serving(rounds, grace_s=0.0) as (address, _), httpx.Client(base_url=address, timeout=PATIENCE_S) as http:
        granted = http.post("/v1/requests", json=BODY).json()
        start = time.monotonic()
        answer = http.get(f"/v1/requests/{granted['id']}/handoff", headers={"Prefer": "respond-async, wait=1"})
        is_problem(answer, 504, "too-slow")
        assert time.monotonic() - start >= 1.0
        assert 0 < int(answer.headers["Retry-After"]) < granted["offloaded_steps"] * SLOW.intercept_s
        assert rounds.in_flight == 1


def test_connections_do_not_hold_small_answers_back():
    """Without TCP_NODELAY an answer's second packet waits 0.04 s for the first one's receipt."""
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        with socket.create_connection(taken.getsockname()):
            accepted, _ = taken.accept()
            with accepted:
                asyncio.base_events._set_nodelay(accepted)  # what asyncio does with every connection
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
def test_two_ctrl_c_end_a_server_in_order_though_an_image_has_hours_to_go(pause_s):
    port = free_port()
    options = ["serve", "--engine", "emulated", "--edge", "h100-nvl", "--total-steps", "200", "--gpus", "1"]
    options += ["--port", str(port), "--grace-s", "3600"]
    with subprocess.Popen([sys.executable, "-m", "edgesplit", *options], stderr=subprocess.PIPE, text=True) as process:
        address = f"http://127.0.0.1:{port}"
        servers.until(lambda: servers.is_ready(address))
        slow = make_ask(step_latency_s=1000.0, total_steps=200).model_dump()
        assert httpx.post(f"{address}/v1/requests", json=slow, timeout=PATIENCE_S).json()["decision"] == "grant"
        process.send_signal(signal.SIGINT)
        time.sleep(pause_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert [line for line in said.splitlines() if line] == [
        f"serve: {address} once its model is loaded; Ctrl-C stops it",
        "edgesplit: interrupted",
    ]


def test_cancelling_over_http(quick):
    http, rounds = quick
    name = http.post("/v1/requests", json=BODY).json()["id"]
    assert http.delete(f"/v1/requests/{name}").status_code == 204
    assert name in rounds.ledger.past
    assert http.delete(f"/v1/requests/{name}").status_code == 204


def test_a_server_that_stops_answers_everybody_who_waits():
    rounds = make_rounds(EmulatedEngine(SLOW))
    answers = []
    with serving(rounds, grace_s=0.2) as (address, server):
        http = httpx.Client(base_url=address, timeout=PATIENCE_S)
        name = http.post("/v1/requests", json=BODY).json()["id"]
        threads = [
            threading.Thread(
                target=lambda: answers.append(httpx.get(f"{address}/v1/requests/{name}/handoff", timeout=60))
            ),
            threading.Thread(target=lambda: answers.append(httpx.get(f"{address}/events", timeout=60))),
        ]
        for thread in threads:
            thread.start()
        until(lambda: rounds.find(name).waiting == 1)
        server.should_exit = True
        for thread in threads:
            thread.join(PATIENCE_S)
        http.close()
    handoff = next(answer for answer in answers if "handoff" in str(answer.url))
    is_problem(handoff, 503, "stopping")
    assert len(answers) == 2


def test_a_model_that_dies_is_told_by_readyz_and_started_again():
    with serving(make_rounds(ProcessEngine(dying_worker, {}))) as (address, _), httpx.Client(base_url=address) as http:
        http.timeout = PATIENCE_S
        doomed = http.post("/v1/requests", json=BODY | {"prompt_template": "{subject} to die"}).json()
        detail = is_problem(http.get(f"/v1/requests/{doomed['id']}/handoff"), 503, "edge-failed")
        assert "run all steps locally" in detail
        is_problem(http.get("/readyz"), 503, "not-ready")
        assert http.get("/healthz").text == "ok"
        until(lambda: http.get("/readyz").status_code == 200)
        again = http.post("/v1/requests", json=BODY).json()
        assert http.get(f"/v1/requests/{again['id']}/handoff").content == b"made"
        assert metric(http, "edgesplit_engine_deaths") == 1


class Lag:
    """How late the event loop of a server is, measured in it, and how long its thread works between two looks."""

    def __init__(self, rounds):
        self.late_s, self.work_s = [], []
        self._start, rounds.start = rounds.start, self.start
        self._rounds, self._task = rounds, None

    async def start(self):
        facts = await self._start()
        self._task = self._task or asyncio.create_task(self.measure())
        return facts

    async def measure(self):
        while not self._rounds.stopping:
            before, worked = time.monotonic(), time.thread_time()
            await asyncio.sleep(0.01)
            self.late_s.append(time.monotonic() - before - 0.01)
            self.work_s.append(time.thread_time() - worked)


def overload(seconds, devices, most_pending):
    """Many devices at once for so long, in a process of their own, and another one that looks at /healthz.

    Returns how often each status came, what the other one saw, the loop's lags, and the core.
    """
    rounds = make_rounds(most_pending=most_pending)
    lag = Lag(rounds)
    with serving(rounds) as (address, _):
        port = int(address.rpartition(":")[2])
        with crowding(port, seconds, devices, json.dumps(BODY)) as asked, crowding(port, seconds, 0) as looked:
            seen, health = asked()["seen"], looked()
    assert set(health["seen"]) == {"200"}
    assert rounds.pending == rounds.in_flight == 0
    return seen, health, lag, rounds


def test_more_than_the_queue_takes_is_turned_away_and_the_server_answers():
    seen, _, _, rounds = overload(1.0, 60, 5)
    assert set(seen) == {"200", "429"}
    assert rounds.counters.rejected == seen["429"]


@pytest.mark.slow
def test_a_tenfold_overload_for_half_a_minute_neither_blocks_nor_grows():
    """The bounds of the protocol: /healthz within a second, and no turn of the event loop longer than 50 ms."""
    overload(2.0, 200, 5)  # what is made once is made
    before = psutil.Process().memory_info().rss
    seen, health, lag, rounds = overload(30.0, 200, 5)
    grown = psutil.Process().memory_info().rss - before
    late, work, noise_s = max(lag.late_s), max(lag.work_s), health["late_s"]
    print(
        f"{seen}, /healthz at most {health['slowest_s']:.3f} s, {grown / 2**20:.1f} MiB more; {len(lag.late_s)} turns, "
        f"at most {late:.4f} s late, {work:.4f} s at work; a process with nothing to do {noise_s:.4f} s late"
    )
    assert seen["429"] > 9 * seen["200"]
    assert health["slowest_s"] < 1.0
    assert work < 0.05
    assert late < 0.05 + noise_s  # on a quiet machine the noise is a millisecond
    assert not rounds.ledger.entries
    assert grown < 32 * 2**20


# -- documents, page, log ------------------------------------------------------------------------------------


def test_the_interface_is_described_as_it_is(quick):
    http, _ = quick
    document = http.get("/openapi.json").json()
    paths = document["paths"]
    assert {
        "/v1/facts",
        "/v1/requests",
        "/v1/requests/{name}/handoff",
        "/v1/requests/{name}/report",
        "/healthz",
    } <= set(paths)
    handoff = paths["/v1/requests/{name}/handoff"]["get"]["responses"]
    assert set(handoff["200"]["content"]) == {MEDIA_HANDOFF}
    for path in paths.values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert set(answer["content"]) == {MEDIA_PROBLEM}, (operation["operationId"], status)
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert set(document["components"]["schemas"]["Ask"]["properties"]) == set(BODY)


def test_the_servers_log_replayed_gives_the_same_decisions(tmp_path):
    log = CallLog(tmp_path / "calls.jsonl", "price", "mixed")
    rounds = make_rounds(EmulatedEngine(LatencyModel(0.001, 0.004, 0.0)), images_each=40)
    rounds.watch(log.begin, log.write)
    rng = np.random.default_rng(3)

    async def play():
        await rounds.start()
        for number in range(150):
            latency, alpha = float(rng.uniform(0.001, 0.2)), float(rng.uniform(0, 5))
            rounds.ask(make_ask(seed=number, step_latency_s=latency, alpha=alpha))
            await asyncio.sleep(float(rng.exponential(0.005)))
        await asyncio.sleep(0.1)
        await rounds.stop(0.0)

    with closing(log):
        asyncio.run(play())
    calls = replay(tmp_path / "calls.jsonl", decide)
    assert sum(len(call["requests"]) for call, _ in calls) == 150
    assert len({call["load"]["in_flight"] for call, _ in calls}) > 1
    for call, plan in calls:
        again = call | {"granted": plan.granted.tolist(), "local_steps": plan.local_steps.tolist()}
        assert json.dumps(again) == json.dumps(call)


# -- the command ---------------------------------------------------------------------------------------------


def test_an_address_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(call_root("serve", "--engine", "emulated", "--port", port))
    assert f"found 127.0.0.1:{port}, which cannot be listened on" in line


def test_tls_files_that_do_not_serve_are_one_line(tmp_path):
    (tmp_path / "cert.pem").write_text("no certificate")
    both = ["--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "cert.pem"]
    options = ["--engine", "emulated", "--port", free_port()]
    assert "found no certificate and its key" in refused(call_root("serve", *options, *both))
    assert "accepted: both or none" in refused(call_root("serve", *options, *both[:2]))


def test_a_client_alone_cannot_tell_an_edge_from_nothing():
    async def ask():
        async with EdgeClient(f"http://127.0.0.1:{free_port()}") as client:
            await client.ask(make_ask(), 5)

    with pytest.raises(EdgeError, match="cannot be reached"):
        asyncio.run(ask())

"""What one client may do: how often it may call, and how long its request may take to come."""

import json
import socket
import time
from contextlib import closing
from dataclasses import replace

import httpx
import numpy as np
import pytest
from servers import DENIED, SCENARIO, SLOW, make_ask, make_rounds, serving

from edgesplit.service.engines import EmulatedEngine
from edgesplit.service.protocol import MEDIA_PROBLEM
from edgesplit.service.rate import BURST_S, RateLimit, network_of
from edgesplit.service.server import Token

PATIENCE_S = 60
BODY = json.dumps(make_ask(**DENIED).model_dump()).encode()


# -- how often ----------------------------------------------------------------------------------------------


def test_a_client_gets_its_burst_and_then_its_rate():
    limit, now = RateLimit(10.0), 0.0
    through = 0
    for now in np.arange(0, 20, 0.01):
        through += limit.excess_s("one", now) == 0
    assert through == pytest.approx(10 * (20 + BURST_S), abs=2)


def test_who_waits_as_long_as_told_is_let_through():
    limit, rng, now = RateLimit(5.0), np.random.default_rng(0), 0.0
    for _ in range(1000):
        now += float(rng.exponential(0.1))
        excess = limit.excess_s("one", now)
        if excess:
            assert limit.excess_s("one", now + 0.99 * excess) > 0
            now += excess * 1.000001
            assert limit.excess_s("one", now) == 0


def test_clients_do_not_count_for_each_other_and_idle_ones_are_forgotten(monkeypatch):
    monkeypatch.setattr("edgesplit.service.rate.FEW", 100)
    limit = RateLimit(1.0)
    for number in range(20_000):
        assert limit.excess_s(str(number), 0.1 * number) == 0
    assert len(limit._due_s) <= 1000


def test_no_rate_is_no_bound():
    limit = RateLimit(0.0)
    assert not any(limit.excess_s("one", 0.0) for _ in range(10_000))


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::/64"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_host_is_its_network(host, network):
    assert network_of(host) == network


def calls_until_429(http, count, **headers):
    """The first refusal of so many calls; None where there is none."""
    for _ in range(count):
        answer = http.get("/v1/facts", headers=headers)
        if answer.status_code == 429:
            return answer
    return None


def test_more_calls_than_allowed_are_answered_with_429():
    with serving(make_rounds(), calls_per_s=2) as (address, _), httpx.Client(base_url=address) as http:
        answer = calls_until_429(http, 20)
        assert answer.headers["content-type"] == MEDIA_PROBLEM
        assert answer.json()["type"] == "urn:edgesplit:problem:too-many-calls"
        again_s = int(answer.headers["retry-after"])
        assert again_s >= 1
        assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
        time.sleep(again_s)
        assert http.get("/v1/facts").status_code == 200


def test_tokens_have_rates_of_their_own_and_guesses_share_one():
    tokens = (Token("one"), Token("two"))
    with (
        serving(make_rounds(), tokens=tokens, calls_per_s=2) as (address, _),
        httpx.Client(base_url=address) as http,
    ):
        assert calls_until_429(http, 20, Authorization="Bearer one")
        assert http.get("/v1/facts", headers={"Authorization": "Bearer two"}).status_code == 200
        for number in range(20):
            answer = http.get("/v1/facts", headers={"Authorization": f"Bearer guess{number}"})
            assert answer.status_code in (401, 429)
        assert answer.status_code == 429
        assert http.get("/v1/facts", headers={"Authorization": "Bearer two"}).status_code == 200


# -- how long -----------------------------------------------------------------------------------------------


def dripped(address, head, drops, pause_s=0.1):
    """What a server answers to a request whose bytes come one by one, until it closes the connection."""
    host, port = address.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), PATIENCE_S)) as raw:
        raw.sendall(head)
        raw.settimeout(pause_s)
        got, end = b"", time.monotonic() + PATIENCE_S
        for drop in drops:
            try:
                if drop:
                    raw.sendall(drop)
                part = raw.recv(10_000)
            except TimeoutError:
                assert time.monotonic() < end, got
                continue
            except OSError:
                return got
            got += part
            if not part:
                return got
    raise AssertionError(f"the connection is still open; answered: {got!r}")


def head_of(method, path, length):
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}\r\n\r\n".encode()


DROPS = [b" "] * 600


@pytest.mark.parametrize("length", [f"Content-Length: {len(BODY) + 600}", "Transfer-Encoding: chunked"])
def test_a_body_that_drips_in_is_answered_with_408_and_holds_nothing(length):
    rounds = make_rounds()
    drops = [b"1\r\n \r\n"] * 600 if "chunked" in length else DROPS
    with serving(rounds, body_s=0.5) as (address, server):
        got = dripped(address, head_of("POST", "/v1/requests", length), drops)
        assert got.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in got.lower()
        assert json.loads(got.partition(b"\r\n\r\n")[2])["type"] == "urn:edgesplit:problem:slow-body"
        assert rounds.pending == 0
        assert not rounds.ledger.entries
        assert not server.server_state.connections


@pytest.mark.parametrize("first", [b"", b"POST /v1/requests HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_headers_that_drip_in_and_silence_end_the_connection(first):
    with serving(make_rounds(), body_s=0.2) as (address, _):
        assert dripped(address, first, [b"x"] * 600 if first else [b""] * 600) == b""


def test_a_body_that_goes_on_after_the_answer_ends_the_connection():
    with serving(make_rounds(), body_s=0.2) as (address, _):
        got = dripped(address, head_of("DELETE", "/v1/requests/nobody", "Content-Length: 60000"), DROPS)
        assert got.startswith(b"HTTP/1.1 404 ")


def test_a_slow_body_of_a_call_that_waits_is_refused_as_well():
    rounds = make_rounds(EmulatedEngine(SLOW))
    with serving(rounds, body_s=0.5) as (address, _), httpx.Client(base_url=address, timeout=PATIENCE_S) as http:
        name = http.post("/v1/requests", json=make_ask().model_dump()).json()["id"]
        got = dripped(address, head_of("GET", f"/v1/requests/{name}/handoff", "Content-Length: 60000"), DROPS)
        assert got.startswith(b"HTTP/1.1 408 ")
        assert rounds.in_flight == 0  # nobody waits for it


def test_a_long_wait_for_an_answer_is_no_slow_body():
    """The bound is for what the client sends, not for how long a round lasts."""
    rounds = make_rounds(scenario=replace(SCENARIO, interval_s=2.0))
    with serving(rounds, body_s=0.2) as (address, _), httpx.Client(base_url=address, timeout=PATIENCE_S) as http:
        for _ in range(2):  # on one connection
            assert http.post("/v1/requests", json=json.loads(BODY)).json()["decision"] == "deny"

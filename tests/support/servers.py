"""Edge servers for the tests: a core with a quick engine, and one on a port of this machine."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import psutil
import uvicorn
from oracles import make_scenario

from edgesplit.fitting.latency import LatencyModel
from edgesplit.fitting.pai import PaiCurve
from edgesplit.service.asgi import BODY_S
from edgesplit.service.engines import EmulatedEngine
from edgesplit.service.listening import EdgeServer, bound_socket, config_of
from edgesplit.service.protocol import Ask, Facts
from edgesplit.service.rounds import Rounds, RoundSettings
from edgesplit.service.server import ServerSettings, make_app

SCENARIO = make_scenario(
    edge=LatencyModel(0.0001, 0.001, 0.0), gpus=1, interval_s=0.05, total_steps=20, min_local_steps=5,
    bandwidth_hz=1e9, pai=PaiCurve(0.4, 7.0),
)  # fmt: skip
SLOW = LatencyModel(0.0, 0.2, 0.0)
"""A step of 0.2 s, for images that must still be there."""


def make_ask(**changes):
    """A request that is granted: a slow device whose user does not mind the picture."""
    values = {"prompt_template": "a photo of {subject}", "seed": 1, "step_latency_s": 1.0, "alpha": 0.1}
    return Ask(**values | {"total_steps": SCENARIO.total_steps} | changes)


DENIED = {"step_latency_s": 1e-6, "alpha": 100.0}
"""What makes a request one that is denied."""


def make_rounds(engine=None, scenario=SCENARIO, **settings):
    """A core that has not started."""
    return Rounds(
        lambda facts: RoundSettings(scenario=scenario, **settings),
        engine or EmulatedEngine(SCENARIO.edge, payload=b"x"),
    )


def make_server(rounds, **settings):
    """Its application."""

    def server_settings(facts):
        scenario = rounds.settings.scenario
        served = Facts(
            model=facts["name"], total_steps=scenario.total_steps, min_local_steps=scenario.min_local_steps,
            guidance_scale=3.0, scheduler="ddim", scheduler_hash=facts["scheduler_hash"],
            latent_shape=facts["latent_shape"], interval_s=scenario.interval_s, version="0",
        )  # fmt: skip
        return ServerSettings(facts=served, **settings)

    return make_app(rounds, server_settings)


@contextmanager
def serving(served, grace_s=1.0, body_s=BODY_S, **settings):
    """A core, or any application, on a port of this machine while the block runs; yields its address and its server."""
    with bound_socket("127.0.0.1", 0) as taken:
        if isinstance(served, Rounds):
            app = make_server(served, body_s=body_s, **settings)
            server = EdgeServer(config_of(app, body_s=body_s), served, grace_s)
        else:
            server = uvicorn.Server(config_of(served, body_s=body_s))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 120
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{taken.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# -- the command as a process of its own ----------------------------------------------------------------------

PATIENCE_S = 300
"""Seconds after which something counts as hanging, on busy cores."""
STEPS = 120
"""Steps of its images, each of some milliseconds."""


@contextmanager
def serve_process(cluster, *options):
    """`edgesplit serve` as a process of its own with a small model; yields its address and the process."""
    port = free_port()
    options = [
        "--cluster", cluster, "--device", "cpu", "--guidance", "3", "--total-steps", STEPS, "--min-local-steps", "2",
        "--gpus", "1", "--port", port, "--grace-s", "0", *options,
    ]  # fmt: skip
    process = psutil.Popen(
        [sys.executable, "-m", "edgesplit", "serve", *map(str, options)], stderr=subprocess.PIPE, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or is_ready(address))
        assert process.poll() is None, process.stderr.read()
        yield address, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE_S)


def until(holds, pause_s=0.002):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(pause_s)


def is_ready(address):
    try:
        return httpx.get(f"{address}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False

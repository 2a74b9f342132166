"""Edge servers for the tests: on this machine, with a model in this process or with none, or false ones."""

import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

from edgesplit.service.engines import Tick
from edgesplit.service.protocol import Facts
from edgesplit.service.rounds import Rounds, RoundSettings
from edgesplit.service.server import ServerSettings, make_app


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def serving(app):
    """A server on this machine while the block runs; yields its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)


def make_server(scenario, engine, **settings):
    """A server in the simplest setting, and its core."""
    rounds = Rounds(lambda _facts: RoundSettings(scenario=scenario, **settings), engine)

    def server_settings(facts):
        served = Facts(
            model=facts["name"], total_steps=scenario.total_steps, min_local_steps=scenario.min_local_steps,
            guidance_scale=3.0, scheduler="ddim", scheduler_hash=facts["scheduler_hash"],
            latent_shape=facts["latent_shape"], interval_s=scenario.interval_s, version="0",
        )  # fmt: skip
        return ServerSettings(facts=served, grace_s=1.0)

    return make_app(rounds, server_settings), rounds


class ModelEngine:
    """An engine whose model steps in this process, every image at once when it joins."""

    def __init__(self, model, sampling, spoil=lambda payload: payload):
        """`spoil` is what becomes of every hand-off."""
        self.model, self.sampling, self.spoil = model, sampling, spoil

    async def start(self, on_tick, on_death):
        self.on_tick = on_tick
        return {
            "name": "tiny",
            "scheduler_hash": self.sampling.fingerprint(self.model.scheduler_config),
            "latent_shape": list(self.model.latent_shape),
        }

    def add(self, images):
        import asyncio

        asyncio.get_running_loop().call_soon(self._run, images)

    def _run(self, images):
        from edgesplit.diffusion.inference.hybrid import Request, edge_prefix

        done = {}
        for image in images:
            asked = Request(prompt_template=image.prompt_template, local_steps=image.local_steps, seed=image.seed)
            (handoff,) = edge_prefix(self.model, [asked], self.sampling)
            done[image.name] = self.spoil(handoff.to_bytes("fp32"))
        self.on_tick(Tick(ended_s=time.monotonic(), seconds=0.0, batch=len(images), joined=list(done), done=done))

    def cancel(self, names):
        pass

    async def stop(self):
        pass


@contextmanager
def false_edge(answer):
    """A server that is none: `answer` gets every connection, and may read, write, or do nothing; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    over, connections = threading.Event(), []

    def listen():
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connections.append(connection)
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        thread.join(10)
        for connection in connections:
            connection.close()
        listener.close()

"""What stands in for an edge in the tests: a model in this process, processes that fail, and servers that are none."""

import os
import socket
import threading
import time
from contextlib import contextmanager

from edgesplit.service.engines import Tick, receive, send


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


# -- workers for `ProcessEngine`, importable by the process that it starts -----------------------------------


def dying_worker(pipe, settings):
    """A model's process that does steps of some milliseconds, and ends at once where a prompt says `die`."""
    send(pipe, {"facts": {"name": "tiny", "scheduler_hash": "tiny", "latent_shape": [1, 1, 1]}})
    left = {}
    while True:
        joined = []
        while pipe.poll(None if not left else settings.get("tick_s", 0.005)):
            message, _ = receive(pipe)
            if "stop" in message:
                return
            for image in message.get("add", ()):
                if "die" in image["prompt_template"]:
                    os._exit(1)
                left[image["name"]] = image["total_steps"] - image["local_steps"]
                joined.append(image["name"])
            for name in message.get("cancel", ()):
                left.pop(name, None)
        batch = len(left)
        left = {name: steps - 1 for name, steps in left.items()}
        done = {name: b"made" for name, steps in left.items() if steps <= 0}
        left = {name: steps for name, steps in left.items() if steps > 0}
        tick = {"ended_s": time.monotonic(), "seconds": 0.005, "batch": batch, "joined": joined, "failed": {}}
        send(pipe, tick, done)


def stillborn_worker(pipe, settings):
    """A model's process that cannot load it."""
    send(pipe, {"error": "unet: the weights are damaged"})


DEAF_S = 20


def deaf_worker(pipe, settings):
    """A model's process that reads nothing for a long time."""
    send(pipe, {"facts": {"name": "deaf", "scheduler_hash": "deaf", "latent_shape": [1, 1, 1]}})
    time.sleep(DEAF_S)

"""A real `edgesplit serve` that is killed at several moments of a request: the picture is the all-local one."""

import asyncio
import contextlib
import re
import socket
import threading
from contextlib import contextmanager

import httpx
import psutil
import pytest
from models import as_model, make_pipeline
from servers import PATIENCE_S, STEPS, is_ready, serve_process, until

from edgesplit.diffusion.inference.batch import generate
from edgesplit.diffusion.inference.sampling import Sampling
from edgesplit.service.client import EdgeClient
from edgesplit.service.own_pictures import PersonalDevice
from edgesplit.service.personal import PersonalModel, Watch, png
from edgesplit.service.protocol import MEDIA_HANDOFF

SAMPLING = Sampling(total_steps=STEPS, guidance_scale=3.0)
TEMPLATE, SEED = "a photo of {subject}", 7


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    make_pipeline(seed=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def own():
    return PersonalModel(model=as_model(make_pipeline(seed=1), "sks dog"), sampling=SAMPLING, words=("sks dog",))


@pytest.fixture(scope="module")
def alone(own):
    """The all-local picture."""
    return png(generate(own.model, ["a photo of sks dog"], [SEED], SAMPLING)[0])


def gauge(http, name):
    """A number of /metrics."""
    return float(re.search(rf"^edgesplit_{name} (\S+)$", http.get("/metrics").text, re.MULTILINE)[1])


def at_once_when(name, address, kill):
    """Kill in the moment in which a number of /metrics is not 0 any more; in a thread."""

    def watch():
        with httpx.Client(base_url=address, timeout=PATIENCE_S) as http:
            until(lambda: gauge(http, name) > 0)
            kill()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def make_picture(own, address):
    async def made():
        async with EdgeClient(address) as client:
            device = PersonalDevice(client=client, own=own, step_latency_s=0.5, alpha=0.0, emphasis=0.0)
            return await device.picture(TEMPLATE, SEED, Watch())

    return asyncio.run(made())


MOMENTS = {
    "before the decision": ("pending", ()),
    "in mid-batch": ("in_flight", ()),
    "while the hand-off is on the radio": ("on_radio", ("--emulate-radio", "--bandwidth-mhz", "0.001")),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_server_costs_no_picture(cluster, own, alone, moment):
    name, options = MOMENTS[moment]
    with serve_process(cluster, *options) as (address, process):
        workers = process.children(recursive=True)
        thread = at_once_when(name, address, process.kill)
        made = make_picture(own, address)
        thread.join(PATIENCE_S)
        assert process.wait(PATIENCE_S) == -9
        assert not made.result.granted
        assert made.result.reason
        assert png(made.picture) == alone
        psutil.wait_procs(workers, PATIENCE_S)  # the model's process ends by itself
        assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_of_a_hand_off_costs_no_picture(cluster, own, alone):
    with serve_process(cluster) as (address, process), cut_off(address, process.kill) as between:
        made = make_picture(own, between)
        assert process.wait(PATIENCE_S) == -9
    assert made.result.decision.decision == "grant"
    assert not made.result.granted
    assert png(made.picture) == alone


@pytest.mark.slow
def test_a_killed_model_costs_no_picture_and_the_server_goes_on(cluster, own, alone):
    with serve_process(cluster) as (address, process):
        worker = max(process.children(recursive=True), key=lambda child: child.memory_info().rss)
        at_once_when("in_flight", address, worker.kill)
        made = make_picture(own, address)
        assert "503" in made.result.reason
        assert png(made.picture) == alone
        until(lambda: is_ready(address), 0.1)
        assert make_picture(own, address).result.granted


@contextmanager
def cut_off(address, kill):
    """A proxy that passes everything on, but kills the server in the middle of a hand-off."""
    host, port = address.removeprefix("http://").split(":")
    sockets = contextlib.ExitStack()

    def listen():
        with contextlib.suppress(OSError):
            while True:
                device = sockets.enter_context(listener.accept()[0])
                edge = sockets.enter_context(socket.create_connection((host, int(port))))
                threading.Thread(target=pass_on, args=(device, edge, None), daemon=True).start()
                threading.Thread(target=pass_on, args=(edge, device, kill), daemon=True).start()

    with sockets, socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)


def pass_on(source, target, kill, after=300):
    """Pass bytes on until a connection breaks; where a hand-off comes by, only so many bytes of it, and kill."""
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            if kill and MEDIA_HANDOFF.encode() in part:
                target.sendall(part[: part.index(b"\r\n\r\n") + 4 + after])
                kill()
                break
            target.sendall(part)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)

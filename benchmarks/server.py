"""The edge server beside its peers: its HTTP and a bare FastAPI application, its engine and diffusers pipelines.

`python benchmarks/server.py`: requests per second of the control plane with an engine that takes no time (`speed`);
what it adds to a request (`latency`); sixteen images in flight against sixteen pipelines one after another, and what a
tick of the engine costs beside its call of the UNet (`engine`). A part's name as an argument runs it alone. Both sides
take turns in the same run; printed are the median of the turns and their range. Requests per second of the server's
CPU time say what a core to itself would bring, where other work has a share of the cores; the engine and its peer
compute with one thread, whose CPU time is taken.
"""

import asyncio
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from rich.console import Console

from edgesplit import data
from edgesplit.common.tables import plain_table
from edgesplit.fitting.latency import LatencyModel
from edgesplit.optimizer.inputs.scenario import load_scenario
from edgesplit.service.engines import EmulatedEngine
from edgesplit.service.listening import EdgeServer, bound_socket, config_of
from edgesplit.service.protocol import Facts
from edgesplit.service.rounds import Rounds, RoundSettings
from edgesplit.service.server import ServerSettings, make_app

TURNS = 3
console = Console(highlight=False, width=120)


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range of a few turns."""
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


# -- servers, each in a process of its own -------------------------------------------------------------------

NULL = LatencyModel(0.0, 1e-6, 0.0)
"""Step latency of an engine that takes no time."""
SHORT_S, ROUND_S = 0.002, 0.02
"""Delta: about as short as the event loop's clock where latency is measured; longer where the server is always busy."""
SCENARIO = replace(
    load_scenario("default", total_steps=20, min_local_steps=19, max_batch=1000, latent_bits=0), edge=NULL
)
"""Images that have one step at the edge, and rounds that grant whatever comes."""


def serve_edge(ready: Connection, round_s: float) -> None:
    """The edge server with an engine that takes no time."""
    scenario = replace(SCENARIO, interval_s=round_s)
    rounds = Rounds(lambda _: RoundSettings(scenario=scenario, frozen_profile=True), EmulatedEngine(NULL))

    def settings(facts: dict[str, Any]) -> ServerSettings:
        return ServerSettings(facts=Facts(
            model="none", total_steps=SCENARIO.total_steps, min_local_steps=SCENARIO.min_local_steps,
            guidance_scale=1.0, scheduler="ddim", scheduler_hash=facts["scheduler_hash"],
            latent_shape=facts["latent_shape"], interval_s=round_s, version="0",
        ))  # fmt: skip

    with bound_socket("127.0.0.1", 0) as taken:
        ready.send(taken.getsockname()[1])
        EdgeServer(config_of(make_app(rounds, settings)), rounds, grace_s=0.0).run(sockets=[taken])


def serve_constant(ready: Connection, round_s: float) -> None:  # noqa: ARG001 - it has no rounds
    """The peer: FastAPI and uvicorn with the same settings, and a constant answer."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/v1/requests")
    async def constant() -> dict[str, Any]:
        return {"id": "constant", "decision": "deny", "planned": {"wait_s": 0.0}}

    with bound_socket("127.0.0.1", 0) as taken:
        ready.send(taken.getsockname()[1])
        uvicorn.Server(config_of(app)).run(sockets=[taken])


@contextmanager
def process(serve: Callable[[Connection, float], None], round_s: float) -> Iterator[tuple[int, psutil.Process]]:
    """A server in a process of its own while the block runs; yields its port and the process."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, round_s))
    server.start()
    try:
        yield ours.recv(), psutil.Process(server.pid)
    finally:
        server.terminate()
        server.join(10)
        if server.is_alive():
            server.kill()


# -- devices -------------------------------------------------------------------------------------------------

CONNECTIONS, WARM_UP_S, LOAD_S = 64, 1.0, 5.0
RATE, SENT = 400.0, 1600
"""Requests a second, and requests in all, where latency is measured."""
BODY = {"prompt_template": "a photo of {subject}", "seed": 1, "step_latency_s": 10.0, "alpha": 0.1, "total_steps": 20}
REPORT = {"wait_s": 0.1, "edge_s": 0.1, "transmit_s": 0.1, "local_s": 0.1}


class Device:
    """A connection that is kept; HTTP as bytes, as a client that does more would be what is measured."""

    async def open(self, port: int) -> "Device":
        """Connect."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
            else:
                return self

    async def call(self, method: str, path: str, body: Any = None) -> bytes:
        """One request and its answer's body."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if not answer.startswith(b"http/1.1 2"):
            sys.exit(f"{method} {path}: {answer.decode()}")
        length = answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return await self._reader.readexactly(int(length or 0))

    async def ask(self) -> Any:
        """Ask; returns the decision."""
        return json.loads(await self.call("POST", "/v1/requests", BODY))

    async def whole(self) -> None:
        """Ask, fetch the hand-off, and report."""
        name = (await self.ask())["id"]
        await self.call("GET", f"/v1/requests/{name}/handoff")
        await self.call("POST", f"/v1/requests/{name}/report", REPORT)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@dataclass(frozen=True)
class Speed:
    """What a server got done.

    Attributes:
        per_second: requests per second.
        per_cpu_second: requests per second of its CPU time.
    """

    per_second: float
    per_cpu_second: float


async def speed(port: int, server: psutil.Process, work: Callable[[Device], Any]) -> Speed:
    """How often many devices, each as fast as it is answered, get their work done."""
    devices = [await Device().open(port) for _ in range(CONNECTIONS)]
    done = 0

    async def repeat(device: Device) -> None:
        nonlocal done
        while True:
            await work(device)
            done += 1

    tasks = [asyncio.create_task(repeat(device)) for device in devices]
    await asyncio.sleep(WARM_UP_S)
    before, start, cpu = done, time.perf_counter(), _cpu_s(server)
    await asyncio.sleep(LOAD_S)
    count, seconds, cpu_s = done - before, time.perf_counter() - start, _cpu_s(server) - cpu
    for task, device in zip(tasks, devices, strict=True):
        task.cancel()
        device.close()
    return Speed(count / seconds, count / cpu_s)


def _cpu_s(server: psutil.Process) -> float:
    times = server.cpu_times()
    return float(times.user + times.system)


async def latencies(port: int) -> list[float]:
    """Seconds of requests sent at their times, less what the answer says that they waited for their round's end."""
    rng, devices = np.random.default_rng(0), [await Device().open(port) for _ in range(CONNECTIONS)]
    free: asyncio.Queue[Device] = asyncio.Queue()
    for device in devices:
        free.put_nowait(device)
    seconds: list[float] = []

    async def one() -> None:
        device = await free.get()
        start = time.perf_counter()
        decision = await device.ask()
        seconds.append(time.perf_counter() - start - decision["planned"]["wait_s"])
        free.put_nowait(device)

    times = np.cumsum(rng.exponential(1 / RATE, SENT))
    start, sent = time.perf_counter(), []
    for at in times:
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        sent.append(asyncio.create_task(one()))
    await asyncio.gather(*sent)
    for device in devices:
        device.close()
    return seconds[SENT // 10 :]


BARE, ASKED, WHOLE = "bare FastAPI, a constant", "asked and decided", "asked, fetched, reported (3 calls)"


def show_speed() -> None:
    """Requests per second of the edge server, beside a bare application."""
    speeds: dict[str, list[Speed]] = {BARE: [], ASKED: [], WHOLE: []}
    for _ in range(TURNS):
        with process(serve_constant, ROUND_S) as (port, server):
            speeds[BARE].append(asyncio.run(speed(port, server, Device.ask)))
        with process(serve_edge, ROUND_S) as (port, server):
            speeds[ASKED].append(asyncio.run(speed(port, server, Device.ask)))
            speeds[WHOLE].append(asyncio.run(speed(port, server, Device.whole)))
    table = plain_table("requests, the engine takes no time", "per second", "per CPU second", right_from=1)
    for name, turns in speeds.items():
        rates, cpu = [turn.per_second for turn in turns], [turn.per_cpu_second for turn in turns]
        table.add_row(name, spread(rates, 0), spread(cpu, 0))
    console.print(table)
    ratios = [b.per_cpu_second / a.per_cpu_second for b, a in zip(speeds[BARE], speeds[ASKED], strict=True)]
    console.print(f"constant / edge server, requests per CPU second: {spread(ratios, 2)}")


def show_latency() -> None:
    """What the edge server adds to a request beside a bare application, without the wait for its round's end."""
    p50_ms: dict[str, list[float]] = {BARE: [], ASKED: []}
    for _ in range(TURNS):
        for name, serve in ((BARE, serve_constant), (ASKED, serve_edge)):
            with process(serve, SHORT_S) as (port, _):
                p50_ms[name].append(1e3 * float(np.median(asyncio.run(latencies(port)))))
    table = plain_table(f"{RATE:.0f} requests a second, without the wait for the round", "p50 ms", right_from=1)
    for name, turns in p50_ms.items():
        table.add_row(name, spread(turns, 2))
    console.print(table)
    added = [a - b for b, a in zip(p50_ms[BARE], p50_ms[ASKED], strict=True)]
    console.print(f"added: {spread(added, 2)} ms")


# -- the engine ----------------------------------------------------------------------------------------------

IMAGES, GUIDANCE = 16, 3.0
STEPS = IMAGES
"""N, with which sixteen images are in flight, each at a step of its own, where one joins at every tick."""
CLOSE = 1e-4
"""Most by which latents of the two may differ."""
DOING = ("", "wearing a hat", "wearing a scarf", "with a ball")
PIPELINES, TOGETHER, APART = (
    "pipelines, one after another",
    "engine, all join at once",
    "engine, one joins at every tick",
)
PLACES = ("on the beach", "in snow", "in the forest", "in the city")


@dataclass
class Images:
    """Different images in flight, and what became of them.

    Attributes:
        model: the model.
        sampling: settings of all images.
        made: image -> its latents.
    """

    model: Any
    sampling: Any
    made: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from edgesplit.diffusion.inference.in_flight import InFlight

        self.engine, self.joined = InFlight(self.model, self.sampling, share=False), 0

    def join(self, count: int) -> None:
        """Let the next images join."""
        from edgesplit.diffusion.inference.in_flight import Image

        for number in range(self.joined, self.joined + count):
            self.engine.add(Image(name=number, prompt=prompt_of(self.model, number), seed=number, to_step=0))
        self.joined += count

    def ticks(self, count: int, joining: int = 0) -> None:
        """So many ticks, before each of which so many images join."""
        for _ in range(count):
            self.join(joining)
            self.made |= self.engine.tick()


def prompt_of(model: Any, number: int) -> str:
    """A prompt that no other of sixteen images has."""
    what, where = DOING[number % 4], PLACES[number // 4 % 4]
    prompt: str = model.prompt(f"a photo of {{subject}} {what} {where}")
    return prompt


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of a call; torch computes in this thread alone."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def pipelines(pipeline: Any, model: Any) -> list[Any]:
    """Latents of sixteen images, one after another."""
    import torch

    height, width = (side * pipeline.vae_scale_factor for side in model.latent_shape[1:])
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "height": height, "width": width}
    return [
        pipeline(
            prompt_of(model, number), generator=torch.Generator().manual_seed(number), output_type="latent", **settings
        ).images[0]
        for number in range(IMAGES)
    ]


@dataclass(frozen=True)
class TickParts:
    """Median CPU seconds of a tick and of its parts.

    Attributes:
        tick_s: the whole tick.
        unet_s: its call of the UNet.
        encoding_s: the encoding of prompts that are new; 0 where none is.
    """

    tick_s: float
    unet_s: float
    encoding_s: float

    @property
    def overhead(self) -> float:
        """What the engine itself takes, in percent of the call of the UNet."""
        return 100 * (self.tick_s - self.unet_s - self.encoding_s) / self.unet_s

    @property
    def encoding(self) -> float:
        """What encoding takes, in percent of the call of the UNet."""
        return 100 * self.encoding_s / self.unet_s


@contextmanager
def calls_timed(owner: Any, name: str) -> Iterator[list[float]]:
    """CPU seconds of every call of a method while the block runs."""
    method, seconds = getattr(owner, name), list[float]()

    def timed_method(*given: Any, **named: Any) -> Any:
        start = time.thread_time()
        made = method(*given, **named)
        seconds.append(time.thread_time() - start)
        return made

    with patch.object(owner, name, timed_method):
        yield seconds


def tick_parts(images: Images, count: int, joining: int = 0) -> TickParts:
    """The parts of a tick; before each tick so many images join."""
    tick_s, model = [], images.model
    with calls_timed(model.unet, "forward") as unet_s, calls_timed(type(model), "encode") as encoding_s:
        for _ in range(count):
            images.join(joining)
            tick_s.append(timed(images.engine.tick))
    medians = [float(np.median(seconds)) if seconds else 0.0 for seconds in (tick_s, unet_s, encoding_s)]
    return TickParts(*medians)


def overheads(model: Any, sampling: Any) -> dict[str, float]:
    """What a tick takes beside its call of the UNet, in percent of that call."""
    parts = {}
    for batch in (1, 4, IMAGES):
        images = Images(model, sampling)
        images.join(batch)
        images.ticks(2)
        parts[f"{batch} in flight"] = tick_parts(images, STEPS - 3)
    images = Images(model, sampling)
    images.ticks(IMAGES, joining=1)
    apart = parts[f"{IMAGES} in flight, one joins at every tick"] = tick_parts(images, STEPS, joining=1)
    shares = {name: part.overhead for name, part in parts.items()}
    return shares | {"beside it: the new prompt is encoded": apart.encoding}


def show_engine() -> None:
    """CPU seconds of sixteen images on either side, and the engine's own part of a tick."""
    import torch
    from diffusers import StableDiffusionPipeline

    from edgesplit.diffusion.inference.models import load_model
    from edgesplit.diffusion.inference.sampling import Sampling

    folder = data.FOLDER / "toyworld" / "cluster"
    model, sampling = load_model(folder, device="cpu"), Sampling(total_steps=STEPS, guidance_scale=GUIDANCE)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).to("cpu", torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    for turn in range(TURNS + 1):
        took, found = one_turn(pipeline, model, sampling), overheads(model, sampling)
        if turn:  # the first turn warms up
            for name, value in took.items():
                seconds.setdefault(name, []).append(value)
            for name, value in found.items():
                shares.setdefault(name, []).append(value)
    _print(seconds, shares)


def one_turn(pipeline: Any, model: Any, sampling: Any) -> dict[str, float]:
    """CPU seconds of sixteen images each way; ends where their latents differ."""
    together, apart, separate = Images(model, sampling), Images(model, sampling), []
    took = {PIPELINES: timed(lambda: separate.extend(pipelines(pipeline, model)))}
    took[TOGETHER] = timed(lambda: (together.join(IMAGES), together.ticks(STEPS)))
    apart.ticks(STEPS, joining=1)  # from here on sixteen are in flight
    took[APART] = timed(lambda: apart.ticks(STEPS, joining=1))
    for images in (together, apart):
        worst = max(float((images.made[i] - separate[i]).abs().max()) for i in range(IMAGES))
        if worst > CLOSE:
            sys.exit(f"latents of engine and pipelines differ by {worst:.2g}")
    return took


def _print(seconds: dict[str, list[float]], shares: dict[str, list[float]]) -> None:
    table = plain_table(
        f"{IMAGES} images of {STEPS} steps, toy world, one thread", "CPU seconds", "pipelines / this", right_from=1
    )
    for name, turns in seconds.items():
        ratios = [peer / own for peer, own in zip(seconds[PIPELINES], turns, strict=True)]
        table.add_row(name, spread(turns, 2), spread(ratios, 2))
    console.print(table)
    table = plain_table("a tick beside its call of the UNet", "more CPU time, %", right_from=1)
    for name, turns in shares.items():
        table.add_row(name, spread(turns, 1))
    console.print(table)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parts = {"speed": show_speed, "latency": show_latency, "engine": show_engine}
    for part in sys.argv[1:] or parts:
        parts[part]()

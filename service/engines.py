"""What runs the steps of a server's images: a process of its own with the model, or a clock that pretends to.

An engine gets images, and tells of every tick: who joined, who left with which hand-off, and how long it took.
Messages between the processes are JSON and raw bytes; nothing is pickled but the start of the process.
"""

import asyncio
import contextlib
import json
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ..fitting.latency import LatencyModel


@dataclass(frozen=True, kw_only=True)
class EdgeImage:
    """An image for the engine.

    Attributes:
        name: name of its request.
        prompt_template: prompt with `{subject}`.
        seed: seed of its noise.
        local_steps: n, steps left when it leaves.
        total_steps: N.
    """

    name: str
    prompt_template: str
    seed: int
    local_steps: int
    total_steps: int


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What one tick did.

    Attributes:
        ended_s: monotonic time of its end, the same clock in all processes of a machine.
        seconds: how long it took; 0 where no step was taken.
        batch: images in it.
        joined: images that took their first step.
        done: image -> its hand-off as bytes, of those that left.
        failed: image -> why it cannot be served.
        splits: image -> local steps n with which it left, of those that left.
    """

    ended_s: float
    seconds: float
    batch: int
    joined: Sequence[str]
    done: dict[str, bytes] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)


STOP_S = 5.0
"""Seconds that a process has to end by itself."""

OnTick = Callable[[Tick], None]
OnDeath = Callable[[str], None]


class EngineError(Exception):
    """An engine that could not start."""


class EdgeEngine(Protocol):
    """Runs the steps of a server's images."""

    async def start(self, on_tick: OnTick, on_death: OnDeath) -> dict[str, Any]:
        """Get ready; returns what is known of the model: name, scheduler_hash, latent_shape, latency model."""

    def add(self, images: Sequence[EdgeImage]) -> None:
        """Let images join before the next tick."""

    def revise(self, splits: Mapping[str, int]) -> None:
        """Let images leave at other local steps n; one that is past its own leaves with the next tick."""

    def cancel(self, names: Sequence[str]) -> None:
        """Let images go."""

    async def stop(self) -> None:
        """End, whatever is in flight."""


class EmulatedEngine:
    """An engine without a model: a tick takes L_e(b, G), a hand-off is a few bytes. For the control plane's tests."""

    def __init__(self, latency: LatencyModel, gpus: int = 1, payload: bytes = b"emulated") -> None:
        self.latency, self.gpus, self.payload = latency, gpus, payload
        self._left: dict[str, int] = {}
        self._split: dict[str, int] = {}
        self._new: list[str] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, on_tick: OnTick, on_death: OnDeath) -> dict[str, Any]:  # noqa: ARG002 - it cannot die
        """Get ready."""
        self._task = asyncio.create_task(self._run(on_tick))
        return {"name": "emulated", "scheduler_hash": "emulated", "latent_shape": [1, 1, 1]}

    def add(self, images: Sequence[EdgeImage]) -> None:
        """Let images join."""
        for image in images:
            self._left[image.name], self._split[image.name] = image.total_steps - image.local_steps, image.local_steps
            self._new.append(image.name)
        self._wake.set()

    def revise(self, splits: Mapping[str, int]) -> None:
        """Let images leave at other splits."""
        for name, n in splits.items():
            if name in self._left:
                to_go = self._split[name] + self._left[name]
                self._left[name] = max(1, to_go - n)
                self._split[name] = to_go - self._left[name]

    def cancel(self, names: Sequence[str]) -> None:
        """Let images go."""
        for name in names:
            self._left.pop(name, None)
            self._split.pop(name, None)

    async def stop(self) -> None:
        """End."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, on_tick: OnTick) -> None:
        next_end = time.monotonic()
        while True:
            if not self._left:
                self._wake.clear()
                await self._wake.wait()
                next_end = time.monotonic()
            joined, self._new = self._new, []
            batch, start = list(self._left), next_end
            seconds = float(self.latency.step_latency(len(batch) / self.gpus))
            next_end = max(next_end + seconds, time.monotonic() - 1.0)  # sleeping late is made up for
            await asyncio.sleep(max(0.0, next_end - time.monotonic()))
            for name in batch:
                if name in self._left:
                    self._left[name] -= 1
            done = {name: self.payload for name in batch if self._left.get(name) == 0}
            splits = {name: self._split.pop(name) for name in done}
            for name in done:
                del self._left[name]
            on_tick(
                Tick(ended_s=next_end, seconds=next_end - start, batch=len(batch), joined=joined, done=done,
                     splits=splits)
            )  # fmt: skip


class ProcessEngine:
    """An engine whose model lives in a process of its own.

    Attributes:
        target: function of a connection and settings that the process runs, such as `edge_worker.work`.
        settings: plain values for it.
    """

    def __init__(self, target: Callable[[Connection, dict[str, Any]], None], settings: dict[str, Any]) -> None:
        self.target, self.settings = target, settings
        self._process: Any = None
        self._unsent: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    @property
    def pid(self) -> int | None:
        """The process, where it runs."""
        return self._process.pid if self._process else None

    async def start(self, on_tick: OnTick, on_death: OnDeath) -> dict[str, Any]:
        """Start the process and wait until its model is loaded.

        Raises:
            EngineError: where it ends before.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=self.target, args=(theirs, self.settings), daemon=True)
        self._unsent = queue.SimpleQueue()
        await loop.run_in_executor(None, self._process.start)
        theirs.close()
        listener = Listener(loop, on_tick, on_death)
        threading.Thread(target=listener.run, args=(ours,), daemon=True).start()
        threading.Thread(target=send_all, args=(ours, self._unsent), daemon=True).start()
        return await listener.ready

    def add(self, images: Sequence[EdgeImage]) -> None:
        """Let images join."""
        self._send({"add": [asdict(image) for image in images]})

    def revise(self, splits: Mapping[str, int]) -> None:
        """Let images leave at other splits."""
        self._send({"revise": dict(splits)})

    def cancel(self, names: Sequence[str]) -> None:
        """Let images go."""
        self._send({"cancel": list(names)})

    def _send(self, message: dict[str, Any]) -> None:
        self._unsent.put(message)

    async def stop(self) -> None:
        """End the process."""
        self._send({"stop": True})
        self._unsent.put(None)
        process, self._process = self._process, None  # at once, as a restart may stop it too
        if process and process.pid is not None:
            await asyncio.get_running_loop().run_in_executor(None, end, process)


def end(process: Any) -> None:
    """Wait until a process has ended; one that does not is killed."""
    process.join(STOP_S)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def send_all(pipe: Connection, messages: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    """Send messages until one is None; in a thread of its own, because a process at work lets the pipe fill up."""
    with contextlib.suppress(OSError, ValueError):  # where it is dead, `on_death` says so
        while (message := messages.get()) is not None:
            send(pipe, message)


class Listener:
    """Passes on to an event loop what the process with the model says, from a thread of its own.

    Attributes:
        ready: what the process says of its model, once it is loaded.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_tick: OnTick, on_death: OnDeath) -> None:
        self.ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._loop, self._on_tick, self._on_death = loop, on_tick, on_death

    def run(self, pipe: Connection) -> None:
        """Listen until the process is gone."""
        try:
            while True:
                message, payloads = receive(pipe)
                if "facts" in message:
                    self._tell(self._loaded, message["facts"])
                elif "error" in message:
                    self._tell(self._gone, message["error"])
                else:
                    self._tell(self._on_tick, Tick(**message, done=payloads))
        except (EOFError, OSError):
            self._tell(self._gone, "the process with the model ended")

    def _tell(self, function: Callable[..., Any], *given: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(function, *given)

    def _loaded(self, facts: dict[str, Any]) -> None:
        if not self.ready.done():
            self.ready.set_result(facts)

    def _gone(self, reason: str) -> None:
        if self.ready.done():
            if self.ready.exception() is None:
                self._on_death(reason)
        else:
            self.ready.set_exception(EngineError(reason))


def send(pipe: Connection, message: dict[str, Any], payloads: dict[str, bytes] | None = None) -> None:
    """Send a message, and bytes by name after it."""
    pipe.send_bytes(json.dumps({**message, "payloads": list(payloads or {})}).encode())
    for payload in (payloads or {}).values():
        pipe.send_bytes(payload)


def receive(pipe: Connection) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Receive what `send` sent.

    Raises:
        EOFError: where the other side is gone.
    """
    message = json.loads(pipe.recv_bytes())
    names = message.pop("payloads")
    return message, {name: pipe.recv_bytes() for name in names}

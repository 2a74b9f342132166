"""What an edge server shows of itself: Prometheus metrics in base units, and the dashboard's numbers."""

import time
from collections import deque
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from .engines import Tick
from .ledger import Entry
from .protocol import LatencyParts
from .rounds import Rounds

STEP_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
ERROR_BUCKETS = (-10.0, -3.0, -1.0, -0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
PARTS = ("wait", "edge", "transmit", "local")
SHOWN = 120
"""Rounds and reports that the dashboard has at most."""


class ServerTelemetry:
    """Counts what happens, for Prometheus and for the dashboard."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "edgesplit"}
        self.requests = Counter("requests", "Requests by what became of them.", ["decision"], **own)
        self.step = Histogram(
            "step_seconds", "Seconds of one step of everything in flight.", buckets=STEP_BUCKETS, **own
        )
        self.error = Histogram(
            "planned_minus_measured_seconds", "Planned less measured seconds, by part of the latency.", ["part"],
            buckets=ERROR_BUCKETS, **own,
        )  # fmt: skip
        self.bytes = Counter("handoff_bytes", "Bytes of hand-offs that devices fetched.", **own)
        self._gauges = {name: Gauge(name, words, **own) for name, words in GAUGES.items()}
        self._rounds: Rounds | None = None
        self._calls: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        self._reports: deque[dict[str, float]] = deque(maxlen=SHOWN)
        self._told = {"granted": 0, "denied": 0, "cancelled": 0, "failed": 0, "expired": 0, "rejected": 0}

    def watch(self, rounds: Rounds) -> None:
        """Listen to a server's core."""
        self._rounds = rounds
        rounds.calls.append(self._called)
        rounds.ticks.append(self._ticked)

    def sent(self, size: int) -> None:
        """Count the bytes of a hand-off."""
        self.bytes.inc(size)

    def reported(self, entry: Entry, measured: LatencyParts) -> None:
        """Compare what was planned for a request with what its device measured."""
        if entry.made is None:
            return
        planned = entry.made.planned
        for part in PARTS:
            self.error.labels(part).observe(getattr(planned, f"{part}_s") - getattr(measured, f"{part}_s"))
        self._reports.append({"planned_s": planned.latency_s, "measured_s": measured.latency_s})

    def page(self) -> tuple[bytes, str]:
        """What Prometheus reads, and its media type."""
        self._refresh()
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def snapshot(self) -> dict[str, Any]:
        """The dashboard's numbers."""
        self._refresh()
        rounds = self._rounds
        if rounds is None:
            return {}
        return {
            "time_s": time.time(),
            "pending": rounds.pending,
            "in_flight": rounds.in_flight,
            "on_radio": rounds.on_radio,
            "ready": rounds.ready,
            "counters": vars(rounds.counters),
            "step_s": float(
                rounds.scenario().edge.step_latency(max(1, rounds.in_flight) / rounds.settings.scenario.gpus)
            ),
            "rounds": list(self._calls),
            "reports": list(self._reports),
        }

    def _called(self, call: dict[str, Any]) -> None:
        if not call["requests"]:
            return  # it gave images in flight new splits alone
        granted = sum(call["granted"])
        self._calls.append({"time_s": call["time_s"], "requests": len(call["requests"]), "granted": granted,
                            "in_flight": call["load"]["in_flight"]})  # fmt: skip

    def _ticked(self, tick: Tick) -> None:
        if tick.seconds:
            self.step.observe(tick.seconds)

    def _refresh(self) -> None:
        """Bring counters and gauges up to what the core says."""
        if self._rounds is None:
            return
        for name, before in self._told.items():
            now = getattr(self._rounds.counters, name)
            self.requests.labels(name).inc(now - before)
            self._told[name] = now
        for name, value in (
            ("in_flight", self._rounds.in_flight),
            ("on_radio", self._rounds.on_radio),
            ("bandwidth_hertz", self._rounds.scenario().bandwidth_hz),
            ("pending", self._rounds.pending),
            ("ready", self._rounds.ready),
            ("rounds", self._rounds.counters.rounds),
            ("revised_splits", self._rounds.counters.revised),
            ("engine_deaths", self._rounds.counters.deaths),
        ):
            self._gauges[name].set(value)


GAUGES = {
    "in_flight": "Images that step at the edge.",
    "on_radio": "Hand-offs on their way to devices.",
    "bandwidth_hertz": "Shared bandwidth that plans reckon with.",
    "pending": "Requests that wait for the end of their round.",
    "ready": "Whether images can be taken.",
    "rounds": "Rounds since the start.",
    "revised_splits": "New splits of images in flight since the start.",
    "engine_deaths": "How often the process with the model ended.",
}

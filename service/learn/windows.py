"""A trace of another service as worlds of a minute: its days compressed, its users drawn by a seeded rule."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...common.errors import InputError
from ...optimizer.inputs.scenario import Resolved, resolve_scenario
from ...optimizer.model.qoe import Scenario
from ..arrivals import Trace, parse_gpus, read_trace
from ..simulator import World
from ..traces import DAY_S
from ..worlds import WorldSettings, make_world


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Worlds that a trace is cut into.

    Attributes:
        path: the trace. Images have the scenario's number of steps and nobody gives up, whatever it says of that.
        load: mean requests per second of all its days after they have been compressed; minutes without requests make no
            world.
        gpus_over_time: how the number of GPUs changes, drawn anew in each; None where it stays.
        first_day: day of the trace that they begin with, counted from 0.
        last_day: day that they end before.
        seconds: length of each, seconds.
    """

    path: Path
    load: float
    gpus_over_time: str | None = None
    first_day: float = 0.0
    last_day: float = np.inf
    seconds: float = 60.0

    def __str__(self) -> str:
        """In words."""
        days = f"from day {self.first_day:g} to {self.last_day:g}"
        return f"{self.path.name} {days} at {self.load:g}/s, {self.gpus_over_time or '8 GPUs'}"

    def worlds(self, seed: int) -> list[World]:
        """Those that have requests; each draws devices for the trace's users, and GPUs, by its own number.

        Raises:
            InputError: for a trace that cannot be read, or has nothing in these days.
        """
        resolved = resolve_scenario("default")
        settings = WorldSettings(
            resolved=resolved,
            users=None,
            process=None,
            trace=None,
            seconds=self.seconds,
            seed=seed,
            gpus_over_time=parse_gpus(self.gpus_over_time) if self.gpus_over_time else (),
        )
        parts = enumerate(self._parts(resolved))
        return [make_world(replace(settings, trace=part), number) for number, part in parts]

    def _parts(self, resolved: Resolved) -> Iterator[Trace]:
        trace = self._compressed(resolved.for_alpha)
        window = (trace.requests.time_s // self.seconds).astype(np.int64)
        for number in np.unique(window).tolist():
            requests = trace.requests.take(window == number)
            yield replace(trace, requests=replace(requests, time_s=requests.time_s - number * self.seconds))

    def _compressed(self, scenario: Scenario) -> Trace:
        """The requests of these days, from time 0 on, at the mean load."""
        trace = read_trace(self.path, scenario)
        day = trace.requests.time_s / DAY_S
        requests = trace.requests.take((day >= self.first_day) & (day < self.last_day))
        if len(requests) < 2:
            days = f"from day {self.first_day:g} to {self.last_day:g}"
            raise InputError(f"{self.path}: found {len(requests)} requests {days}, accepted: two or more")
        time_s = requests.time_s - requests.time_s[0]
        speed_up = self.load * max(time_s[-1], 1.0) / len(requests)
        patience_s = np.full(len(requests), np.inf)
        own = replace(requests, time_s=time_s / speed_up, own_steps=None, patience_s=patience_s)
        return replace(trace, requests=own)

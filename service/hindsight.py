"""What could have been had with all arrivals known: coordinate ascent over every decision of a finished run.

Each request in turn tries other splits, and being denied, while all others keep theirs; the world is played again from
its round on. What is found is a plan that can be carried out, so its value is a lower bound of the true optimum.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ..common.arrays import Bools, Ints
from .outcome import quality_of_experience
from .simulator import Decide, Records, Simulation, World, fixed

STRIDES = (32, 8, 2, 1)
"""Steps by which a request's split is moved, as long as that pays."""
SWEEPS = 4
"""Most passes over all requests."""
LEAST_RISE = 1e-4
"""Share of the value that a pass has to add for another one."""


class Ascent:
    """A search over the decisions of a world.

    Attributes:
        world: the world.
        offloaded: steps that every request offloads; 0 for a denied one, shape (requests,).
        value: summed QoE of these decisions, seconds.
    """

    def __init__(self, world: World, start: Records) -> None:
        self.world = world
        self.offloaded = np.where(start.granted, world.total_steps - start.local_steps, 0)
        self._most = _most_offloaded(world)
        self._trial = Simulation(world)
        self.value = self._tail(Simulation(world), 0)

    def sweep(self, progress: Callable[[int], None] | None = None) -> None:
        """Improve every request once, in their order."""
        played = Simulation(self.world)
        for place, (number, first, end) in enumerate(self.world.rounds):
            for request in range(first, end):
                self._improve(request, played, place)
            played.play_round(number, first, end, self._decide())
            if progress:
                progress(end)

    def records(self) -> Records:
        """What happens with the decisions found."""
        return Simulation(self.world).run(self._decide())

    def _improve(self, request: int, before: Simulation, place: int) -> None:
        """Move one request's split as long as that pays; `before` is the run until its round."""
        for steps in self._first_tries(request):
            self._try(request, steps, before, place)
        for stride in STRIDES:
            for direction in (-stride, stride):
                while self._try(request, int(self.offloaded[request]) + direction, before, place):
                    pass

    def _first_tries(self, request: int) -> Iterator[int]:
        if self.offloaded[request]:
            yield 0
        else:
            yield int(self._most[request])
            yield int(self._most[request]) // 2

    def _try(self, request: int, steps: int, before: Simulation, place: int) -> bool:
        """Whether so many offloaded steps are better; they are kept then."""
        old = self.offloaded[request]
        if steps == old or not 0 <= steps <= self._most[request]:
            return False
        self.offloaded[request] = steps
        if self._fits(request):
            value = self._tail(before, place)
            if value > self.value + 1e-9 * (1 + abs(self.value)):
                self.value = value
                return True
        self.offloaded[request] = old
        return False

    def _fits(self, request: int) -> bool:
        """Whether the request's round keeps B_max, C2 of (P1)."""
        here = self.world.round_of == self.world.round_of[request]
        return bool(np.count_nonzero(self.offloaded[here]) <= self.world.scenario.max_batch)

    def _tail(self, before: Simulation, place: int) -> float:
        """The value when the world is played from this round on."""
        trial = self._trial
        trial.state, trial.records = before.state.copy(), before.records.copy()
        decide = self._decide()
        for number, first, end in self.world.rounds[place:]:
            trial.play_round(number, first, end, decide)
        trial.advance(np.inf)
        return float(quality_of_experience(self.world, trial.records).sum())

    def _decide(self) -> Decide:
        granted: Bools = self.offloaded > 0
        return fixed(granted.tolist(), (self.world.total_steps - self.offloaded).tolist())


def hindsight(world: World, start: Records, progress: Callable[[int], None] | None = None) -> Records:
    """The best that is found with all arrivals known, from the decisions of a run.

    Args:
        world: the world.
        start: records of the best run that is known.
        progress: function that is called with the number of requests tried so far.
    """
    ascent, done = Ascent(world, start), len(world.requests)
    for number in range(SWEEPS):
        before = ascent.value
        ascent.sweep(lambda tried, base=number * done: progress(base + tried) if progress else None)  # type: ignore[misc]
        if ascent.value - before <= LEAST_RISE * (1 + abs(before)):
            break
    return ascent.records()


def _most_offloaded(world: World) -> Ints:
    """N - N-hat of every request's image."""
    share = world.total_steps / world.scenario.total_steps
    return world.total_steps - np.ceil(world.scenario.min_local_steps * share).astype(np.int64)

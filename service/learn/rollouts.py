"""Looking ahead by trying: a receding horizon over sampled futures, the yardstick that a learnt policy has to meet.

At every round some multiples of the prices of a rule are tried. Each is played on, with the rule's own prices in later
rounds, in the same futures. The multiple that is best on average decides the round. It takes hundreds of times as long
as a policy. What a future has in it says what knowing that is worth to a scheduler that sets prices: arrivals at the
rate of late and the GPUs of now, arrivals and GPUs drawn by the law that the world follows, or those that really come.
All futures and multiples of a round are played at once by the vectorised twin.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...common.arrays import Floats
from ...optimizer.model.terms import Prices
from ..arrivals import MovingGpus, Process
from ..scheduler import recent_rate
from ..simulator import Records, Requests, Simulation, World, fixed
from .vector_simulation import Pricing, VectorSimulation

FACTORS = np.array([0.4, 0.6, 0.8, 1.0, 1.25, 1.6, 2.4])
"""Multiples of the prices that are tried."""
Known = Literal["arrivals", "gpus"]


def multiple(prices: Prices, factor: Floats) -> Prices:
    """Prices so many times as high, in every world by its own factor; those below 0, which are bounded, stay."""
    raised: dict[str, Any] = {
        name: np.where(value < 0, value, value * factor) for name, value in vars(prices).items() if value is not None
    }
    return Prices(**raised)


@dataclass(frozen=True)
class Law:
    """What arrivals and GPUs of a world are drawn by.

    Attributes:
        process: of the arrivals.
        gpus: of the number of GPUs; None where it stays.
    """

    process: Process
    gpus: MovingGpus | None = None

    def arrivals(self, past_s: Floats, now: float, seconds: float, rng: np.random.Generator) -> Floats:
        """Times of requests within so many seconds from now on, after those of the past; ascending."""
        in_burst = rng.random() < burst_probability(self.process, past_s, now)
        return now + self.process.times(seconds, rng, in_burst)

    def changes(self, now: float, seconds: float, rng: np.random.Generator) -> list[tuple[float, int]]:
        """Changes of the number of GPUs within so many seconds from now on."""
        drawn = self.gpus.changes(seconds, rng)[1:] if self.gpus else []  # the first one is the start itself
        return [(now + time_s, gpus) for time_s, gpus in drawn]


def burst_probability(process: Process, past_s: Floats, now: float, interval_s: float = 1.0) -> float:
    """The chance that bursts are at their higher rate now, after requests at these times: the filter of two states."""
    if process.high is None or process.change_s is None:
        return 0.0
    rates = np.array([process.low, process.high]) * interval_s
    other = (1 - np.exp(-2 * interval_s / process.change_s)) / 2  # the chance to be at the other rate after an interval
    belief = np.array([0.5, 0.5])
    for count in np.histogram(past_s, np.arange(0.0, now + interval_s / 2, interval_s))[0].tolist():
        likely = count * np.log(np.maximum(rates, 1e-12)) - rates
        belief = belief * np.exp(likely - likely.max())
        belief = (1 - other) * belief + other * belief[::-1]
        belief /= belief.sum()
    return float(belief[1])


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """A receding horizon.

    Attributes:
        pricing: prices that are multiplied, and that decide later rounds.
        horizon_s: seconds of arrivals that are looked ahead.
        futures: number of futures that are drawn, where they are not known altogether.
        seed: of the draw.
        known: what is seen as it really comes.
        law: what is drawn by the world's own law; None for arrivals at the rate of late and the GPUs of now.
        revises: whether images in flight get new splits at the end of every round, at the same prices.
    """

    pricing: Pricing
    horizon_s: float = 15.0
    futures: int = 32
    seed: int = 0
    known: frozenset[Known] = frozenset()
    law: Law | None = None
    revises: bool = False

    def play(self, world: World) -> Records:
        """Play a world to its end."""
        play = VectorSimulation([world], self.revises)
        asking = {number: end for number, _, end in world.rounds}
        while play.round < play.rounds:
            end = asking.get(play.round)
            factor = 1.0 if end is None else self._best(play, world, end)
            now, sight = play.begin_round()
            play.end_round(now, sight, multiple(self.pricing(now, sight), np.array([factor])))
        local_steps = play.local_steps[0, : len(world.requests)]
        return Simulation(world).run(fixed((local_steps < world.total_steps).tolist(), local_steps.tolist()))

    def _best(self, play: VectorSimulation, world: World, end: int) -> float:
        """The multiple that gains most in the futures of the next round, whose requests end before number `end`."""
        futures = list(self._futures(play, world, end))
        trial = play.branch([future for future in futures for _ in FACTORS])
        now, sight = trial.begin_round()
        trial.end_round(now, sight, multiple(self.pricing(now, sight), np.tile(FACTORS, len(futures))))
        gains = trial.run(self.pricing).reshape(len(futures), len(FACTORS))
        return float(FACTORS[np.argmax(gains.mean(axis=0))])

    def _futures(self, play: VectorSimulation, world: World, end: int) -> Iterator[World]:
        """The world with what may come after a round in place of what comes."""
        delta = world.scenario.interval_s
        now = (play.round + 1) * delta
        asked = end - int(np.searchsorted(world.round_of, play.round))
        rate = recent_rate(float(play.rate[0]), float(asked), delta)
        certain = "arrivals" in self.known and ("gpus" in self.known or not (self.law and self.law.gpus))
        for future in range(1 if certain else self.futures):
            rng = np.random.default_rng([self.seed, play.round, future])
            requests = self._requests(world, now, end, rate, rng)
            yield replace(world, requests=requests, gpus_over_time=self._gpus(world, now, rng))

    def _requests(self, world: World, now: float, end: int, rate: float, rng: np.random.Generator) -> Requests:
        """The requests until now, and those that are known or drawn for the time ahead."""
        if "arrivals" in self.known:
            return world.requests.take(slice(0, int(np.searchsorted(world.requests.time_s, now + self.horizon_s))))
        past = world.requests.take(slice(0, end))
        if self.law:
            times = self.law.arrivals(past.time_s, now, self.horizon_s, rng)
        else:
            times = np.sort(now + rng.uniform(1e-9, self.horizon_s, rng.poisson(rate * self.horizon_s)))
        return _with_more(past, times, rng.integers(0, len(world.users), times.size))

    def _gpus(self, world: World, now: float, rng: np.random.Generator) -> Sequence[tuple[float, int]]:
        """The changes of G until now, and those that are known or drawn for the time ahead."""
        if "gpus" in self.known:
            return world.gpus_over_time
        past = [change for change in world.gpus_over_time if change[0] <= now]
        return [*past, *self.law.changes(now, self.horizon_s, rng)] if self.law else past


def _with_more(requests: Requests, time_s: Floats, user: Any) -> Requests:
    """Requests and further ones behind them, which never give up."""
    return replace(
        requests,
        time_s=np.concatenate([requests.time_s, time_s]),
        user=np.concatenate([requests.user, user]),
        patience_s=np.concatenate([requests.patience_s, np.full(len(time_s), np.inf)]),
    )

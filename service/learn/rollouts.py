"""Looking ahead by trying: a receding horizon over sampled futures, the yardstick that a learnt policy has to meet.

At every round some multiples of the tuned prices are tried. Each is played on, with the tuned prices in later rounds,
in the same futures: arrivals drawn at the rate of late, and the GPUs of now. The multiple that is best on average
decides the round. It takes a hundred times as long as a policy. With the arrivals and GPUs that really come in place of
drawn ones, it says what foresight alone is worth to a scheduler that sets prices.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...common.arrays import Floats, Ints
from ...optimizer.model.qoe import Plan, Scenario, Users
from ...optimizer.model.terms import Terms
from ..outcome import quality_of_experience
from ..scheduler import Load, Rule, decide
from ..simulator import Decisions, Records, Requests, Simulation, World, decider

FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)
"""Multiples of the prices that are tried."""


@dataclass(frozen=True)
class Multiple:
    """A price rule whose prices are so many times as high."""

    rule: Rule
    factor: float

    def __call__(self, scenario: Scenario, load: Load) -> Terms:
        """The terms of a round."""
        terms = self.rule(scenario, load)
        names = ("step_s", "step_rise_s", "grant_s", "grant_rise_s")
        raised = {name: self.factor * getattr(terms.prices, name) for name in names}
        return replace(terms, prices=replace(terms.prices, **raised))

    def plan(self, scenario: Scenario, load: Load, users: Users, **rest: object) -> Plan:
        """As `scheduler.decide`."""
        return decide(scenario, load, users, rule=self, **rest)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """A receding horizon.

    Attributes:
        rule: prices that are multiplied, and that decide later rounds.
        horizon_s: seconds of arrivals that are looked ahead.
        futures: number of futures that are drawn; 0 to see what really comes.
        seed: of the draw.
    """

    rule: Rule
    horizon_s: float = 15.0
    futures: int = 4
    seed: int = 0

    def play(self, world: World) -> Records:
        """Play a world to its end."""
        simulation = Simulation(world)
        for number, first, end in world.rounds:

            def choose(requests: Ints, load: Load, number: int = number, end: int = end) -> Decisions:
                return self._choose(simulation, number, end, requests, load)

            simulation.play_round(number, first, end, choose)
        simulation.advance(np.inf)
        return simulation.records

    def _choose(self, simulation: Simulation, number: int, end: int, requests: Ints, load: Load) -> Decisions:
        """The decisions of the best multiple in a round whose requests end before number `end`."""
        worlds = list(self._futures(simulation.world, number, end, load))
        tried = [decider(simulation.world, Multiple(self.rule, factor).plan)(requests, load) for factor in FACTORS]
        values = [
            sum(self._value(simulation, world, number, end, requests, load, made) for world in worlds) for made in tried
        ]
        return tried[int(np.argmax(values))]

    def _futures(self, world: World, number: int, end: int, load: Load) -> Iterator[World]:
        """The world with what may come after a round in place of what comes."""
        now = (number + 1) * world.scenario.interval_s
        if not self.futures:
            known = int(np.searchsorted(world.requests.time_s, now + self.horizon_s))
            yield replace(world, requests=world.requests.take(slice(0, known)))
            return
        past = [change for change in world.gpus_over_time if change[0] <= now]
        for future in range(self.futures):
            rng = np.random.default_rng([self.seed, number, future])
            count = rng.poisson(load.arrivals_per_s * self.horizon_s)
            times = np.sort(now + rng.uniform(1e-9, self.horizon_s, count))
            users = rng.integers(0, len(world.users), count)
            requests = _with_more(world.requests.take(slice(0, end)), times, users)
            yield replace(world, requests=requests, gpus_over_time=past)

    def _value(
        self, simulation: Simulation, world: World, number: int, end: int, requests: Ints, load: Load, made: Decisions
    ) -> float:
        """The summed QoE of a future after these decisions, seconds."""
        trial = Simulation(world)
        trial.state, trial.records = simulation.state.copy(), _lengthened(simulation.records, end, len(world.requests))
        trial.start(trial.state.clock_s, requests, load, *made)
        later: Callable[..., Decisions] = decider(world, Multiple(self.rule, 1.0).plan)
        for round_number, first, last in world.rounds:
            if round_number > number:
                trial.play_round(round_number, first, last, later)
        trial.advance(np.inf)
        return float(quality_of_experience(world, trial.records).sum())


def _with_more(requests: Requests, time_s: Floats, user: Ints) -> Requests:
    """Requests and further ones behind them, which never give up."""
    return replace(
        requests,
        time_s=np.concatenate([requests.time_s, time_s]),
        user=np.concatenate([requests.user, user]),
        patience_s=np.concatenate([requests.patience_s, np.full(len(time_s), np.inf)]),
    )


def _lengthened(records: Records, known: int, count: int) -> Records:
    """The records of the first `known` requests, and empty ones behind them."""
    longer = Records.empty(count)
    for name, values in vars(records).items():
        getattr(longer, name)[:known] = values[:known]
    return longer

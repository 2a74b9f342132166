"""Tuning the numbers of the rule `trained`: search on training worlds, scored on others.

Every group of a mixture counts alike: its value is the gain under the trained prices as a share of the gain under the
rule `price`, on equal arrivals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..common.arrays import Floats
from ..common.errors import InputError
from ..optimizer.inputs.scenario import overrides, resolve_scenario
from . import outcome
from .price_file import PriceRecord, Setting, SlopesRecord
from .scheduler import Rule, Slopes, TrainedPrices, by_load, decide, price, revise
from .simulator import Simulation, World, decider, fixed, reviser
from .worlds import WorldSettings, make_world, read_settings

HELD_OUT_SEED = 1_000_000
"""Added to the seed for worlds that tuning never sees."""
TRAIN_SHARE = 0.7
"""Share of a trace's time that is for training; the rest is held out."""
START = TrainedPrices(Slopes(0.0, 1.0, 0.0, 0.0), Slopes(0.0, 1.0, 0.0, 0.0))
"""The numbers with which the rule `trained` is the rule `price`."""
MOST = (0.005, 3.0, 3.0, 5.0, 0.5, 3.0, 3.0, 5.0)
"""Largest value of every number, in the order of `_numbers`; the smallest is 0."""
LIKELY = (0.001, 1.5, 1.0, 1.0, 0.1, 1.5, 1.0, 1.0)
"""Largest values of the first prices that are tried."""


@dataclass(frozen=True)
class Kind:
    """One kind of world of a mixture, as the options of `simulate` name it.

    Attributes:
        arrivals: process or trace.
        bandwidth_mhz: shared bandwidth; None for the scenario's.
        gpus: number of GPUs; None for the scenario's.
        gpus_over_time: how it changes; None where it stays.
    """

    arrivals: str
    bandwidth_mhz: float | None = None
    gpus: int | None = None
    gpus_over_time: str | None = None


MIXTURE = (
    *(Kind(f"poisson:{rate}", 20) for rate in (1, 2, 4, 8, 12)),
    *(Kind(f"poisson:{rate}", 1) for rate in (1, 2, 4)),
    *(Kind(f"poisson:{rate}", 20, 2) for rate in (2, 6)),
    Kind("bursts:2,14,10", 20),
    Kind("bursts:2,14,10", 20, None, "random:10,2,4,8"),
    Kind("bursts:1,5,10", 1, None, "random:10,2,4,8"),
    Kind("poisson:8", 20, None, "random:10,2,4,8"),
)
"""What the shipped prices are tuned on."""


@dataclass(frozen=True)
class WorldGroup:
    """Worlds of one kind.

    Attributes:
        kind: the kind.
        worlds: the worlds.
        local: summed QoE of every world with all requests denied, seconds.
        yardstick: summed gain of every world under the rule `price`, whose splits stay, seconds.
        revises: whether images in flight get new splits under the rules that are tried.
    """

    kind: Kind
    worlds: Sequence[World]
    local: Floats
    yardstick: Floats
    revises: bool = False

    def gains(self, rule: Rule) -> Floats:
        """The summed gain over all local of every world under a rule, seconds."""
        return np.array([_value(world, rule, self.revises) for world in self.worlds]) - self.local

    @property
    def requests(self) -> int:
        """Requests of all worlds."""
        return sum(len(world.requests) for world in self.worlds)


def make_group(kind: Kind, worlds: Sequence[World], revises: bool = False) -> WorldGroup:
    """Worlds of one kind with their yardsticks."""
    local = np.array([local_value(world) for world in worlds])
    return WorldGroup(kind, worlds, local, np.array([_value(world, price) for world in worlds]) - local, revises)


def _value(world: World, rule: Rule, revises: bool = False) -> float:
    own = reviser(world, partial(revise, terms_of=by_load(rule))) if revises else None
    records = Simulation(world, revise=own).run(decider(world, partial(decide, rule=rule)))
    return float(outcome.quality_of_experience(world, records).sum())


def local_value(world: World) -> float:
    """The summed QoE of a world with all requests denied, seconds."""
    total = world.total_steps.tolist()
    records = Simulation(world).run(fixed([False] * len(total), total))
    return float(outcome.quality_of_experience(world, records).sum())


def worlds_of(
    kind: Kind, scenario: str, seconds: float | None, seed: int, count: int
) -> tuple[list[World], list[World]]:
    """Training worlds and held-out worlds of one kind: other seeds, or the later part of a trace.

    Raises:
        InputError: for what cannot be read.
    """
    options = {"bandwidth_mhz": kind.bandwidth_mhz, "gpus": kind.gpus}
    resolved = resolve_scenario(scenario, overrides(**options))
    settings = read_settings(resolved, kind.arrivals, None, kind.gpus_over_time, seconds, 1.0, seed=seed)
    if settings.trace is None:
        later = replace(settings, seed=seed + HELD_OUT_SEED)
        return [make_world(settings, n) for n in range(count)], [make_world(later, n) for n in range(count)]
    return _parts_of_trace(settings, count)


def _parts_of_trace(settings: WorldSettings, count: int) -> tuple[list[World], list[World]]:
    """The worlds of a trace's first and later part, with users drawn anew in each."""
    worlds = [make_world(settings, number) for number in range(count)]
    end = float(worlds[0].requests.time_s[-1])
    return [_between(w, 0, TRAIN_SHARE * end) for w in worlds], [_between(w, TRAIN_SHARE * end, end) for w in worlds]


def _between(world: World, start: float, end: float) -> World:
    """The requests of a world within a time."""
    requests = world.requests
    keep = (requests.time_s >= start) & (requests.time_s <= end)
    if not keep.any():
        raise InputError(
            "--arrivals: found a trace with no request in its first or its later part, accepted: a longer one"
        )
    kept = requests.take(keep)
    return replace(world, requests=replace(kept, time_s=kept.time_s - start))


def tune(groups: Sequence[WorldGroup], evaluations: int, seed: int, progress: Callable[[float], None]) -> TrainedPrices:
    """The prices that gain most in the training worlds, by differential evolution.

    Args:
        groups: training worlds.
        evaluations: number of prices to try, about.
        seed: random seed of the search.
        progress: function that is called with the number of prices tried.
    """
    from scipy.optimize import Bounds, differential_evolution

    tried = 0

    def loss(numbers: Floats) -> float:
        nonlocal tried
        tried += 1
        progress(tried)
        return -worth(groups, _prices(numbers))

    population = max(8, min(24, evaluations // 10))
    generations = max(1, evaluations // population - 1)
    first = np.random.default_rng(seed).uniform(0, LIKELY, (population, len(LIKELY)))
    first[0] = _numbers(START)
    found = differential_evolution(
        loss,
        Bounds(np.zeros(len(MOST)), np.array(MOST)),
        init=first,
        maxiter=generations,
        rng=seed,
        polish=False,
        tol=0,
    )
    return _prices(found.x)


def worth(groups: Sequence[WorldGroup], rule: Rule) -> float:
    """The mean over the groups of the gain as a share of what `price` gains."""
    return float(np.mean([np.sum(group.gains(rule)) / max(np.sum(group.yardstick), 1e-9) for group in groups]))


def record_of(name: str, prices: TrainedPrices, held_out: Sequence[WorldGroup]) -> PriceRecord:
    """The file of tuned prices, with what they gain in the held-out worlds."""
    settings = [_setting(group, prices) for group in held_out]
    return PriceRecord(
        name=name, step=SlopesRecord(**vars(prices.step)), grant=SlopesRecord(**vars(prices.grant)), settings=settings
    )


def _setting(group: WorldGroup, prices: TrainedPrices) -> Setting:
    scenario = group.worlds[0].scenario
    return Setting(
        arrivals=group.kind.arrivals,
        gpus=scenario.gpus if group.kind.gpus_over_time is None else group.kind.gpus_over_time,
        bandwidth_mhz=scenario.bandwidth_hz / 1e6,
        gain_per_user=float(np.sum(group.gains(prices)) / group.requests),
        price_gain_per_user=float(np.sum(group.yardstick) / group.requests),
    )


def _numbers(prices: TrainedPrices) -> list[float]:
    return [*vars(prices.step).values(), *vars(prices.grant).values()]


def _prices(numbers: Sequence[float] | Floats) -> TrainedPrices:
    step, grant = np.asarray(numbers, float).reshape(2, 4).tolist()
    return TrainedPrices(Slopes(*step), Slopes(*grant))

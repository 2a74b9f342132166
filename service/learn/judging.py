"""How much a learnt policy gains where it has not been: paired differences in held-out worlds, with intervals.

`python -m edgesplit.service.learn.judging [POLICY] [--worlds COUNT] [--hindsight | --ahead] [--trace FILE]` prints the
tables of docs/learning.md. Every way to decide plays the same worlds, whose seeds no training sees. The difference of
two ways in a world is taken as a share of what the rule `price` gains in worlds of that kind; its interval is
Student's, over the worlds.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ... import data
from ...common.arrays import Floats
from ...common.console import run_module, say
from ...common.errors import InputError, shown
from ...common.tables import plain_table, print_table
from ...optimizer.inputs.scenario import overrides, resolve_scenario
from ...optimizer.model.qoe import Scenario
from .. import outcome
from ..arrivals import MovingGpus, parse_gpus, parse_process
from ..comparison import LEARNED, REVISED, TRAINED, Way, find_way, revising
from ..hindsight import hindsight
from ..price_file import load_prices
from ..price_policy import DEFAULT_POLICY, PricePolicy, load_price_policy
from ..simulator import Records, Simulation, World, decider
from ..tuning import HELD_OUT_SEED, local_value
from ..worlds import make_world, read_settings
from .rollouts import Known, Law, Rollouts
from .training import MOVING, SEED
from .vector_simulation import tuned_pricing
from .windows import Windows

SECONDS = 60.0
WAYS = ("price", TRAINED, f"price{REVISED}", f"{TRAINED}{REVISED}", LEARNED)
RIVALS = (TRAINED, "price", f"{TRAINED}{REVISED}")
"""Ways that `learned` is compared with world by world."""
AHEAD = ("rollouts", "by the law", "from learned", "arrivals known", "GPUs known", "both known")
"""Ways to look ahead, as `lookers` makes them."""
EDGE_SECONDS = ("slope_s", "intercept_s", "floor_s")
T = TypeVar("T")
Play = Callable[[World], Records]
"""A way to decide that plays a world to its end."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A kind of held-out world.

    Attributes:
        name: what it is, in words.
        arrivals: process, as --arrivals has it.
        bandwidth_mhz: shared bandwidth.
        gpus_over_time: how the number of GPUs changes; None where it stays 8.
        physics: how images of several rounds share the edge.
        edge: profile of the edge; None for the scenario's.
        users: sample users, by the name of the shipped file; None for the paper's.
        misjudged: factor by which the scheduler takes the edge's step latency for longer than it is.
        windows: a trace whose minutes the worlds are, in place of `arrivals`; None for random arrivals.
    """

    name: str
    arrivals: str = ""
    bandwidth_mhz: float = 20.0
    gpus_over_time: str | None = None
    physics: str = "continuous"
    edge: str | None = None
    users: str | None = None
    misjudged: float = 1.0
    windows: Windows | None = None

    def worlds(self, count: int) -> list[World]:
        """So many worlds: the first ones, or of a trace ones that lie evenly in it, all at most."""
        if self.windows:
            every = self.windows.worlds(SEED + HELD_OUT_SEED + 1)
            return [every[place] for place in np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))]
        changes = {"bandwidth_mhz": self.bandwidth_mhz} | ({"edge": self.edge} if self.edge else {})
        resolved = resolve_scenario("default", overrides(**changes))
        users = data.sample(self.users) if self.users else None
        seed = SEED + HELD_OUT_SEED + 1  # not those of the card either
        settings = read_settings(resolved, self.arrivals, users, self.gpus_over_time, SECONDS, 1.0, seed=seed,
                                 physics=self.physics)  # fmt: skip
        return [make_world(settings, number) for number in range(count)]

    @property
    def law(self) -> Law | None:
        """What its arrivals and GPUs are drawn by; None for a trace."""
        process = parse_process(self.arrivals) if self.arrivals else None
        moving = parse_gpus(self.gpus_over_time) if self.gpus_over_time else None
        return Law(process, moving if isinstance(moving, MovingGpus) else None) if process else None

    def player(self, way: Way) -> Play:
        """The way to decide, with an edge that is misjudged here, as a function that plays a world."""
        own = way if self.misjudged == 1 else self._misjudging(way)
        return lambda world: Simulation(world, revise=revising(world, own)).run(decider(world, own.plan))

    def _misjudging(self, way: Way) -> Way:
        """The same way to decide, which takes the edge for slower or faster than it is."""
        changed = replace(way, plan=self._misled(way.plan))
        return changed if way.revise is None else replace(changed, revise=self._misled(way.revise))

    def _misled(self, function: Callable[..., T]) -> Callable[..., T]:
        """A function whose first argument, the system, is not what it gets."""

        def misled(scenario: Scenario, *rest: object, **more: object) -> T:
            k, h, floor = (self.misjudged * getattr(scenario.edge, name) for name in EDGE_SECONDS)
            edge = replace(scenario.edge, slope_s=k, intercept_s=h, floor_s=floor)
            return function(replace(scenario, edge=edge), *rest, **more)

        return misled


def grid() -> list[Judged]:
    """Loads, steady and in bursts, GPUs that stay and that change, radios, physics, edges, devices, wrong profiles."""
    bursts = {rate: f"bursts:{rate / 4:g},{7 * rate / 4:g},10" for rate in (1, 2, 4, 8, 12)}
    made = []
    for gpus, moving in (("8 GPUs", None), ("2, 4 or 8 GPUs", MOVING)):
        made += [Judged(name=f"poisson:{r}, {gpus}", arrivals=f"poisson:{r}", gpus_over_time=moving) for r in bursts]
        made += [Judged(name=f"{b}, {gpus}", arrivals=b, gpus_over_time=moving) for b in bursts.values()]
    made += [Judged(name=f"poisson:{r}, 1 MHz", arrivals=f"poisson:{r}", bandwidth_mhz=1) for r in (1, 2, 4)]
    hard = {"arrivals": bursts[8], "gpus_over_time": MOVING}
    return [
        *made,
        Judged(name="poisson:2, batches queue", arrivals="poisson:2", physics="queue"),
        Judged(name="poisson:4, batches queue", arrivals="poisson:4", physics="queue"),
        Judged(name=f"{bursts[8]}, 2, 4 or 8 A100", edge="a100-sxm4-40gb", **hard),  # type: ignore[arg-type]
        Judged(name=f"{bursts[8]}, 2, 4 or 8 GPUs, the shipped users", users="users.csv", **hard),  # type: ignore[arg-type]
        Judged(name=f"{bursts[8]}, 2, 4 or 8 GPUs, taken for 20 % slower", misjudged=1.2, **hard),  # type: ignore[arg-type]
        Judged(name=f"{bursts[8]}, 2, 4 or 8 GPUs, taken for 20 % faster", misjudged=0.8, **hard),  # type: ignore[arg-type]
    ]


def of_trace(path: Path, first_day: float) -> list[Judged]:
    """Minutes of a trace from some day on, at mean loads of 1 to 12 requests a second."""
    return [
        Judged(
            name=f"trace at {load}/s, {'2, 4 or 8' if moving else '8'} GPUs",
            windows=Windows(path=path, load=load, gpus_over_time=moving, first_day=first_day),
        )
        for moving in (None, MOVING)
        for load in (1, 2, 4, 8, 12)
    ]


def gains(world: World, plays: Sequence[Play], best: bool = False) -> list[float]:
    """What each way gains over all local in a world, seconds; with `best` also hindsight, from the best of them."""
    runs = [play(world) for play in plays]
    values = [_value(world, records) for records in runs]
    if best:
        values.append(_value(world, hindsight(world, runs[int(np.argmax(values))])))
    local = local_value(world)
    return [value - local for value in values]


def _value(world: World, records: Records) -> float:
    return float(outcome.quality_of_experience(world, records).sum())


def interval(differences: Floats) -> tuple[float, float]:
    """Mean, and half the width of Student's 95 % interval."""
    from scipy.stats import t

    count = differences.size
    half = t.ppf(0.975, count - 1) * differences.std(ddof=1) / np.sqrt(count)
    return float(differences.mean()), float(half)


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(prog="judging", description="Judge a policy that prices rounds.")
    parser.add_argument("policy", nargs="?", default=DEFAULT_POLICY)
    parser.add_argument("--worlds", type=int, default=48, metavar="COUNT", help="worlds of each kind")
    parser.add_argument("--hindsight", action="store_true", help="as shares of what hindsight gains; slow")
    parser.add_argument("--ahead", action="store_true", help="the same beside schedulers that look ahead; slower")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="in worlds cut from this trace instead")
    parser.add_argument("--from-day", type=float, metavar="DAY", help="leave earlier days of it out")
    parser.add_argument("--only", default="", metavar="WORDS", help="kind of this name, or those that have the words")
    judge(parser.parse_args())


def judge(options: argparse.Namespace) -> None:
    """Judge as the options say.

    Raises:
        InputError: for fewer than two worlds, a name that no kind has, a trace that cannot be read, or a policy that
            cannot.
    """
    kinds = asked_for(options)
    ways, policy = [find_way(name, policy=options.policy) for name in WAYS], load_price_policy(options.policy)
    columns, row = ["price s", *WAYS[1:], *(f"{LEARNED} - {way}" for way in RIVALS)], paired_differences
    if options.hindsight or options.ahead:
        columns, row = [*WAYS, *(AHEAD if options.ahead else ())], shares_of_hindsight
    table = plain_table("worlds", *columns)
    for kind in kinds:
        plays = [kind.player(way) for way in ways] + (lookers(kind, policy) if options.ahead else [])
        worlds = kind.worlds(options.worlds)
        if len(worlds) < 2:
            raise InputError(
                f"{kind.name}: found a single minute with requests, accepted: two or more; take a longer trace"
            )
        table.add_row(kind.name, *row(worlds, plays))
        say(kind.name)
    print_table(table)


def asked_for(options: argparse.Namespace) -> list[Judged]:
    """The kinds of worlds that the options ask for.

    Raises:
        InputError: where there are none, or an option does not go with the others.
    """
    if options.worlds < 2:
        raise InputError(f"--worlds: found {options.worlds}, accepted: 2 worlds or more")
    if options.from_day is not None and options.trace is None:
        raise InputError("--from-day: found it without --trace, accepted: both, or neither")
    known = of_trace(options.trace, options.from_day or 0.0) if options.trace else grid()
    if options.ahead:  # the twin, which looks ahead, knows neither queues nor schedulers that are wrong about the edge
        known = [kind for kind in known if kind.physics == "continuous" and kind.misjudged == 1]
    kinds = [kind for kind in known if kind.name == options.only] or [k for k in known if options.only in k.name]
    if not kinds:
        names = "; ".join(kind.name for kind in known)
        raise InputError(f"--only: found {shown(options.only)}, accepted: words of a kind's name, of {names}")
    return kinds


def paired_differences(worlds: Sequence[World], plays: Sequence[Play]) -> list[str]:
    """Gain of `price` per request, the others' as a share of it, and how much more the last way gains than its rivals.

    Where batches queue, splits stay, and the rules that revise are those that do not.
    """
    found = np.array([gains(world, plays) for world in worlds])
    unit, requests = found[:, 0].mean(), np.mean([len(world.requests) for world in worlds])
    shares = dict(zip(WAYS, found.T / unit, strict=True))
    cells = [f"{unit / requests:.3f}", *(f"{shares[way].mean():.2%}" for way in WAYS[1:])]
    for rival in RIVALS:
        mean, half = interval(shares[LEARNED] - shares[rival])
        cells.append(f"{mean:+.2%} +- {half:.2%}")
    return cells


def lookers(kind: Judged, policy: PricePolicy) -> list[Play]:
    """Schedulers that look ahead by multiples of prices, in the order of `AHEAD`.

    Of the tuned prices in futures at the rate of late; in futures by the law; of the policy's prices in those; and of
    the tuned prices where arrivals, GPUs or both are known, and the rest is by the law. They give images in flight new
    splits if the policy does. Minutes of a trace have no law;
    there the rate of late and the GPUs of now stand for it.
    """
    own = Rollouts(pricing=tuned_pricing(load_prices().rule()), revises=policy.revises)
    lawful = replace(own, law=kind.law)
    known: tuple[tuple[Known, ...], ...] = (("arrivals",), ("gpus",), ("arrivals", "gpus"))
    knowing = [replace(lawful, known=frozenset(names)) for names in known]
    return [one.play for one in (own, lawful, replace(lawful, pricing=policy.prices), *knowing)]


def shares_of_hindsight(worlds: Sequence[World], plays: Sequence[Play]) -> list[str]:
    """Gains of the ways to decide as shares of hindsight's."""
    known = np.array([gains(world, plays, best=True) for world in worlds]).sum(axis=0)
    return [f"{share:.2%}" for share in known[:-1] / known[-1]]


if __name__ == "__main__":
    run_module(main, "judging")

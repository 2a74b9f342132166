"""How much a learnt policy gains where it has not been: paired differences in held-out worlds, with intervals.

`python -m edgesplit.service.learn.judging [POLICY] [--worlds COUNT] [--ahead COUNT]` prints the tables of
docs/learning.md. Every way to decide plays the same worlds, whose seeds no training sees. The difference of two ways in
a world is taken as a share of what the rule `price` gains in worlds of that kind; its interval is Student's, over the
worlds.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ... import data
from ...common.arrays import Floats
from ...common.console import say
from ...common.errors import InputError, shown
from ...common.tables import plain_table, print_table
from ...optimizer.inputs.scenario import overrides, resolve_scenario
from ...optimizer.model.qoe import Plan, Scenario, Users
from .. import outcome
from ..comparison import LEARNED, TRAINED, Way, find_way
from ..hindsight import hindsight
from ..price_file import load_prices
from ..price_policy import DEFAULT_POLICY
from ..scheduler import Load
from ..simulator import Records, Simulation, World, decider
from ..tuning import HELD_OUT_SEED, local_value
from ..worlds import make_world, read_settings
from .rollouts import Rollouts
from .training import MOVING, SEED

SECONDS = 60.0
WAYS, AHEAD = ("price", TRAINED, LEARNED), ("rollouts", "foresight")
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
    """

    name: str
    arrivals: str
    bandwidth_mhz: float = 20.0
    gpus_over_time: str | None = None
    physics: str = "continuous"
    edge: str | None = None
    users: str | None = None
    misjudged: float = 1.0

    def worlds(self, count: int) -> list[World]:
        """The first so many worlds."""
        changes = {"bandwidth_mhz": self.bandwidth_mhz} | ({"edge": self.edge} if self.edge else {})
        resolved = resolve_scenario("default", overrides(**changes))
        users = data.sample(self.users) if self.users else None
        seed = SEED + HELD_OUT_SEED + 1  # not those of the card either
        settings = read_settings(resolved, self.arrivals, users, self.gpus_over_time, SECONDS, 1.0, seed=seed,
                                 physics=self.physics)  # fmt: skip
        return [make_world(settings, number) for number in range(count)]

    def player(self, way: Way) -> Play:
        """The way to decide, with an edge that is misjudged here, as a function that plays a world."""
        plan = way.plan if self.misjudged == 1 else self._misjudging(way)
        return lambda world: Simulation(world).run(decider(world, plan))

    def _misjudging(self, way: Way) -> Callable[..., Plan]:
        def misjudging(scenario: Scenario, load: Load, users: Users, **rest: object) -> Plan:
            k, h, floor = (getattr(scenario.edge, name) for name in ("slope_s", "intercept_s", "floor_s"))
            factor = self.misjudged
            edge = replace(scenario.edge, slope_s=k * factor, intercept_s=h * factor, floor_s=floor * factor)
            return way.plan(replace(scenario, edge=edge), load, users, **rest)

        return misjudging


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
    parser.add_argument("--ahead", action="store_true", help="with rollouts, foresight and hindsight as well; slow")
    parser.add_argument("--only", default="", metavar="WORDS", help="kind of this name, or those that have the words")
    judge(parser.parse_args())


def judge(options: argparse.Namespace) -> None:
    """Judge as the options say.

    Raises:
        InputError: for fewer than two worlds, a name that no kind has, or a policy that cannot be read.
    """
    kinds = [kind for kind in grid() if kind.name == options.only] or [k for k in grid() if options.only in k.name]
    if options.worlds < 2 or not kinds:
        found = f"--worlds {options.worlds}, --only {shown(options.only)}"
        raise InputError(f"found {found}, accepted: 2 worlds or more, and words of a kind's name")
    ways = [find_way(name, policy=options.policy) for name in WAYS]
    paired = ["price s", *WAYS[1:], f"{LEARNED} - {TRAINED}", f"{LEARNED} - price"]
    table = plain_table("worlds", *([*WAYS, *AHEAD] if options.ahead else paired))
    row = shares_of_hindsight if options.ahead else paired_differences
    for kind in kinds:
        table.add_row(kind.name, *row(kind.worlds(options.worlds), [kind.player(way) for way in ways]))
        say(kind.name)
    print_table(table)


def paired_differences(worlds: Sequence[World], plays: Sequence[Play]) -> list[str]:
    """Gain of `price` per request, the others' as a share of it, and how much more the last way gains than each."""
    found = np.array([gains(world, plays) for world in worlds])
    unit, requests = found[:, 0].mean(), np.mean([len(world.requests) for world in worlds])
    formula, trained, learned = found.T / unit
    cells = [f"{unit / requests:.3f}", f"{trained.mean():.2%}", f"{learned.mean():.2%}"]
    for other in (trained, formula):
        mean, half = interval(learned - other)
        cells.append(f"{mean:+.2%} +- {half:.2%}")
    return cells


def shares_of_hindsight(worlds: Sequence[World], plays: Sequence[Play]) -> list[str]:
    """Gains of the ways, of rollouts and of foresight as shares of hindsight's."""
    rule = load_prices().rule()
    ahead = [Rollouts(rule=rule).play, Rollouts(rule=rule, futures=0).play]
    known = np.array([gains(world, [*plays, *ahead], best=True) for world in worlds]).sum(axis=0)
    return [f"{share:.2%}" for share in known[:-1] / known[-1]]


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        say(f"judging: {error}")
        raise SystemExit(2) from error

"""Several ways to decide on equal arrivals, with all local and hindsight as yardsticks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..common.arrays import Ints
from ..common.errors import InputError, nearest, require, shown
from ..common.progress import Progress
from ..optimizer.methods.registry import find_method, known_methods, methods_for
from ..optimizer.model.qoe import Plan, all_local
from .hindsight import SWEEPS, hindsight
from .price_file import DEFAULT, DEFAULT_REVISED, load_prices
from .price_policy import DEFAULT_POLICY, load_price_policy
from .runs import Run, play
from .scheduler import RULES, Rule, aware, by_load, by_method, decide, decide_several, revise
from .simulator import Decide, Revise, Simulation, World, decider, fixed, reviser
from .store import RunFiles
from .summary import ALL_LOCAL, HINDSIGHT

TRAINED, LEARNED = "trained", "learned"  # the second is a method of the registry as well
REVISED = "+revise"
"""What follows the name of a price rule under which images in flight get new splits at the end of every round."""
REVISABLE = ("aware", "price", TRAINED)
MOST_HINDSIGHT = 1500
"""Requests of a world up to which hindsight is looked for; its time rises with their square."""


@dataclass(frozen=True)
class Way:
    """A way to decide rounds.

    Attributes:
        name: its name.
        plan: function as `scheduler.decide`, without its rule.
        plan_several: function as `scheduler.decide_several`, without its rule; None where it knows one server alone.
        revise: function as `scheduler.revise`, without its prices; None where splits stay.
        counts_steps: whether it needs the steps left of every image.
        own_steps: whether it can serve images with own numbers of steps.
        numbers: what stands for the numbers that it was trained to; empty where it has none.
    """

    name: str
    plan: Callable[..., Plan]
    plan_several: Callable[..., Plan] | None = None
    revise: Callable[..., Ints] | None = None
    counts_steps: bool = False
    own_steps: bool = True
    numbers: str = ""

    @property
    def digest(self) -> str:
        """What it depends on: its name, and its numbers."""
        return f"{self.name} {self.numbers}" if self.numbers else self.name


def find_way(name: str, prices: str | None = None, policy: str = DEFAULT_POLICY) -> Way:
    """A way to decide by its name: a price rule, a learnt policy, or a method of the registry.

    Args:
        name: the name.
        prices: prices of the rule `trained`: a shipped name or a file; None for those that ship.
        policy: policy of the method `learned`: a shipped name or a file.

    Raises:
        InputError: for an unknown name, or prices or a policy that cannot be read.
    """
    if name.endswith(REVISED):
        return _revised_way(name, prices)
    if name in RULES:
        return by_rule(name, RULES[name], counts_steps=name == "aware-delay")
    if name == TRAINED:
        rule = load_prices(prices or DEFAULT).rule()
        return replace(by_rule(name, rule), numbers=str(rule))
    if name == LEARNED:
        learned = load_price_policy(policy)
        own = partial(revise, terms_of=learned.terms) if learned.revises else None
        return Way(name, learned.plan, revise=own, numbers=learned.digest)
    if name == ALL_LOCAL:
        return Way(name, by_method(all_local), all_local)
    if name == HINDSIGHT:
        raise InputError("--compare: found 'hindsight', which is added by itself; leave it out, or see --no-hindsight")
    if ":" not in name and name not in known_methods():
        known = list(dict.fromkeys([*_rules(), LEARNED, *known_methods()]))
        raise InputError(
            f"--method, --compare: found {shown(name)}, accepted: a price rule or a method; {nearest(name, known)}"
        )
    method = find_method(name)
    several = partial(decide_several, rule=aware, method=method) if ":" in name or name in methods_for(True) else None
    return Way(name, by_method(method), several, own_steps=False)


def _rules() -> list[str]:
    """The names of all price rules."""
    return [*RULES, TRAINED, *(f"{name}{REVISED}" for name in REVISABLE)]


def _revised_way(name: str, prices: str | None) -> Way:
    """A price rule under which images in flight get new splits.

    Raises:
        InputError: for a name that is no such rule, or prices that cannot be read.
    """
    plain = name.removesuffix(REVISED)
    if plain not in REVISABLE:
        accepted = ", ".join(f"{one}{REVISED}" for one in REVISABLE)
        raise InputError(
            f"--method, --compare: found {shown(name)}, accepted with {REVISED}: {accepted}; {LEARNED} revises as its "
            "card says"
        )
    rule = load_prices(prices or DEFAULT_REVISED).rule() if plain == TRAINED else RULES[plain]
    own, numbers = partial(revise, terms_of=by_load(rule)), str(rule) if plain == TRAINED else ""
    return Way(name, partial(decide, rule=rule), revise=own, numbers=numbers)


def by_rule(name: str, rule: Rule, counts_steps: bool = False) -> Way:
    """A price rule as a way to decide."""
    several = partial(decide_several, rule=rule)
    return Way(name, partial(decide, rule=rule), several, counts_steps=counts_steps)


def check_way(way: Way, world: World) -> None:
    """Refuse a way to decide that cannot serve a world's images, or does not know its servers.

    Raises:
        InputError: naming the way and what can.
    """
    if world.requests.own_steps is not None and not way.own_steps:
        raise InputError(
            f"--method {way.name}: found images with own numbers of steps, accepted: a price rule "
            f"({', '.join([*_rules(), LEARNED])}); or leave total_steps out of the trace"
        )
    if world.several and way.plan_several is None:
        raise InputError(
            f"--method {way.name}: found several servers, accepted: a price rule or a method for several "
            f"({', '.join([*RULES, TRAINED, *methods_for(True)])})"
        )
    if way.name.endswith(REVISED) and world.physics == "queue":
        raise InputError(
            f"--method {way.name}: found --physics queue, accepted: continuous; batches that wait keep their splits"
        )


def play_way(
    world: World, way: Way, number: int, log: bool = False, progress: Callable[[int], None] | None = None
) -> Run:
    """One run of a world."""
    plan = way.plan_several if world.several and way.plan_several else way.plan
    choose: Decide = decider(world, plan) if way.name != ALL_LOCAL else _deny_all(world)
    new_splits = revising(world, way)
    return play(
        world, choose, method=way.name, number=number, log=log, counts_steps=way.counts_steps, progress=progress,
        revise=new_splits,
    )  # fmt: skip


def revising(world: World, way: Way) -> Revise | None:
    """What gives a world's images in flight new splits; None where splits stay, as they do where batches queue."""
    return reviser(world, way.revise) if way.revise and world.physics == "continuous" else None


def _deny_all(world: World) -> Decide:
    total = world.total_steps.tolist()
    return fixed([False] * len(total), total)


def play_hindsight(
    world: World, runs: Sequence[Run], number: int, progress: Callable[[int], None] | None = None
) -> Run:
    """The best that is found with all arrivals known, from the best of some runs of the same world."""
    best = max(runs, key=lambda run: float(run.rows["qoe"].astype(float).sum()))
    start = Simulation(world).run(fixed(best.rows["granted"].tolist(), best.rows["local_steps"].tolist()))
    found = hindsight(world, start, progress)
    n, granted = found.local_steps.tolist(), found.granted.tolist()
    return play(world, fixed(granted, n), method=HINDSIGHT, number=number)


def simulate(world: World, method: str | Rule = "price") -> Run:
    """Play a world to its end under one way to decide.

    Args:
        world: the world.
        method: a price rule by name, a method of `plan` by name, or a function of a scenario and a load that returns
            `Terms`.

    Returns:
        the run; its `rows` have a column for everything that happened to each request.

    Raises:
        InputError: for an unknown name, or a method that cannot serve the world's images.
    """
    if not isinstance(method, str):
        way = by_rule(getattr(method, "__name__", "own"), method, counts_steps=True)
    else:
        way = find_way(method)
    check_way(way, world)
    return play_way(world, way, 0)


@dataclass(frozen=True)
class Comparison:
    """Several ways to decide, to be played in worlds.

    Attributes:
        ways: the ways, all local among them.
        hindsight: whether the best in hindsight is looked for as well.
        log: whether the scheduler's calls are kept.
        store: where finished runs are kept; None for nowhere.
    """

    ways: Sequence[Way]
    hindsight: bool = False
    log: bool = False
    store: RunFiles | None = None

    @property
    def names(self) -> list[str]:
        """The names of all runs of a world."""
        return [way.name for way in self.ways] + [HINDSIGHT] * self.hindsight

    def runs(self, world: World, number: int, progress: Progress) -> list[Run]:
        """The runs of one world; `progress` counts its requests, once for every way."""
        size, runs = len(world.requests), list[Run]()
        for place, way in enumerate(self.ways):
            far = _counter(progress, place * size, way.name)
            runs.append(self._kept(way.name, number, way.digest, partial(play_way, world, way, number, self.log, far)))
        if self.hindsight:
            far = _counter(progress, len(runs) * size, HINDSIGHT, 1 / SWEEPS)
            digest = "; ".join(way.digest for way in self.ways)
            runs.append(self._kept(HINDSIGHT, number, digest, partial(play_hindsight, world, tuple(runs), number, far)))
        return runs

    def _kept(self, method: str, number: int, digest: str, make: Callable[[], Run]) -> Run:
        """A run from the store, or made and put there; the store has no calls of the scheduler."""
        if self.store and not self.log and (known := self.store.read(method, number, digest)):
            return known
        run = make()
        if self.store:
            self.store.write(run, digest)
        return run


def _counter(progress: Progress, done: int, text: str, share: float = 1.0) -> Callable[[int], None]:
    return lambda requests: progress(done + share * requests, text)


def play_worlds(comparison: Comparison, worlds: Sequence[World], engine: str, progress: Progress) -> Iterator[Run]:
    """The runs of all worlds, world by world.

    Args:
        comparison: what is played.
        worlds: the worlds.
        engine: "local", or "ray" for a Ray cluster.
        progress: counts requests, once for every way.

    Raises:
        InputError: where there is no Ray.
    """
    start = 0
    played = _on_ray(comparison, worlds) if engine == "ray" else None
    for number, world in enumerate(worlds):
        far = partial(_shifted, progress, start)
        yield from next(played) if played else comparison.runs(world, number, far)
        start += len(world.requests) * len(comparison.names)
        progress(start)


def _shifted(progress: Progress, start: int, completed: float, text: str = "") -> None:
    progress(start + completed, text)


def _on_ray(comparison: Comparison, worlds: Sequence[World]) -> Iterator[list[Run]]:
    """The runs of each world, computed on a Ray cluster; the files of finished runs are written here."""
    require("ray", "ray")
    import logging

    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    remote = ray.remote(_runs_there)
    pending = [remote.remote(replace(comparison, store=None), world, n) for n, world in enumerate(worlds)]
    for done in pending:
        runs = ray.get(done)
        digests = [way.digest for way in comparison.ways]
        digests.append("; ".join(digests))
        for run, digest in zip(runs, digests, strict=False):
            if comparison.store:
                comparison.store.write(run, digest)
        yield runs


def _runs_there(comparison: Comparison, world: World, number: int) -> list[Run]:
    return comparison.runs(world, number, say_nothing)


def say_nothing(completed: float, text: str = "", /) -> None:
    """Progress that nobody sees."""

"""Several servers: time and proven gap of every method, in one run, on one core: `python benchmarks/servers.py`.

Users and servers lie at random places of a square; a link is as fast as its distance lets it be, and far servers are
out of reach. Users are drawn as in the paper (section 6.1.1). Four regimes: the paper's radio; 20 MHz; no radio and one
GPU at each server; 20 MHz where each server hosts one of three models and users of other clusters lose more PAI.

The gap of every plan is that to the lowest bound that any method of the same run has proven, as a share of the bound on
the gain over all local; "worst" is over the instances. HiGHS is the peer, greedy and nearest are the floor.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Table

from edgesplit.optimizer.agent.instances import Range, paper_instance
from edgesplit.optimizer.inputs.scenario import load_scenario
from edgesplit.optimizer.methods.assignment.baselines import greedy, nearest, server_by_server
from edgesplit.optimizer.methods.assignment.branch import assign_exact
from edgesplit.optimizer.methods.assignment.genetic import genetic_assign
from edgesplit.optimizer.methods.assignment.ilp_states import ilp_states
from edgesplit.optimizer.methods.assignment.search import assign
from edgesplit.optimizer.model.qoe import Users, all_local, numbers_of
from edgesplit.optimizer.model.servers import Fleet, FleetPlan, FleetServer, SharedModel, evaluate
from edgesplit.reports.basis.fleets import later, random_edge, random_links

SCENARIO = load_scenario()
SIZES = ((20, 4, 20), (1000, 8, 5), (10_000, 32, 3))
"""Users, servers and number of instances."""
LIMIT_S = 20.0
"""Seconds for HiGHS and for branch and bound, on each instance."""

REGIMES: dict[str, dict[str, float]] = {
    "paper's radio": {},
    "20 MHz": {"bandwidth_hz": 20e6},
    "no radio, one GPU": {"gpus": 1, "latent_bits": 0.0, "prompt_bits": 0.0},
    "one model of three": {"bandwidth_hz": 20e6},
}


def draw(regime: str, users: int, servers: int, seed: int) -> tuple[Fleet, Users]:
    """A random instance of a regime."""
    rng = np.random.default_rng([seed, users, servers])
    kinds = 3 if regime == "one model of three" else 1
    models = tuple(
        SharedModel(
            name=f"model-{c}",
            size_bytes=1.0,
            clusters=(c,) if kinds > 1 else (),
            pai=SCENARIO.pai,
            pai_others=later(SCENARIO),
            base=c,
        )
        for c in range(kinds)
    )
    places = tuple(
        FleetServer(name=f"server-{m}", scenario=edge, hosts=(m % kinds,), memory_bytes=None)
        for m, edge in enumerate(replace(random_edge(rng, SCENARIO), **REGIMES[regime]) for _ in range(servers))
    )
    fleet = Fleet(
        **numbers_of(places[0].scenario), servers=places, models=models, clusters=tuple(map(str, range(kinds)))
    )
    drawn = paper_instance(rng, Range(users=(users, users))).users
    rate = random_links(rng, users, servers)
    return fleet, replace(drawn, cluster=rng.integers(0, kinds, users), rate=rate)


@dataclass(frozen=True)
class Run:
    """One plan: its seconds, its gain over all local, the bound that it proves, and whether a limit has cut it."""

    seconds: float
    gain: float
    bound: float
    cut: bool


Planner = Callable[[Fleet, Users], FleetPlan]
METHODS: dict[str, tuple[Planner, int]] = {
    "assign": (assign, 10_000),
    "assign-exact": (lambda fleet, users: assign_exact(fleet, users, LIMIT_S), 1000),
    "ilp-states (HiGHS)": (lambda fleet, users: ilp_states(fleet, users, LIMIT_S), 1000),
    "genetic-assign": (genetic_assign, 20),
    "greedy": (greedy, 10_000),
    "server-by-server": (server_by_server, 10_000),
    "nearest": (nearest, 10_000),
}
"""Each method, and the most users that it is given."""


def planned(method: Planner, fleet: Fleet, users: Users) -> Run:
    """A method's plan for one instance."""
    start = time.perf_counter()
    made = method(fleet, users)
    seconds = time.perf_counter() - start
    gain = float((evaluate(fleet, users, made).qoe - evaluate(fleet, users, all_local(fleet, users)).qoe).sum())
    return Run(seconds, gain, float(made.bounds.min()), made.note.startswith("not proven"))


def rows_of(regime: str, users: int, servers: int, instances: int) -> dict[str, list[tuple[Run, float]]]:
    """Every method's runs on the same instances, each with its gap as a share of the lowest bound."""
    rows: dict[str, list[tuple[Run, float]]] = {}
    for seed in range(instances):
        fleet, drawn = draw(regime, users, servers, seed)
        runs = {name: planned(method, fleet, drawn) for name, (method, most) in METHODS.items() if users <= most}
        bound = min(run.bound for run in runs.values())
        for name, run in runs.items():
            own = run.bound if np.isfinite(run.bound) else bound
            rows.setdefault(name, []).append((run, (own - run.gain) / own if own > 0 else 0.0))
    return rows


def print_size(console: Console, users: int, servers: int, instances: int) -> None:
    """A table for each regime, as soon as it is known."""
    for regime in REGIMES:
        table = Table(box=None, padding=(0, 1), header_style="bold")
        headings = (f"{users:,} x {servers}, {regime}", "mean s", "worst s", "mean gap", "worst gap", "cut")
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="right" if number else "left", min_width=0 if number else 34)
        for name, runs in rows_of(regime, users, servers, instances).items():
            seconds, gaps = [run.seconds for run, _ in runs], [max(gap, 0.0) for _, gap in runs]
            cut = sum(run.cut for run, _ in runs)
            figures = f"{np.mean(seconds):.4f}", f"{max(seconds):.4f}", f"{np.mean(gaps):.4%}", f"{max(gaps):.4%}"
            table.add_row(name, *figures, f"{cut} of {instances}" if cut else "")
        console.print(table)


PLACED, PLACEMENTS = (40, 3), 20
"""Users and servers where models are chosen as well, and number of instances."""


def print_placement(console: Console) -> None:
    """Assignment and placement together: every server chooses among three models, with room for one or two."""
    runs = []
    for seed in range(PLACEMENTS):
        fleet, users = draw("one model of three", *PLACED, seed)
        room = np.random.default_rng(seed).integers(1, 3, len(fleet.servers)).tolist()
        servers = tuple(
            replace(server, hosts=(0, 1, 2), memory_bytes=float(held))
            for server, held in zip(fleet.servers, room, strict=True)
        )
        runs.append(planned(METHODS["assign-exact"][0], replace(fleet, servers=servers), users))
    seconds, open_ = [run.seconds for run in runs], sum(run.cut for run in runs)
    console.print(
        f"placement of 3 models with {PLACED[0]} users at {PLACED[1]} servers, assign-exact: mean "
        f"{np.mean(seconds):.4f} s, worst {max(seconds):.4f} s, not proven in {open_} of {PLACEMENTS}"
    )


def main() -> None:
    """All sizes, or some of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    numbers = range(len(SIZES))
    parser.add_argument("--sizes", type=int, nargs="*", default=numbers, help="numbers of the sizes, from 0")
    console = Console(width=120, highlight=False)
    warm, one = draw("paper's radio", 8, 2, 0)
    for method, _ in METHODS.values():
        method(warm, one)  # what a method imports is not planning
    print_placement(console)
    for number in parser.parse_args().sizes:
        print_size(console, *SIZES[number])


if __name__ == "__main__":
    main()

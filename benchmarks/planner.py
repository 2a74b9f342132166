"""Speed of the planner, each figure a ratio to a peer measured in the same run: `python benchmarks/planner.py DIR`.

Prints four tables and draws the growth of the exact optimum into DIR/growth.png:

1. the exact optimum against HiGHS on the linearised joint problem and against brute force;
2. one cell of a million users against one float64 numpy.exp over a (1e6, 64) array, for several populations;
3. fifty thousand cells of 20 users;
4. the start of the command against a Python that only imports NumPy;

with the peak memory of a process that does nothing else for 2 and 3.
"""

import itertools
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from edgesplit import data
from edgesplit.fitting.library import load_profile
from edgesplit.fitting.names import slug
from edgesplit.fitting.published import CARDS
from edgesplit.optimizer.inputs.scenario import resolve_scenario
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.methods.ilp import solve
from edgesplit.optimizer.model.qoe import (
    Scenario,
    Users,
    all_local,
    edge_step_latency,
    evaluate,
    objective,
    transmit_time,
)
from edgesplit.optimizer.model.split import alpha_from_emphasis, best_split

SCENARIO = resolve_scenario("default").scenario
HIGHS_LIMIT_S = 60.0
MILLION = 1_000_000
POPULATIONS = (
    "random cards",
    "random cards, one emphasis",
    "any device",
    "heavy tail",
    "fast devices",
    "one device",
)


def make_users(count: int, population: str = "random cards", cells: int = 1) -> Users:
    """Random users; the paper's have emphasis 0 to 0.35 (section 6.1.1)."""
    rng = np.random.default_rng(0)
    cards = np.array([float(load_profile(slug(card)).fit.model().step_latency(1)) for card in CARDS])
    latency = {
        "any device": rng.uniform(0.02, 1, count),
        "heavy tail": np.exp(rng.normal(-2, 0.7, count)),
        "fast devices": rng.uniform(0.02, 0.05, count),
        "one device": np.full(count, 0.3),
    }.get(population, rng.choice(cards, count))
    emphasis = np.full(count, 0.25) if "one emphasis" in population else rng.uniform(0, 0.35, count)
    alpha = alpha_from_emphasis(SCENARIO, latency, emphasis)
    return Users(latency, alpha, rng.integers(1, 11, count), np.arange(count) * cells // count)


def seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def gain_of(scenario: Scenario, users: Users) -> float:
    """The exact optimum's value over all-local."""
    plans = optimum(scenario, users), all_local(scenario, users)
    best, local = (objective(users, evaluate(scenario, users, plan)).sum() for plan in plans)
    return float(best - local)


# -- peers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A peer's gain over all-local, what it says of it, and its time."""

    gain: float
    status: str
    seconds: float


def brute_force(scenario: Scenario, users: Users) -> Answer:
    """The best gain over every subset of users, splits optimised beforehand for each batch size."""
    start, best = time.perf_counter(), 0.0
    for b in range(1, min(scenario.max_batch, len(users)) + 1):
        _, gain = best_split(scenario, users.alpha, users.step_latency_s - edge_step_latency(scenario, b))
        transmit = b * float(transmit_time(scenario, b))
        subsets = itertools.combinations(gain.tolist(), b)
        best = max(best, max(map(math.fsum, subsets)) - transmit)
    return Answer(best, "every subset", time.perf_counter() - start)


def highs(scenario: Scenario, users: Users) -> Answer:
    """`ilp-joint`: the joint problem, linearised, at gap 0; building the program counts."""
    start = time.perf_counter()
    splits = np.arange(scenario.min_local_steps, scenario.total_steps)
    found = solve(scenario, users, splits, HIGHS_LIMIT_S)
    return Answer(found.value, found.status, time.perf_counter() - start)


# -- tables -----------------------------------------------------------------------------------------------


def peers_table() -> Table:
    """Exact against HiGHS and brute force."""
    table = new_table("peer", "users", "peer s", "exact ms", "times faster", "peer's gain s", "exact gain s", "status")
    highs(SCENARIO, make_users(2))  # what it imports is not solving
    runs = [("brute force", brute_force, count) for count in (10, 15, 20)]
    runs += [("HiGHS", highs, count) for count in (10, 20, 40)]
    for name, peer, count in runs:
        users = make_users(count)
        table.add_row(name, str(count), *peer_figures(users, peer(SCENARIO, users)))
    return table


def peer_figures(users: Users, answer: Answer) -> list[str]:
    """Both times, both values, and the peer's status."""
    exact_s, exact = seconds(lambda: optimum(SCENARIO, users), 21), gain_of(SCENARIO, users)
    if answer.gain > exact + 1e-6 * abs(exact):  # HiGHS's tolerance of feasibility
        raise AssertionError(f"a peer found {answer.gain}, above the exact optimum {exact}")
    times = [f"{answer.seconds:.3f}", f"{1e3 * exact_s:.3f}", f"{answer.seconds / exact_s:,.0f}"]
    return [*times, f"{answer.gain:.4f}", f"{exact:.4f}", answer.status]


def large_cell(population: str) -> dict[str, float]:
    """One cell of a million users: peak memory first, then the time against numpy.exp, taken in turn."""
    scenario, users = replace(SCENARIO, max_batch=64), make_users(MILLION, population)
    optimum(scenario, users)
    peak = peak_bytes()
    numbers, out = np.random.default_rng(0).random((MILLION, 64)), np.empty((MILLION, 64))
    np.exp(numbers, out=out)
    pairs = [
        (
            seconds(lambda: optimum(scenario, users), 1),
            seconds(lambda: np.exp(numbers), 1),
            seconds(lambda: np.exp(numbers, out=out), 1),
        )
        for _ in range(7)
    ]
    exact, exp, exp_out = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"exact_s": exact, "exp_s": exp, "exp_out_s": exp_out, "peak_bytes": peak}


def many_cells(_: str) -> dict[str, float]:
    """Fifty thousand cells of 20 users."""
    users = make_users(MILLION, cells=MILLION // 20)
    exact = seconds(lambda: optimum(SCENARIO, users), 3)
    return {"exact_s": exact, "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """Largest memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_process(job: str, argument: str = "") -> dict[str, float]:
    """Run one job in a process of its own, for its peak memory."""
    done = subprocess.run([sys.executable, __file__, job, argument], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def large_table() -> Table:
    """A million users in one cell, B_max = 64."""
    table = new_table("1e6 users, B_max 64", "exact ms", "exp ms", "ratio", "exp(out=) ms", "ratio", "peak GB")
    for population in POPULATIONS:
        row = in_process("large_cell", population)
        exact, exp, exp_out = row["exact_s"], row["exp_s"], row["exp_out_s"]
        figures = [
            1e3 * exact,
            1e3 * exp,
            exact / exp,
            1e3 * exp_out,
            exact / exp_out,
            row["peak_bytes"] / 1e9,
        ]
        table.add_row(population, *(f"{figure:.2f}" for figure in figures))
    return table


def cells_table() -> Table:
    """Fifty thousand cells."""
    table = new_table("cells of 20 users", "exact s", "limit s", "ratio", "peak GB")
    row = in_process("many_cells")
    table.add_row("50,000", f"{row['exact_s']:.2f}", "5", f"{row['exact_s'] / 5:.2f}", f"{row['peak_bytes'] / 1e9:.2f}")
    return table


def startup_table() -> Table:
    """The whole command, in a new process, against a Python that only imports NumPy."""
    table = new_table("whole command", "s", "python -c 'import numpy' s", "ratio")
    command, numpy_only = str(Path(sys.executable).with_name("plan")), [sys.executable, "-c", "import numpy"]
    for arguments in (["--help"], ["--users", str(data.sample("users.csv"))]):
        pairs = [(process_seconds([command, *arguments]), process_seconds(numpy_only)) for _ in range(7)]
        ours, peer = (statistics.median(column) for column in zip(*pairs, strict=True))
        table.add_row(f"plan {arguments[0]}", f"{ours:.2f}", f"{peer:.2f}", f"{ours / peer:.1f}")
    return table


def process_seconds(command: list[str]) -> float:
    """Wall time of a process."""
    return seconds(lambda: subprocess.run(command, capture_output=True, check=True), 1)


def growth() -> pd.DataFrame:
    """Time of the exact optimum against users at B_max = 64, and against B_max at 100,000 users."""
    rows = [growth_rows(count, 64) for count in (100, 1000, 10_000, 100_000, MILLION)]
    rows += [growth_rows(100_000, max_batch) for max_batch in (4, 16, 256, 1024)]
    return pd.DataFrame(itertools.chain(*rows), columns=["users", "B_max", "solver", "seconds"])


def growth_rows(count: int, max_batch: int) -> list[tuple[int, int, str, float]]:
    """The time with screening, and without it where that is bearable."""
    scenario, users = replace(SCENARIO, max_batch=max_batch, latent_bits=262_144.0), make_users(count)
    rows = [(count, max_batch, "screened", seconds(lambda: optimum(scenario, users), 3))]
    if count * max_batch <= 26_000_000:
        every = seconds(lambda: optimum(scenario, users, screen=False), 1)
        rows.append((count, max_batch, "every user rated", every))
    return rows


def draw_growth(table: pd.DataFrame, path: Path) -> None:
    """Time against users and against B_max, on log axes."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = figure.subplots(1, 2, sharey=True)
    panels = {"users": table[table["B_max"] == 64], "B_max": table[table["users"] == 100_000]}
    titles = {"users": "B_max = 64", "B_max": "100,000 users"}
    for axis, (x, rows) in zip(axes, panels.items(), strict=True):
        sns.lineplot(rows, x=x, y="seconds", hue="solver", style="solver", markers=True, ax=axis, palette="colorblind")
        axis.set(xscale="log", yscale="log", xlabel=x, ylabel="planning time, s", title=titles[x])
    figure.savefig(path, dpi=120)


def new_table(*headings: str) -> Table:
    """A table of figures."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def main(folder: Path) -> None:
    """All tables and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=120, highlight=False)
    for table in (peers_table, large_table, cells_table, startup_table):
        console.print(table())
        console.print()
    grown = growth()
    grown.to_csv(folder / "growth.csv", index=False)
    draw_growth(grown, folder / "growth.png")
    console.print(grown.round(4).to_string(index=False))
    console.print(f"wrote {folder / 'growth.csv'}, {folder / 'growth.png'}")


JOBS: dict[str, Callable[[str], dict[str, float]]] = {"large_cell": large_cell, "many_cells": many_cells}

if __name__ == "__main__":
    if sys.argv[1] in JOBS:
        print(json.dumps(JOBS[sys.argv[1]](sys.argv[2])))
    else:
        main(Path(sys.argv[1]))

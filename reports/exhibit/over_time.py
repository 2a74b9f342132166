"""Beyond the paper: rounds that overlap, planned blindly, beside what is in flight, and with prices."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...optimizer.agent.instances import Range, paper_instance
from ...service.arrivals import MovingGpus, Process, draw_requests
from ...service.comparison import Comparison, find_way, say_nothing
from ...service.runs import Run
from ...service.simulator import World
from ...service.summary import ALL_LOCAL, HINDSIGHT
from ..basis.checks import FINDING, Check
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.look import asides, framed, legend_below, line_looks, mean_line
from ..basis.scoring import Row
from ..basis.setup import Setup

WAYS = (ALL_LOCAL, "blind", "aware", "price", "trained")
ROUNDS = 60
BANDWIDTH_HZ = 2e7
"""The paper's 1 MHz lets 2.3 intermediates through in a second; here the edge is what is scarce."""
CROWD = 1000
"""Users of whom each request has one, drawn as in section 6.1.1."""
MOVING = MovingGpus(10.0, (2, 4, 8))
FIXED_WORDS, MOVING_WORDS = "G as in the scenario", "G moves between 2, 4 and 8"


def rows_of(setup: Setup, arrivals: int, number: int) -> Iterator[Row]:
    """One case: a minute of so many arrivals a second, with G fixed and moving, under every way to decide."""
    for words, moving in ((FIXED_WORDS, None), (MOVING_WORDS, MOVING)):
        world = make_world(setup, arrivals, number, moving)
        comparison = Comparison([find_way(name) for name in WAYS], hindsight=True)
        runs = comparison.runs(world, number, say_nothing)
        local = runs[0]
        possible = _gain(runs[-1], local)
        for run in runs[1:]:
            gain = _gain(run, local)
            yield {
                "arrivals": arrivals, "gpus": words, "case": number, "method": run.method, "gain_per_user": gain,
                "share_of_hindsight": gain / possible if possible > 0 else 1.0,
            }  # fmt: skip


def make_world(setup: Setup, arrivals: int, number: int, moving: MovingGpus | None) -> World:
    """A minute of Poisson arrivals; the same requests whether G moves or not."""
    rng = np.random.default_rng([setup.choices.seed, arrivals, number])
    scenario = replace(setup.scenario, bandwidth_hz=BANDWIDTH_HZ)
    choices = Range(users=(CROWD, CROWD), gpus=(scenario.gpus,), step_latency_s=tuple(setup.step_latency_s.values()))
    users = paper_instance(rng, choices, scenario).users
    seconds = ROUNDS * scenario.interval_s
    requests = draw_requests(Process(arrivals), seconds, CROWD, rng)
    changes = moving.changes(seconds, rng) if moving else ()
    return World(scenario=scenario, users=users, requests=requests, gpus_over_time=changes)


def _gain(run: Run, local: Run) -> float:
    """The mean rise of a request's QoE over all local, seconds."""
    return float(np.mean(run.rows["qoe"].astype(float) - local.rows["qoe"].astype(float)))


def draw(table: pd.DataFrame) -> Any:
    """Gain over all local against arrivals per second, with G fixed above and moving below."""
    with framed(rows=2, height=5.8, sharex=True) as (figure, axes):
        for axis, words in zip(axes, (FIXED_WORDS, MOVING_WORDS), strict=True):
            rows = table[table["gpus"] == words]
            names = list(dict.fromkeys(rows["method"]))
            for name, look, aside in zip(names, line_looks(), asides(rows["arrivals"], len(names)), strict=False):
                mean_line(axis, rows[rows["method"] == name], "arrivals", "gain_per_user", aside, label=name, **look)
            axis.axhline(0, color="0.6", linewidth=1)
            axis.set(title=words, ylabel="gain over all local\nper request, s")
            axis.set_ylim(bottom=max(axis.get_ylim()[0], -5))
        axes[1].set(xlabel="arrivals per second", xticks=sorted(table["arrivals"].unique()))
    return legend_below(figure, columns=3)


def judge(table: pd.DataFrame) -> list[Check]:
    """What each way to decide gets of hindsight at the highest rate, and whether it matters at the lowest."""
    many, few = int(table["arrivals"].max()), int(table["arrivals"].min())
    return [
        _check(table, FIXED_WORDS, many, "many arrivals"),
        _check(table, MOVING_WORDS, many, "many arrivals"),
        _check(table, FIXED_WORDS, few, "few arrivals"),
    ]


def _check(table: pd.DataFrame, words: str, arrivals: int, what: str) -> Check:
    here = table[(table["gpus"] == words) & (table["arrivals"] == arrivals)]
    shares = here.groupby("method")["share_of_hindsight"].mean().to_dict()
    told = ", ".join(f"{name} {shares[name]:.1%}" for name in WAYS if name in shares)
    claim = f"Rounds that overlap, {what}, {words}."
    return Check(claim, FINDING, f"share of what {HINDSIGHT} gains at {arrivals} arrivals a second: {told}")


TIME = Experiment(name="time", points=lambda size: size.arrivals, cases=lambda size: size.worlds, rows=rows_of)
BEYOND_TIME = Exhibit(
    name="beyond_time",
    title="Beyond: rounds that overlap",
    experiment=TIME,
    table=rows_as_they_are,
    draw=draw,
    judge=judge,
)

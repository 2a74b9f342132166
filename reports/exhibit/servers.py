"""Beyond the paper: several servers, and what is lost without exchanges of users between them."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ...optimizer.methods.ilp import OPTIMAL
from ...optimizer.model.qoe import Scenario
from ...optimizer.model.servers import SharedModel
from ...optimizer.planner import compare
from ..basis.beside import share_cells
from ..basis.checks import FINDING, Check, judged
from ..basis.definitions import Exhibit, Experiment, PeopleTable, rows_as_they_are
from ..basis.fleets import WIDE_HZ, draw_fleet, draw_users, later
from ..basis.look import USERS, asides, framed, legend_below, line_looks, mean_line
from ..basis.scoring import Row, plan_row
from ..basis.setup import ROUND_USERS, Setup

EXACT, GENETIC = "assign-exact", "genetic-assign"
METHODS = ("assign", "greedy", "server-by-server", "nearest", EXACT)
USER_COUNTS = (5, 10, 20, 40)
GENETIC_CASES = 2
"""Cases of 20 users at each number of servers that the genetic algorithm plans too; each takes it seconds."""
KINDS = 3
"""Models of which every server hosts one in the last regime, and clusters of users."""
ONE_OF_THREE = "one model of three"
REGIMES: dict[str, dict[str, Any]] = {
    "the scenario's radio": {},
    "20 MHz": {"bandwidth_hz": WIDE_HZ},
    "no radio, one GPU": {"gpus": 1, "latent_bits": 0.0, "prompt_bits": 0.0},
    ONE_OF_THREE: {"bandwidth_hz": WIDE_HZ},
}
"""What differs from the scenario at every server; cases take turns."""
STATED = {"greedy": (0.002, 0.025, 0.08), "nearest": (0.05, 0.28, 0.53)}
"""What our own earlier trials say that a method loses: least and largest average of a regime, and worst case."""
MOST_OF_ASSIGN = 0.0005
"""Share of the gain that `assign` may lose on average by its own target."""


def rows_of(setup: Setup, servers: int, number: int) -> Iterator[Row]:
    """One case at this number of servers, for every number of users: what each method captures of the optimum."""
    regime = list(REGIMES)[(number + servers) % len(REGIMES)]
    kinds = KINDS if regime == ONE_OF_THREE else 1
    for users in USER_COUNTS:
        size = users, servers
        fleet = draw_fleet(setup, _models(setup.scenario, kinds), size, number, one_each=True, **REGIMES[regime])
        methods = [*METHODS, GENETIC] if users == ROUND_USERS and number < GENETIC_CASES else METHODS
        drawn, choices = draw_users(setup, kinds, size, number), setup.choices.options_of(*methods)
        outcomes = compare(fleet, drawn, methods, **choices)
        facts = {"servers": servers, "users": users, "case": number, "regime": regime}
        yield from ({**facts, "method": o.method, **plan_row(o.score), "note": o.plan.note} for o in outcomes)


def _models(scenario: Scenario, kinds: int) -> list[SharedModel]:
    """One model for everybody, or one for each cluster."""
    return [
        SharedModel(
            name=f"model-{c}", size_bytes=0.0, clusters=(c,) if kinds > 1 else (), pai=scenario.pai,
            pai_others=later(scenario), base=c,
        )
        for c in range(kinds)
    ]  # fmt: skip


def draw(table: pd.DataFrame) -> Any:
    """The mean share of the optimum's gain that each method loses, against servers above and against users below."""
    shown = table.assign(lost=100 * (1 - table["captured_share"]))
    names = [name for name in METHODS if name != EXACT]
    with framed(rows=2, height=6.2) as (figure, axes):
        for axis, x, label in zip(axes, ("servers", "users"), ("edge servers", USERS), strict=True):
            places = sorted(shown[x].unique())
            placed = shown.assign(place=shown[x].map(places.index))
            for name, look, aside in zip(names, line_looks(), asides(placed["place"], len(names)), strict=False):
                mean_line(axis, placed[placed["method"] == name], "place", "lost", aside, label=name, **look)
            axis.set(xlabel=label, ylabel="lost of the optimum's gain, %")
            axis.set_xticks(range(len(places)), [str(place) for place in places])
    return legend_below(figure)


def judge(table: pd.DataFrame) -> list[Check]:
    """Our own statements on greedy and nearest-server planning, the target of `assign`, and what the others lose."""
    return [
        *(_stated(table, method) for method in STATED),
        _assign(table),
        _lost(table, "server-by-server", "One server planning after the other."),
        _lost(table, GENETIC, "A genetic algorithm with one gene for each user."),
        _proven(table),
    ]


def _stated(table: pd.DataFrame, method: str) -> Check:
    """Whether a method's average loss lies in the stated range in each regime, and its worst below the stated one."""
    low, high, worst = STATED[method]
    lost = _losses(table, method)
    means = lost.groupby(table["regime"], sort=False).mean()
    by_regime = ", ".join(f"{regime} {share:.2%}" for regime, share in means.items())
    return Check(
        f"{method} loses {low:.1%} to {high:.1%} of the gain on average, as the regime is, and {worst:.0%} at worst.",
        judged([*(low <= share <= high for share in means), bool(lost.max() <= worst)]),
        f"on average {lost.mean():.2%} ({by_regime}), in one of 20 cases more than {lost.quantile(0.95):.2%}, at worst "
        f"{lost.max():.1%} of {len(lost)} cases",
    )


def _losses(table: pd.DataFrame, method: str) -> "pd.Series[float]":
    """The share of the optimum's gain that a method loses in every case."""
    return 1 - table.loc[table["method"] == method, "captured_share"]


def _assign(table: pd.DataFrame) -> Check:
    lost = _losses(table, "assign")
    return Check(
        f"assign loses {MOST_OF_ASSIGN:.2%} at most on average.",
        judged([bool(lost.mean() <= MOST_OF_ASSIGN)]),
        f"on average {lost.mean():z.4%}, at worst {lost.max():z.3%}; nothing in {(lost <= 1e-9).mean():.1%} of "
        f"{len(lost)} cases",
    )


def _lost(table: pd.DataFrame, method: str, claim: str) -> Check:
    lost = _losses(table, method)
    evidence = f"{method} loses on average {lost.mean():.2%}, at worst {lost.max():.1%} of {len(lost)} cases"
    return Check(claim, FINDING, evidence if len(lost) else f"{method} was not asked")


def _proven(table: pd.DataFrame) -> Check:
    notes = table.loc[table["method"] == EXACT, "note"]
    evidence = f"{EXACT} proves the optimum in {int(notes.str.startswith(OPTIMAL).sum())} of {len(notes)} cases; where "
    return Check("Measured against the optimum.", FINDING, evidence + "it does not, losses are to its bound")


def for_people(table: pd.DataFrame) -> PeopleTable:
    """What every method captures over all cases."""
    share = table.groupby("method")["captured_share"]
    known = [name for name in (*METHODS, GENETIC) if name in share.groups]
    head, rows = share_cells({name: share.get_group(name) for name in known})
    return PeopleTable(caption="Captured share of the optimum's gain over all local.", head=head, rows=rows)


SERVERS = Experiment(name="servers", points=lambda size: size.servers, cases=lambda size: size.cases, rows=rows_of)
BEYOND_SERVERS = Exhibit(
    name="beyond_servers",
    title="Beyond: several servers",
    experiment=SERVERS,
    table=rows_as_they_are,
    draw=draw,
    judge=judge,
    for_people=for_people,
)

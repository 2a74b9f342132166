"""Fig. 11: the proposed method against branch and bound and the genetic algorithm, each beside the optimum."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd

from ...optimizer.methods.registry import DEFAULT_METHOD
from ..basis.beside import Claim, shares_for_people, with_networks
from ..basis.checks import FINDING, TINY, Check, count_proven, judged
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.look import QOE, USERS, boxes, framed, legend_below, method_lines, method_looks
from ..basis.scoring import Row, compared
from ..basis.setup import Setup
from ..basis.unserved import notes_of, remarks_on, with_remarks

BRANCH_AND_BOUND = "ilp-fixed"
"""With our own program, since all programs have one optimum; Table 1 has the times of those that the paper cites."""
GENES = {"genetic-joint": "split a gene", "genetic": "split inside"}
"""Both readings of the genetic algorithm."""
MEMETIC = "memetic"
PEERS = (BRANCH_AND_BOUND, "genetic", "genetic-joint", MEMETIC)


def rows_of(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """One case with this number of users: the proposed method, the optimum and the peers."""
    drawn = setup.case(users, number)
    rows = compared(setup, drawn.scenario, drawn.users, dict(zip(PEERS, PEERS, strict=True)))
    yield from ({"users": users, "case": number, **row} for row in rows)


def draw(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> Any:
    """Average QoE against users; below, the captured share of every case."""
    users = sorted(table["users"].unique())
    shown = table.assign(place=table["users"].map(users.index), share=100 * table["captured_share"])
    with framed(rows=2, height=6.2, sharex=True) as (figure, axes):
        method_lines(axes[0], shown, "place", "qoe_per_user", proposed)
        boxes(axes[1], shown, "place", "share", "method", method_looks(table, proposed))
        axes[0].set(ylabel=QOE, xlabel="")
        axes[1].set(xlabel=USERS, ylabel="captured share, %")
        axes[1].set_xticks(range(len(users)), [str(count) for count in users])
    return legend_below(figure)


def judge(table: pd.DataFrame, proposed: str = DEFAULT_METHOD) -> list[Check]:
    """Beats: the higher average at each number of users.

    Poorest and least stable: mean and standard deviation of the captured share over all cases, against the proposed
    method and branch & bound.
    """
    rivals = {BRANCH_AND_BOUND: "branch & bound, split fixed"}
    rivals |= {name: f"the genetic algorithm, {words}" for name, words in GENES.items()}
    claims: list[Claim] = [
        *(partial(_beats, rival=rival, words=words) for rival, words in rivals.items()),
        *(partial(_poorest, gene=gene) for gene in GENES),
        *(partial(_least_stable, gene=gene) for gene in GENES),
        _optimal,
    ]
    beside = (with_remarks(check, notes_of(table, proposed), proposed) for check in _general_purpose(table, proposed))
    return [*(with_networks(claim, table, proposed, "users") for claim in claims), *beside]


def _beats(table: pd.DataFrame, proposed: str, rival: str, words: str) -> Check:
    """Whether the proposed method's average lies above a rival's at each number of users."""
    ahead = _ahead(table, proposed, rival)
    notes = table.loc[table["method"] == rival, "note"].fillna("")
    proven = f"; {count_proven(notes)}" if notes.any() else ""
    return Check(
        f"The proposed method beats {words}.",
        judged(ahead > TINY),
        f"the higher average at {int((ahead > TINY).sum())} of {len(ahead)} numbers of users, by {ahead.min():+.3g} to "
        f"{ahead.max():+.3g} s per user{proven}",
    )


def _ahead(table: pd.DataFrame, method: str, rival: str) -> "pd.Series[float]":
    """How much a method's average lies above a rival's at each number of users, seconds per user."""
    wide = table.pivot_table(index="users", columns="method", values="qoe_per_user")
    return wide[method] - wide[rival]


def _poorest(table: pd.DataFrame, proposed: str, gene: str) -> Check:
    """Whether a reading of the genetic algorithm captures the least on average."""
    mean = table.groupby("method")["captured_share"].mean()
    return Check(
        f"The genetic algorithm's average is the poorest ({GENES[gene]}).",
        judged([bool(mean[gene] < mean[[proposed, BRANCH_AND_BOUND]].min() - TINY)]),
        f"captured on average {mean[gene]:.3%}, proposed {mean[proposed]:.3%}, branch & bound "
        f"{mean[BRANCH_AND_BOUND]:.3%}",
    )


def _least_stable(table: pd.DataFrame, proposed: str, gene: str) -> Check:
    """Whether the captured share of a reading of the genetic algorithm varies the most."""
    spread = table.groupby("method")["captured_share"].std().fillna(0.0)
    return Check(
        f"The genetic algorithm is the least stable ({GENES[gene]}).",
        judged([bool(spread[gene] > spread[[proposed, BRANCH_AND_BOUND]].max() + TINY)]),
        f"standard deviation of the captured share {spread[gene]:.4f}, proposed {spread[proposed]:.4f}, branch & bound "
        f"{spread[BRANCH_AND_BOUND]:.4f}",
    )


def _optimal(table: pd.DataFrame, proposed: str) -> Check:
    """Whether the proposed method captures everything in every case."""
    own = table.loc[table["method"] == proposed, "captured_share"]
    evidence = (
        f"the optimum in {(own >= 1 - TINY).mean():.1%} of cases; captured {own.mean():.3%}, at least {own.min():.2%}"
    )
    return Check("The proposed method is optimal.", judged([bool((own >= 1 - TINY).all())]), evidence)


def _general_purpose(table: pd.DataFrame, proposed: str) -> list[Check]:
    """How a general-purpose search for the GQAP does, of which the paper says nothing."""
    own = table.loc[table["method"] == MEMETIC, "captured_share"]
    if own.empty or proposed == MEMETIC:
        return []
    ahead = _ahead(table, MEMETIC, proposed)
    evidence = (
        f"captured {own.mean():.3%}, at least {own.min():.2%}; above the proposed method's average at "
        f"{int((ahead > TINY).sum())} of {len(ahead)} numbers of users"
    )
    return [Check("A general-purpose memetic search beside them.", FINDING, evidence)]


BY_PEERS = Experiment(name="peers", points=lambda size: size.users, cases=lambda size: size.slow_cases, rows=rows_of)


def fig11(proposed: str) -> Exhibit:
    """Fig. 11 with this method as the proposed one."""
    return Exhibit(
        name="fig11",
        title="Fig. 11: the proposed method and its peers",
        claims="It beats branch & bound and the genetic algorithm, which is the poorest and least stable.",
        experiment=BY_PEERS,
        table=rows_as_they_are,
        draw=partial(draw, proposed=proposed),
        judge=partial(judge, proposed=proposed),
        for_people=partial(shares_for_people, proposed=proposed),
        remarks=partial(remarks_on, proposed=proposed),
    )

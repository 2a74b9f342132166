"""Fig. 11: the proposed method against branch and bound and the genetic algorithm, each beside the optimum."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd

from ...optimizer.methods.registry import DEFAULT_METHOD
from ..basis.checks import TINY, Check, count_proven, judged
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.look import QOE, USERS, boxes, framed, legend_below, method_lines, method_looks
from ..basis.scoring import Row, compared
from ..basis.setup import Setup
from ..basis.unserved import notes_of, remarks_on, with_remarks

BRANCH_AND_BOUND = "ilp-fixed"
GENES = {"genetic-joint": "split a gene", "genetic": "split inside"}
"""Both readings of the genetic algorithm."""
PEERS = (BRANCH_AND_BOUND, "genetic", "genetic-joint")


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
    beaten = [_beats(table, rival, words, proposed) for rival, words in rivals.items()]
    checks = [*beaten, *_poorest(table, proposed), *_least_stable(table, proposed), _optimal(table, proposed)]
    return [with_remarks(check, notes_of(table, proposed), proposed) for check in checks]


def _beats(table: pd.DataFrame, rival: str, words: str, proposed: str) -> Check:
    """Whether the proposed method's average lies above a rival's at each number of users."""
    wide = table.pivot_table(index="users", columns="method", values="qoe_per_user")
    ahead = wide[proposed] - wide[rival]
    notes = table.loc[table["method"] == rival, "note"].fillna("")
    proven = f"; {count_proven(notes)}" if notes.any() else ""
    return Check(
        f"The proposed method beats {words}.",
        judged(ahead > TINY),
        f"the higher average at {int((ahead > TINY).sum())} of {len(ahead)} numbers of users, by {ahead.min():+.3g} to "
        f"{ahead.max():+.3g} s per user{proven}",
    )


def _poorest(table: pd.DataFrame, proposed: str) -> list[Check]:
    """Whether each reading of the genetic algorithm captures the least on average."""
    mean = table.groupby("method")["captured_share"].mean()
    others = f"proposed {mean[proposed]:.3%}, branch & bound {mean[BRANCH_AND_BOUND]:.3%}"
    return [
        Check(
            f"The genetic algorithm's average is the poorest ({words}).",
            judged([bool(mean[name] < mean[[proposed, BRANCH_AND_BOUND]].min() - TINY)]),
            f"captured on average {mean[name]:.3%}, {others}",
        )
        for name, words in GENES.items()
    ]


def _least_stable(table: pd.DataFrame, proposed: str) -> list[Check]:
    """Whether the captured share of each reading of the genetic algorithm varies the most."""
    spread = table.groupby("method")["captured_share"].std().fillna(0.0)
    others = f"proposed {spread[proposed]:.4f}, branch & bound {spread[BRANCH_AND_BOUND]:.4f}"
    return [
        Check(
            f"The genetic algorithm is the least stable ({words}).",
            judged([bool(spread[name] > spread[[proposed, BRANCH_AND_BOUND]].max() + TINY)]),
            f"standard deviation of the captured share {spread[name]:.4f}, {others}",
        )
        for name, words in GENES.items()
    ]


def _optimal(table: pd.DataFrame, proposed: str) -> Check:
    """Whether the proposed method captures everything in every case."""
    own = table.loc[table["method"] == proposed, "captured_share"]
    evidence = (
        f"the optimum in {(own >= 1 - TINY).mean():.1%} of cases; captured {own.mean():.3%}, at least {own.min():.2%}"
    )
    return Check("The proposed method is optimal.", judged([bool((own >= 1 - TINY).all())]), evidence)


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
        remarks=partial(remarks_on, proposed=proposed),
    )

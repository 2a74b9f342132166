"""Claims about the proposed method, with the verdicts for DRL-convex's other networks beside them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pandas as pd

from .checks import TINY, Check
from .definitions import PeopleTable
from .look import method_look, methods_in
from .policies import NETWORKS
from .unserved import notes_of, planned_exactly, share_exact, with_remarks

Claim = Callable[[pd.DataFrame, str], Check]
"""A claim about the method of this name in a table."""


def with_networks(claim: Claim, table: pd.DataFrame, proposed: str, x: str) -> Check:
    """The verdict on the proposed method, and in words those on the other networks at the points where they plan.

    Args:
        claim: function that judges any method of the table as if it were the proposed one.
        table: rows with the columns `method`, x and `note`, which may be missing.
        proposed: name of the proposed method.
        x: column of the horizontal axis.
    """
    own = claim(table, proposed)
    words = "; ".join(_words(claim, table, x))
    beside = replace(own, evidence=f"{own.evidence}; beside it: {words}") if words else own
    return with_remarks(beside, notes_of(table, proposed), proposed)


def _words(claim: Claim, table: pd.DataFrame, x: str) -> Iterator[str]:
    """Name and verdict of every other network."""
    for name, (label, _) in NETWORKS.items():
        points = table.loc[table["method"] == name, x].unique()
        if len(points) and not notes_of(table, name).map(planned_exactly).all():
            yield f"{label} {claim(table[table[x].isin(points)], name).verdict}"


def shares_for_people(table: pd.DataFrame, proposed: str) -> PeopleTable:
    """What every method captures of the possible gain over all cases of a table."""
    share = table.groupby("method")["captured_share"]
    named = {
        method_look(name, proposed)["label"].replace(r"$\hat{N}$", "N-hat")
        + share_exact(notes_of(table, name)): share.get_group(name)
        for name in methods_in(table, proposed)
    }
    head, rows = share_cells(named)
    return PeopleTable(
        caption="Captured share of what offloading can gain over all local.",
        head=head,
        rows=rows,
    )


def share_cells(shares: Mapping[str, "pd.Series[float]"]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a table of captured shares, a row for each method by its name for people."""
    head = ["method", "mean", "5th percentile", "least", "at the optimum", "cases"]
    rows = [
        [
            name,
            f"{100 * own.mean():.3f} %",
            f"{100 * own.quantile(0.05):.2f} %",
            f"{100 * own.min():.2f} %",
            f"{(own >= 1 - TINY).mean():.1%}",
            str(len(own)),
        ]
        for name, own in shares.items()
    ]
    return head, rows

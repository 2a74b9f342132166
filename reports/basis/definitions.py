"""What an exhibit is, a figure or a table of the paper, and the experiment that its rows come from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from .checks import Check
from .look import titled
from .scoring import Row
from .setup import Setup, Size, Sources


class Unit(NamedTuple):
    """One piece of work: an experiment, a point of its horizontal axis, and the number of a case."""

    experiment: str
    point: int
    case: int


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Random cases, each computed from its numbers alone, in any order and in any process.

    Attributes:
        name: name under which the rows are kept.
        points: function that gives the points of the horizontal axis.
        cases: function that gives the number of cases at each point.
        rows: function that computes the rows of one case from the setup, the point and the number of the case.
        alone: whether the cases are measured one after another, with nothing else at work.
    """

    name: str
    points: Callable[[Size], Sequence[int]]
    cases: Callable[[Size], int]
    rows: Callable[[Setup, int, int], Iterable[Row]]
    alone: bool = False

    def units(self, size: Size) -> list[Unit]:
        """All pieces of work."""
        return [Unit(self.name, point, case) for point in self.points(size) for case in range(self.cases(size))]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the table of an exhibit is made from.

    Attributes:
        setup: numbers of the reproduction.
        sources: parameter files.
        rows: rows of the exhibit's experiment; empty where it has none.
        latency_goal_s: wanted average latency in seconds, None if there is none.
    """

    setup: Setup
    sources: Sources
    rows: pd.DataFrame
    latency_goal_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class PeopleTable:
    """A table that the report shows beside the picture, every cell a text.

    Attributes:
        caption: sentence above the table.
        head: headings of the columns.
        rows: cells, one sequence for each row.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One figure or table.

    Attributes:
        name: stem of its files' names.
        title: heading in the report.
        claims: what the paper says, in our words; empty where it says nothing.
        table: function that makes the tidy table, which is written as CSV.
        draw: function that draws the table; it returns a matplotlib figure and computes nothing.
        judge: function that sets the paper's claims beside the numbers of the table.
        experiment: random cases that the table needs, None if it needs none.
        for_people: function that makes a table for the report, None if the picture is enough.
        remarks: function that says of which cases the proposed method's plans are not its own, "" for none; None
            where its plans do not count.
    """

    name: str
    title: str
    claims: str = ""
    table: Callable[[Material], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Any]
    judge: Callable[[pd.DataFrame], list[Check]]
    experiment: Experiment | None = None
    for_people: Callable[[pd.DataFrame], PeopleTable] | None = None
    remarks: Callable[[pd.DataFrame], str] | None = None

    def picture(self, table: pd.DataFrame) -> Any:
        """The drawn table under the exhibit's title; a matplotlib figure."""
        return titled(self.draw(table), self.title)

    def remarks_on(self, table: pd.DataFrame) -> str:
        """What has to be said of the proposed method's plans in its table, "" where that is nothing."""
        return self.remarks(table) if self.remarks else ""


def rows_as_they_are(material: Material) -> pd.DataFrame:
    """The table of an exhibit that shows the rows of its experiment unchanged."""
    return material.rows

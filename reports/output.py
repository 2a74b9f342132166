"""What `reproduce` writes and prints: tables, pictures, verdicts and both reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ..common.figures import save_figure
from ..common.files import whole_file
from ..common.tables import plain_table, print_table
from .basis.checks import FINDING, HOLDS, overall
from .basis.definitions import Exhibit
from .page import JudgedExhibit, render
from .summary import summary

REPORT, SUMMARY, VERDICTS = "report.html", "summary.md", "verdicts.csv"


def write_exhibits(
    tables: Sequence[tuple[Exhibit, pd.DataFrame]], folder: Path, facts: Mapping[str, str]
) -> list[JudgedExhibit]:
    """Write the table and the picture of every exhibit, all verdicts and the reports.

    Args:
        tables: every exhibit with its table, in the order of the report.
        folder: existing folder for the files.
        facts: what the numbers were made from, by name.

    Returns:
        Every exhibit with its picture and its verdict.
    """
    judged = [_written(exhibit, table, folder) for exhibit, table in tables]
    _write_csv(folder / VERDICTS, _verdicts(judged))
    with whole_file(folder / REPORT) as handle:
        handle.write(render(judged, facts))
    with whole_file(folder / SUMMARY) as handle:
        handle.write(summary(judged, facts))
    return judged


def _written(exhibit: Exhibit, table: pd.DataFrame, folder: Path) -> JudgedExhibit:
    """An exhibit whose table and picture are written."""
    _write_csv(folder / f"{exhibit.name}.csv", table)
    figure, picture = exhibit.picture(table), folder / f"{exhibit.name}.png"
    for path in (picture.with_suffix(".svg"), picture):
        save_figure(path, figure)
    for_people = exhibit.for_people(table) if exhibit.for_people else None
    return JudgedExhibit(exhibit=exhibit, png=picture.read_bytes(), checks=exhibit.judge(table), table=for_people)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as handle:
        table.to_csv(handle, index=False, lineterminator="\n")


def _verdicts(judged: Sequence[JudgedExhibit]) -> pd.DataFrame:
    """A row for every claim."""
    return pd.DataFrame(
        [{"exhibit": entry.exhibit.name, **asdict(check)} for entry in judged for check in entry.checks]
    )


def print_json(judged: Sequence[JudgedExhibit]) -> None:
    """The verdicts as JSON, one object for every exhibit."""
    rows = [
        {
            "title": entry.exhibit.title,
            "verdict": overall(entry.checks),
            "checks": [asdict(check) for check in entry.checks],
        }
        for entry in judged
    ]
    print(json.dumps(rows, indent=2))


def print_verdicts(judged: Sequence[JudgedExhibit]) -> None:
    """The verdicts as a table for people, with the number of claims that hold."""
    table = plain_table("figure", "verdict", right_from=2)
    for entry in judged:
        claims = [check.verdict for check in entry.checks if check.verdict != FINDING]
        count = f" ({claims.count(HOLDS)} of {len(claims)} claims)" if claims else ""
        table.add_row(entry.exhibit.title, overall(entry.checks) + count)
    print_table(table)

"""The report as Markdown: nothing that a name holds becomes HTML, a table's border or a new line."""

import pandas as pd

from edgesplit.reports.basis.checks import FINDING, HOLDS, Check
from edgesplit.reports.basis.definitions import Exhibit, PeopleTable
from edgesplit.reports.page import JudgedExhibit, render
from edgesplit.reports.summary import summary

NAME = "<img src=x onerror=alert(1)>|a\nb & <b>c</b>"


def judged():
    exhibit = Exhibit(name="fig", title=NAME, table=pd.DataFrame, draw=lambda table: None, judge=lambda table: [])
    checks = [Check(NAME, HOLDS, NAME), Check(NAME, FINDING, NAME)]
    return [
        JudgedExhibit(
            exhibit=exhibit, png=b"", checks=checks, table=PeopleTable(caption=NAME, head=[NAME], rows=[[NAME]])
        )
    ]


def test_names_are_no_html_in_either_report():
    for text in (summary(judged(), {"policy": NAME}), render(judged(), {"policy": NAME})):
        assert "<img src=x" not in text
        assert "<b>c" not in text
        assert "&lt;b" in text


def test_a_name_is_one_cell_and_one_line():
    lines = summary(judged(), {"policy": NAME}).splitlines()
    assert not any(line.startswith("b &") for line in lines)
    (facts,) = [line for line in lines if line.startswith("| policy")]
    assert facts.count("|") == 3

"""The report: one HTML file with the pictures in it, that needs no network and no script."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from .exhibits import Exhibit
from .verdicts import FINDING, HOLDS, NOT, PARTLY, Check, duration, overall

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 75rem;
  padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin: 0 0 .5rem; line-height: 1.3; }
a { color: #0b5cad; }
section { border-top: 1px solid #ddd; padding: 1.5rem 0; display: grid; gap: 1rem 2rem; }
section > div, section > figure { min-width: 0; }
@media (min-width: 60rem) {
  section { grid-template-columns: 35rem 1fr; } section > h2, section > .wide { grid-column: 1 / -1; }
}
figure { margin: 0; } img { width: 100%; min-width: 32rem; height: auto; display: block; }
figcaption { font-size: .875rem; color: #555; }
.scroll { overflow-x: auto; } .wide td { white-space: nowrap; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee; vertical-align: top; }
ul { padding-left: 0; list-style: none; margin: .5rem 0; } li { margin: 0 0 .6rem; }
.verdict { display: inline-block; padding: 0 .5em; border-radius: .25em; font-size: .8125rem; font-weight: 600;
  white-space: nowrap; border: 1px solid; }
.holds { color: #005a9c; background: #e8f2fb; } .partly { color: #6b5200; background: #fdf3d0; }
.not { color: #9a3b00; background: #fdeade; } .finding { color: #444; background: #f0f0f0; }
.evidence { color: #444; font-size: .9rem; overflow-wrap: anywhere; }
"""
CLASSES = {HOLDS: "holds", PARTLY: "partly", NOT: "not", FINDING: "finding"}


@dataclass(frozen=True)
class Entry:
    """An exhibit of the report.

    Attributes:
        exhibit: what it is.
        png: its picture.
        checks: its claims, judged.
        table: shown as a table too, where there is one.
    """

    exhibit: Exhibit
    png: bytes
    checks: Sequence[Check]
    table: pd.DataFrame | None = None


def render(entries: Sequence[Entry], facts: Mapping[str, str]) -> str:
    """The page.

    Args:
        entries: in order.
        facts: what the numbers were made from, by name.
    """
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
        f"<title>edgesplit: the paper's figures, reproduced</title><style>{STYLE}</style></head><body>",
        "<h1>The paper's figures, reproduced</h1>",
        "<p>Every figure and table of <i>Efficient Multi-user Offloading of Personalized Diffusion Models</i> "
        "(arXiv 2411.15781) from edgesplit's own parameter files. Verdicts are computed from the tables that are "
        "drawn, which lie beside this page as CSV.</p>",
        _facts(facts),
        _summary(entries),
        *(_section(entry) for entry in entries),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f'<div class="scroll"><table>{rows}</table></div>'


def _summary(entries: Sequence[Entry]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{entry.exhibit.name}">{escape(entry.exhibit.title)}</a></td>'
        f"<td>{_badge(overall(entry.checks))}</td></tr>"
        for entry in entries
    )
    return f'<h2 style="margin-top:1.5rem">Verdicts</h2><div class="scroll"><table>{rows}</table></div><br>'


def _section(entry: Entry) -> str:
    name, title = entry.exhibit.name, escape(entry.exhibit.title)
    paper = f"<p><b>The paper:</b> {escape(entry.exhibit.claims)}</p>" if entry.exhibit.claims else ""
    return "\n".join(
        [
            f'<section id="{name}"><h2>{title} {_badge(overall(entry.checks))}</h2>',
            '<figure><div class="scroll">',
            f'<img src="data:image/png;base64,{b64encode(entry.png).decode()}" alt="{title}" width="560"></div>',
            f'<figcaption>Data: <a href="{name}.csv">{name}.csv</a>; <a href="{name}.svg">{name}.svg</a></figcaption>',
            "</figure>",
            f"<div>{paper}<ul>{''.join(map(_check, entry.checks))}</ul></div>",
            "" if entry.table is None else _methods(entry.table),
            "</section>",
        ]
    )


def _check(check: Check) -> str:
    return f'<li>{_badge(check.verdict)} {escape(check.claim)}<div class="evidence">{escape(check.evidence)}</div></li>'


def _badge(verdict: str) -> str:
    return f'<span class="verdict {CLASSES[verdict]}">{verdict}</span>'


def method_rows(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Table 1 for people: a row per method; per number of users the time and the share captured in it."""
    users = sorted(table["users"].unique())
    cells = {(row.method, row.users): _cell(row) for row in table[table["seconds"].notna()].itertuples()}
    head = ["method", "the paper", "time ~ I^p", *(f"{count:,} users" for count in users)]
    rows = [
        [
            str(rows["name"].iloc[0]),
            str(rows["stated"].iloc[0]),
            f"{slope:.2f}" if np.isfinite(slope := rows["slope"].iloc[0]) else "-",
            *(cells.get((method, count), "-") for count in users),
        ]
        for method, rows in table.groupby("method", sort=False)
    ]
    return head, rows


def _cell(row: Any) -> str:
    return f"{duration(row.seconds)}, {100 * row.captured_share:.4g} %" + (", time limit" if row.cut else "")


def _methods(table: pd.DataFrame) -> str:
    head, rows = method_rows(table)
    lines = [_line(head, "th"), *(_line(row, "td") for row in rows)]
    words = "Planning time, and the share of the possible gain that the plan captures: a time counts only beside it."
    return f'<div class="scroll wide"><p class="evidence">{words}</p><table>{"".join(lines)}</table></div>'


def _line(cells: Sequence[str], kind: str) -> str:
    parts = (escape(cell).replace(", ", "<br>") for cell in cells)
    return f"<tr>{''.join(f'<{kind}>{part}</{kind}>' for part in parts)}</tr>"

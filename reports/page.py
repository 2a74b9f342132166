"""The report: one HTML file with the pictures in it, which needs no network and no script."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .basis.checks import FINDING, HOLDS, NOT, PARTLY, Check, overall
from .basis.definitions import Exhibit, PeopleTable

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 75rem;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin: 0 0 .5rem; line-height: 1.3; }
a { color: #0b5cad; }
section { border-top: 1px solid #ddd; padding: 1.5rem 0; display: grid; gap: 1rem 2rem; }
section > * { min-width: 0; }
@media (min-width: 60rem) {
  section { grid-template-columns: 32rem 1fr; } section > h2, section > .wide { grid-column: 1 / -1; }
}
figure { margin: 0; } img { width: 100%; max-width: 32rem; height: auto; display: block; }
figcaption { font-size: .875rem; color: #555; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee; vertical-align: top; }
.facts th { overflow-wrap: normal; }
@media (max-width: 72rem) {
  .wide thead { display: none; } .wide table, .wide tbody, .wide tr, .wide td { display: block; }
  .wide tr { padding: .5rem 0; border-bottom: 1px solid #ddd; } .wide td { padding: 0; border: 0; }
  .wide td:first-child { font-weight: 600; } .wide td:first-child::before { content: ""; }
  .wide td::before { content: attr(data-head) ": "; color: #555; } .wide br { display: none; }
  .wide br + span::before { content: ", "; }
}
ul { padding-left: 0; list-style: none; margin: .5rem 0; } li { margin: 0 0 .6rem; }
.verdict { display: inline-block; padding: 0 .5em; border-radius: .25em; font-size: .8125rem; font-weight: 600;
  white-space: nowrap; border: 1px solid; }
.holds { color: #005a9c; background: #e8f2fb; } .partly { color: #6b5200; background: #fdf3d0; }
.not { color: #9a3b00; background: #fdeade; } .finding { color: #444; background: #f0f0f0; }
.evidence { color: #444; font-size: .9rem; }
"""
"""The look of the page. Nothing scrolls sideways: on a narrow screen the cells of a wide table stand one below the
other, each behind the heading of its column."""
CLASSES = {HOLDS: "holds", PARTLY: "partly", NOT: "not", FINDING: "finding"}


@dataclass(frozen=True, kw_only=True)
class JudgedExhibit:
    """An exhibit of the report with its picture and its verdict.

    Attributes:
        exhibit: the figure or table.
        png: its picture, the bytes of a PNG file.
        checks: the paper's claims and our findings, judged.
        table: table that is shown beside the picture, None if there is none.
    """

    exhibit: Exhibit
    png: bytes
    checks: Sequence[Check]
    table: PeopleTable | None = None


def render(judged: Sequence[JudgedExhibit], facts: Mapping[str, str]) -> str:
    """The page as HTML.

    Args:
        judged: every exhibit, in order.
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
        _summary(judged),
        *(_section(entry) for entry in judged),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f'<table class="facts">{rows}</table>'


def _summary(judged: Sequence[JudgedExhibit]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{entry.exhibit.name}">{escape(entry.exhibit.title)}</a></td>'
        f"<td>{_badge(overall(entry.checks))}</td></tr>"
        for entry in judged
    )
    return f'<h2 style="margin-top:1.5rem">Verdicts</h2><table>{rows}</table><br>'


def _section(entry: JudgedExhibit) -> str:
    name, title = entry.exhibit.name, escape(entry.exhibit.title)
    paper = f"<p><b>The paper:</b> {escape(entry.exhibit.claims)}</p>" if entry.exhibit.claims else ""
    return "\n".join(
        [
            f'<section id="{name}"><h2>{title} {_badge(overall(entry.checks))}</h2>',
            "<figure>",
            f'<img src="data:image/png;base64,{b64encode(entry.png).decode()}" alt="{title}" width="512">',
            f'<figcaption>Data: <a href="{name}.csv">{name}.csv</a>; <a href="{name}.svg">{name}.svg</a></figcaption>',
            "</figure>",
            f"<div>{paper}<ul>{''.join(map(_check, entry.checks))}</ul></div>",
            _people_table(entry.table) if entry.table else "",
            "</section>",
        ]
    )


def _check(check: Check) -> str:
    return f'<li>{_badge(check.verdict)} {escape(check.claim)}<div class="evidence">{escape(check.evidence)}</div></li>'


def _badge(verdict: str) -> str:
    return f'<span class="verdict {CLASSES[verdict]}">{verdict}</span>'


def _people_table(table: PeopleTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(f"<tr>{_cells(table.head, row)}</tr>" for row in table.rows)
    lines = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="wide"><p class="evidence">{escape(table.caption)}</p><table>{lines}</table></div>'


def _cells(head: Sequence[str], row: Sequence[str]) -> str:
    """The cells of a row; the parts of a cell stand on lines of their own."""
    parts = ("<br>".join(f"<span>{part}</span>" for part in escape(cell).split(", ")) for cell in row)
    return "".join(f'<td data-head="{escape(name)}">{part}</td>' for name, part in zip(head, parts, strict=True))

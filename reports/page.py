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
    return f'<div class="scroll"><table>{rows}</table></div>'


def _summary(judged: Sequence[JudgedExhibit]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{entry.exhibit.name}">{escape(entry.exhibit.title)}</a></td>'
        f"<td>{_badge(overall(entry.checks))}</td></tr>"
        for entry in judged
    )
    return f'<h2 style="margin-top:1.5rem">Verdicts</h2><div class="scroll"><table>{rows}</table></div><br>'


def _section(entry: JudgedExhibit) -> str:
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
            _people_table(entry.table) if entry.table else "",
            "</section>",
        ]
    )


def _check(check: Check) -> str:
    return f'<li>{_badge(check.verdict)} {escape(check.claim)}<div class="evidence">{escape(check.evidence)}</div></li>'


def _badge(verdict: str) -> str:
    return f'<span class="verdict {CLASSES[verdict]}">{verdict}</span>'


def _people_table(table: PeopleTable) -> str:
    lines = [_line(table.head, "th"), *(_line(row, "td") for row in table.rows)]
    return f'<div class="scroll wide"><p class="evidence">{table.caption}</p><table>{"".join(lines)}</table></div>'


def _line(cells: Sequence[str], kind: str) -> str:
    """A row of an HTML table; the parts of a cell stand on lines of their own."""
    parts = (escape(cell).replace(", ", "<br>") for cell in cells)
    return f"<tr>{''.join(f'<{kind}>{part}</{kind}>' for part in parts)}</tr>"

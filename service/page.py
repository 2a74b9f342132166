"""The reports of `simulate` and `load`: one HTML file with the pictures in it, which needs no network and no script."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 60rem;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin: 1.5rem 0 .5rem; line-height: 1.3; }
img { width: 100%; max-width: 42rem; height: auto; display: block; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { text-align: right; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; }
@media (max-width: 48rem) {
  thead { display: none; } table, tbody, tr, td { display: block; }
  td, td:first-child { text-align: left; border: 0; padding: 0; }
  tr { padding: .5rem 0; border-bottom: 1px solid #ddd; } td:first-child { font-weight: 600; }
  td:not(:first-child)::before { content: attr(data-head) ": "; color: #555; }
}
"""
"""The look of the page. Nothing scrolls sideways: on a narrow screen a table's cells stand below each other."""


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: stem of its files.
        title: what it shows.
        png: the bytes of its PNG file.
    """

    name: str
    title: str
    png: bytes


@dataclass(frozen=True)
class PageTable:
    """A table of the report, every cell a text.

    Attributes:
        head: headings of the columns.
        rows: cells, one sequence for each row.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def render(title: str, words: Sequence[str], tables: Sequence[PageTable], pictures: Sequence[Picture]) -> str:
    """The page as HTML.

    Args:
        title: heading of the page.
        words: paragraphs below it.
        tables: tables below these.
        pictures: figures at the end.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
            f"<title>edgesplit: {escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *(f"<p>{escape(text)}</p>" for text in words),
            *(_table(table) for table in tables),
            *(_figure(picture) for picture in pictures),
            "</body></html>\n",
        ]
    )


def _table(table: PageTable) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in table.head)
    rows = "".join(f"<tr>{_cells(table.head, row)}</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(head: Sequence[str], row: Sequence[str]) -> str:
    pairs = zip(head, row, strict=True)
    return "".join(f'<td data-head="{escape(title)}">{escape(cell)}</td>' for title, cell in pairs)


def _figure(picture: Picture) -> str:
    image = b64encode(picture.png).decode()
    title = escape(picture.title)
    return f'<h2>{title}</h2><img src="data:image/png;base64,{image}" alt="{title}" width="640">'

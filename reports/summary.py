"""The report as Markdown; docs/reproduction.md is a fixed introduction followed by one of these."""

from collections.abc import Iterable, Mapping, Sequence

from .basis.checks import FINDING, Check, overall
from .page import JudgedExhibit


def summary(judged: Sequence[JudgedExhibit], facts: Mapping[str, str]) -> str:
    """What the numbers were made from, every picture, and every verdict with its figures; arguments as in `render`."""
    made_from = _table(["made from", ""], facts.items())
    return "\n\n".join(["## Verdicts", made_from, *(_section(entry) for entry in judged)]) + "\n"


def _section(entry: JudgedExhibit) -> str:
    name, title = entry.exhibit.name, entry.exhibit.title
    claims = [check for check in entry.checks if check.verdict != FINDING]
    rows = ((check.claim, check.verdict, check.evidence) for check in claims)
    whose = "the paper's claim" if entry.exhibit.claims else "our claim"
    parts = [
        f"### {_plain(title)}: {overall(entry.checks)}",
        f"![{_plain(title)}]({name}.png)",
        _table([whose, "verdict", "our numbers"], rows) if claims else "",
        *map(_finding, (check for check in entry.checks if check.verdict == FINDING)),
        _table(entry.table.head, entry.table.rows) if entry.table else "",
    ]
    return "\n\n".join(filter(None, parts))


def _finding(check: Check) -> str:
    evidence = check.evidence
    return _plain(f"{check.claim} {evidence[0].upper()}{evidence[1:]}.")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """A text in which no tag of HTML and no new line begins, wherever its names come from."""
    return " ".join(text.split()).replace("<", "&lt;")

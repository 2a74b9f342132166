"""The documents as tests see them: blocks of code, tables, headings and links."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: word behind the fence.
        text: content, without the indentation of a block in a list.
        follows: language of the block right above it, with nothing but blank lines between; empty for none.
    """

    language: str
    text: str
    follows: str


def blocks(path):
    """The blocks of a page, in order."""
    source, found, end, above = path.read_text(encoding="utf-8"), [], 0, ""
    for match in FENCE.finditer(source):
        indent, language, text = match.groups()
        near = above if not source[end : match.start()].strip() else ""
        found.append(Block(language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE), near))
        end, above = match.end(), language
    return found


def prose(path):
    """A page without its blocks of code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def section(path, heading):
    """What stands below a heading, up to the next one."""
    parts = re.split(r"^#+ (.*)$", prose(path), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def rows(text):
    """The rows of the tables in a text, as lists of cells, without headings."""
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines if not cells[0].startswith("---")]


def anchors(path):
    """The names that a link to a heading of this page may have."""
    headings = re.findall(r"^#+ (.*)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path):
    """The targets of the links and pictures of a page."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(path))

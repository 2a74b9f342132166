"""The README is one page, its links lead somewhere, and the website builds without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import PAGES, README, ROOT, anchors, links

DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]


def test_the_readme_is_one_page():
    assert len(README.read_bytes()) <= 7 * 1024


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for link in links(page):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_stands_in_the_navigation():
    listed = set(re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed - {"introduction.md"} == {page.name for page in PAGES}


def test_the_website_builds_without_a_warning_and_needs_no_network(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", ROOT / "mkdocs.yml", "-d", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert result.returncode == 0, result.stderr
    reference = (tmp_path / "reference.html").read_text(encoding="utf-8")
    assert "min_local_steps" in reference
    for page in Path(tmp_path).glob("*.html"):
        source = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', source)
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|icon|preconnect)"[^>]* href="([^"]+)"', source)
        assert [address for address in loaded if "//" in address] == [], page.name

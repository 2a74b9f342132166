"""The edge server's page in a real browser; skipped where there is none."""

import httpx
import pytest
from browser import CHROMIUM, browsing
from servers import DENIED, make_ask, make_rounds, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
PHONE, DESK = (390, 844), (1280, 900)
MEASURED = {"wait_s": 0.1, "edge_s": 0.2, "transmit_s": 0.1, "local_s": 5.0}
NUMBER = """[...document.querySelectorAll("#numbers div")].find(box =>
    box.querySelector("dt").textContent === "NAME")?.querySelector("dd").textContent"""
INK = """(() => { const canvas = document.getElementById("NAME");
    return new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer))
        .size; })()"""
"""How many colours a canvas has; one that is empty has one."""
WIDTH = "document.documentElement.scrollWidth"
SMALLEST_TYPE = """Math.min(...[...document.querySelectorAll("body *")].filter(e => e.textContent.trim()
    && e.tagName !== "SCRIPT").map(e => parseFloat(getComputedStyle(e).fontSize)))"""


def number(page, name):
    """A number of the page's tiles."""
    return float(page.value(NUMBER.replace("NAME", name)) or "nan")


def serve_one(http, **changes):
    """One request from its question to its report."""
    decision = http.post("/v1/requests", json=make_ask(**changes).model_dump()).json()
    if decision["decision"] == "grant":
        http.get(f"/v1/requests/{decision['id']}/handoff").raise_for_status()
        http.post(f"/v1/requests/{decision['id']}/report", json=MEASURED).raise_for_status()


def test_the_page_fills_live_on_a_phone_and_on_a_desk(tmp_path):
    with (
        serving(make_rounds()) as (address, _),
        httpx.Client(base_url=address, timeout=60) as http,
        browsing(tmp_path) as page,
    ):
        page.show(*PHONE)
        page.open(f"{address}/")
        page.until('document.getElementById("state").textContent === "live"')
        assert (number(page, "granted"), page.value('document.querySelectorAll("#last tr").length')) == (0, 0)
        for seed in range(3):
            serve_one(http, seed=seed)
        serve_one(http, **DENIED)
        page.until(f'{NUMBER.replace("NAME", "denied")} === "1"')  # the page was not loaded again
        assert number(page, "granted") == 3
        assert number(page, "rounds") >= 4
        assert page.value('document.querySelectorAll("#last tr").length') == 4
        page.until('document.getElementById("error").textContent.startsWith("Latency of the last 3 images")')
        for size, scheme in ((PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark")):
            page.show(*size, scheme)
            assert page.value(WIDTH) <= size[0]
            page.until(f"{INK.replace('NAME', 'rounds')} > 1 && {INK.replace('NAME', 'reports')} > 1")
            assert page.value(SMALLEST_TYPE) >= 14
        assert page.complaints == []


def test_the_page_says_that_the_server_is_gone(tmp_path):
    with browsing(tmp_path) as page:
        with serving(make_rounds()) as (address, _):
            page.open(f"{address}/")
            page.until('document.getElementById("state").textContent === "live"')
        page.until('document.getElementById("state").textContent.startsWith("no connection")')

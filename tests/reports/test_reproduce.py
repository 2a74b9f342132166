"""`reproduce`, as users run it: what it writes, that it goes on after a kill, what the browser says of its report."""

import json
import re
import shutil
import signal
import subprocess
import time
from html.parser import HTMLParser

import pandas as pd
import pytest
from commands import BIN, refused, run

from edgesplit.reports.exhibits import EXHIBITS

FAST = ["--quick", "--cases", "2", "--population", "8", "--generations", "3", "--time-limit", "2"]
NAMES = [exhibit.name for exhibit in EXHIBITS]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduction") / "whole"
    result = run("reproduce", *FAST, "-o", folder, timeout=300)
    assert result.returncode == 0, result.stderr
    return folder, result


def tables(folder):
    return {name: (folder / f"{name}.csv").read_bytes() for name in NAMES if name != "table1"}


def test_every_figure_is_there_three_ways_with_a_verdict(unbroken):
    folder, result = unbroken
    for name in NAMES:
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (folder / f"{name}.svg").read_text()[:600]
        assert len(pd.read_csv(folder / f"{name}.csv"))
    judged = pd.read_csv(folder / "verdicts.csv")
    assert set(judged["exhibit"]) == set(NAMES)
    assert set(judged["verdict"]) <= {"holds", "does not hold", "finding"}
    assert len(result.stdout.splitlines()) == 1 + len(NAMES)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "report.html" in result.stderr


def test_the_papers_figures_have_their_names():
    wanted = "fig3 fig4a fig4b fig7a fig7b fig8 fig9a fig9b fig9c fig10a fig10b fig11 table1"
    assert set(wanted.split()) < set(NAMES)


def test_no_method_beats_the_optimum_in_the_tables(unbroken):
    folder, _ = unbroken
    for name in ("fig10a", "fig10b", "fig11", "fig9a"):
        assert (pd.read_csv(folder / f"{name}.csv")["captured_share"] <= 1 + 1e-9).all()


def test_table_1_has_a_slope_and_a_ratio_per_method(unbroken):
    table = pd.read_csv(unbroken[0] / "table1.csv")
    assert {"drl", "exact", "genetic", "genetic-joint", "ilp-fixed", "ilp-joint"} == set(table["method"])
    assert (table.groupby("method")["slope"].nunique() == 1).all()
    assert (table[table["method"] == "exact"]["ratio_to_exact"] == 1).all()


def test_a_killed_run_goes_on_to_the_same_tables(unbroken, tmp_path):
    folder = tmp_path / "broken"
    process = subprocess.Popen([BIN / "reproduce", *FAST, "--workers", "2", "-o", folder], stderr=subprocess.DEVNULL)
    wait_for_units(folder, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = run("reproduce", *FAST, "-o", folder, timeout=300)
    assert result.returncode == 0, result.stderr
    assert re.search(r"\d+ of \d+ pieces are there already", result.stderr)
    assert tables(folder) == tables(unbroken[0])


def wait_for_units(folder, process):
    """Until some pieces are done: the journal beside the locked database has grown."""
    journal = folder / "results.sqlite-wal"
    for _ in range(600):
        if journal.exists() and journal.stat().st_size > 200_000:
            return
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.1)
    raise AssertionError("nothing was done in a minute")


def test_a_finished_folder_is_not_computed_again_and_keeps_its_pictures(unbroken):
    folder, first = unbroken
    before = {path.name: path.read_bytes() for path in folder.glob("fig*.*")}
    again = run("reproduce", *FAST, "-o", folder, timeout=300)
    assert again.stdout == first.stdout
    assert {path.name: path.read_bytes() for path in folder.glob("fig*.*")} == before


def test_another_seed_in_the_same_folder_is_refused(unbroken):
    line = refused(run("reproduce", *FAST, "--seed", "1", "-o", unbroken[0]))
    assert "seed was 0 and is 1" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scenario", "nowhere"], "--scenario: found 'nowhere'"),
        (["--devices", "rtx-4090,rtx-9999"], "found 'rtx-9999'"),
        (["--policy", "best"], "policy: found 'best'"),
        (["--pai", "unknown"], "PAI curve: found 'unknown'"),
        (["--cases", "1"], "--cases"),
        (["--gpus", "0"], "--gpus: found 0"),
    ],
)
def test_bad_options_are_one_line(options, says, tmp_path):
    assert says in refused(run("reproduce", *options, "-o", tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_damaged_database_is_one_line(tmp_path):
    (tmp_path / "results.sqlite").write_bytes(b"no database" * 1000)
    assert "--fresh" in refused(run("reproduce", *FAST, "-o", tmp_path))


def test_own_curve_and_profiles_are_drawn_and_planned_with(tmp_path):
    """Fig. 4 is of the user's own curve where that has points, Fig. 3 of the user's devices."""
    from edgesplit.optimizer.scenario import overrides
    from edgesplit.reports.setup import QUICK, make_setup

    setup, sources = make_setup(
        "default", overrides(pai="toyworld"), ["rtx-3060", "h200"], QUICK, policy="set-general", seed=0
    )
    assert setup.scenario.total_steps == 50
    assert sources.curve_name == "toyworld"
    assert [profile.name for profile in sources.profiles] == ["h100-nvl", "rtx-3060", "h200"]
    assert setup.intervals["steepness"][2] == "95 % interval"
    assert setup.intervals["slope_s"][2] == "assumed, 10 %"


# -- the report ---------------------------------------------------------------------------------------------


class Links(HTMLParser):
    """Everything that a browser would fetch by itself."""

    def __init__(self):
        super().__init__()
        self.fetched, self.images = [], 0

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.images += tag == "img"
        self.fetched += [found[name] for name in ("src", "srcset", "data") if name in found]
        if tag in ("link", "script", "iframe", "object"):
            self.fetched.append(found.get("href", found.get("src", "")))


def test_the_report_holds_its_pictures_and_asks_for_nothing(unbroken):
    text = (unbroken[0] / "report.html").read_text()
    page = Links()
    page.feed(text)
    assert page.images == len(NAMES)
    assert all(link.startswith("data:") for link in page.fetched)
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_opens_without_a_word_or_a_request_and_fits(unbroken, tmp_path, width):
    report = (unbroken[0] / "report.html").resolve()
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id=f src="{report.as_uri()}" width={width} height=800></iframe><script>onload = () => {{'
        "const d = document.getElementById('f').contentDocument;"
        "document.title = [d.documentElement.scrollWidth, d.images.length,"
        "[...d.images].filter(i => i.complete && i.naturalWidth > 0).length].join(' ')}</script>"
    )
    log = tmp_path / "net.json"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
    ]
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    done = subprocess.run(
        [BROWSER, *options, *quiet, f"--log-net-log={log}", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
         "--virtual-time-budget=5000", "--window-size=1600,1000", frame.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    shown_width, images, loaded = map(int, re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout).groups())
    assert shown_width <= width
    assert images == loaded == len(NAMES)
    assert "CONSOLE" not in done.stderr
    asked = {
        event["params"]["url"]
        for event in json.loads(log.read_text())["events"]
        if str(event.get("params", {}).get("url", "")).startswith(("http:", "https:", "ws"))
    }
    assert not {url for url in asked if "google" not in url and "gstatic" not in url}, asked

"""`reproduce`, as users run it: what it writes, that it goes on after a kill, what the browser says of its report."""

import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from commands import BIN, MINUTES, call, refused

from edgesplit import data
from edgesplit.common.figures import picture_bytes
from edgesplit.optimizer.inputs.scenario import overrides
from edgesplit.reports import reproduce_command, work
from edgesplit.reports.basis.checks import Check
from edgesplit.reports.basis.definitions import PeopleTable, Unit
from edgesplit.reports.basis.intervals import FROM_FILE
from edgesplit.reports.basis.setup import QUICK, Choices, Size, make_setup
from edgesplit.reports.exhibit import complexity, latency, sensitivity
from edgesplit.reports.exhibits import compute, exhibits, tables, units
from edgesplit.reports.page import JudgedExhibit, render
from edgesplit.reports.work import Results, experiment_rows

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # what seaborn asks of Matplotlib 3.11
FAST = ["--quick", "--cases", "2", "--population", "8", "--generations", "3", "--time-limit", "2"]
CHOICES = Choices(population=8, generations=3, time_limit_s=2.0)
SMALL = replace(
    QUICK,
    cases=2,
    slow_cases=2,
    users=(5, 15, 30),
    gpus=(1, 2, 8),
    wanted_gpus=(1, 8),
    timed_users=(5, 20),
    arrivals=(1,),
    worlds=1,
    servers=(2,),
    memory_servers=(1,),
)
"""What `FAST` computes where QUICK is made as small as this; units of larger sizes are left alone."""
NAMES = [exhibit.name for exhibit in exhibits()]
DRAWN_AGAIN = {"fig10a", "fig11", "beyond_sensitivity"}
"""Figures of each kind whose statistics seaborn computes while it draws."""
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """One reproduction for all tests, of few points and in one process."""
    folder = tmp_path_factory.mktemp("reproduction") / "whole"
    with mock.patch.object(reproduce_command, "QUICK", SMALL), mock.patch.object(complexity, "REPEATS_S", 0.0):
        result = call("reproduce", *FAST, "--workers", "1", "-o", folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_every_figure_is_there_three_ways_with_a_verdict(unbroken):
    folder, result = unbroken
    for name in NAMES:
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (folder / f"{name}.svg").read_text()[:600]
        assert len(pd.read_csv(folder / f"{name}.csv"))
    judged = pd.read_csv(folder / "verdicts.csv")
    assert set(judged["exhibit"]) == set(NAMES)
    assert set(judged["verdict"]) <= {"holds", "holds partly", "does not hold", "finding"}
    assert not judged["evidence"].str.contains("nan").any()
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
    assert set(table["method"]) == set(complexity.STATED)
    whole = table[~table["cut"]]  # a busy machine may cut the slowest at its limit
    assert {"drl", "exact"} <= set(whole["method"])
    assert (whole.groupby("method")["slope"].nunique() == 1).all()
    assert (table[table["method"] == "exact"]["ratio_to_exact"] == 1).all()


def test_what_the_solver_says_is_in_the_tables(unbroken):
    for name in ("fig11", "table1"):
        table = pd.read_csv(unbroken[0] / f"{name}.csv")
        solved = table["method"].str.startswith("ilp")
        assert table.loc[solved, "note"].str.match("(optimal for its form, gap 0|not proven, .*): gain .*bound").all()


def test_the_summary_has_every_picture_and_verdict(unbroken):
    folder, _ = unbroken
    text = (folder / "summary.md").read_text()
    assert re.findall(r"^!\[.*\]\((.*)\.png\)$", text, re.MULTILINE) == NAMES
    for row in pd.read_csv(folder / "verdicts.csv").itertuples():
        if row.verdict != "finding":
            assert f"| {row.claim} | {row.verdict} | {row.evidence} |" in text


def test_the_page_in_docs_is_a_fixed_introduction_and_such_a_summary(unbroken):
    docs = Path(__file__).parents[2] / "docs"
    page, fixed = (docs / name for name in ("reproduction.md", "reproduction/introduction.md"))
    introduction, _, verdicts = page.read_text().partition("\n## Verdicts\n")
    assert introduction == fixed.read_text()
    headings = re.compile(r"^### (.*): [a-z ]+$|^!\[.*\]\((?:reproduction/)?(.*)\)$", re.MULTILINE)
    assert headings.findall(verdicts) == headings.findall((unbroken[0] / "summary.md").read_text())
    assert {path.stem for path in (docs / "reproduction").glob("*.png")} == set(NAMES)


def test_ctrl_c_and_a_kill_keep_what_was_measured_and_the_rest_follows(unbroken, tmp_path, capsys):
    """Ctrl-C reaches the whole group, as a terminal sends it: workers that start or compute must not say a word."""
    folder = tmp_path / "broken"
    command = [BIN / "reproduce", *FAST, "-o", folder, "--workers"]
    # A test run in the background of a script ignores SIGINT, and the command would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for wait in (until_open, until_units):
        with subprocess.Popen([*command, "2"], stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            wait(folder, process)
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=5 * MINUTES)
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "reproduce: interrupted; the same command goes on from here"
        assert all(line.startswith("reproduce: ") for line in errors.splitlines()), errors
    interrupted = count_units(folder)
    assert interrupted > 0
    with subprocess.Popen([*command, "1"], stderr=subprocess.DEVNULL) as process:
        until_units(folder, process)
        process.kill()
    assert count_units(folder) > interrupted
    setup, _ = make_setup(size=SMALL, choices=CHOICES)
    with mock.patch.object(complexity, "REPEATS_S", 0.0):
        rows = experiment_rows(setup, folder, workers=1)  # workers or not, interrupted or not: the same rows
    assert re.search(r"\d+ of \d+ pieces are there already", capsys.readouterr().err)
    expected = rows_of(unbroken[0])
    for name in rows.keys() - {"timing"}:
        pd.testing.assert_frame_equal(rows[name], expected[name])


def test_ctrl_c_however_often_leaves_no_process_and_no_thread(monkeypatch):
    """An executor's thread that is left at work aborts Python's exit."""

    def shutdown(self, *arguments, shutdown=ProcessPoolExecutor.shutdown, **options):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        shutdown(self, *arguments, **options)

    monkeypatch.setattr(ProcessPoolExecutor, "shutdown", shutdown)
    setup, _ = make_setup(size=SMALL, choices=CHOICES)
    running = threading.active_count()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # scripts' background jobs ignore Ctrl-C
    try:
        finished = work.work_off(setup, units(SMALL), workers=2)
        next(finished)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            next(finished)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []
    assert threading.active_count() == running


@pytest.mark.slow
def test_ctrl_c_at_any_moment_once_or_several_times_is_one_line(tmp_path):
    """While it imports, computes, draws or ends; a last one may meet Python's own exit, which the signal then ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = np.random.default_rng(0)
    whole_s = None
    for number in range(61):
        command = [BIN / "reproduce", *FAST, "--workers", str(1 + number % 2), "-o", tmp_path / str(number // 6)]
        begun = time.monotonic()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            if whole_s is not None:
                time.sleep(rng.uniform(0.1, whole_s))
                for _ in range(rng.integers(1, 4)):
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGINT)
                    time.sleep(rng.uniform(0, 0.2))
            _, errors = process.communicate(timeout=5 * MINUTES)
        whole_s = whole_s or time.monotonic() - begun
        assert process.returncode in (0, 130, -signal.SIGINT)
        assert all(re.match("reproduce: |wrote ", line) for line in errors.splitlines()), errors


def count_units(folder):
    with closing(sqlite3.connect(folder / "results.sqlite")) as database:
        return database.execute("SELECT count(*) FROM units").fetchone()[0]


def rows_of(folder):
    """The rows of a finished folder, of which nothing is computed again."""
    setup, _ = make_setup(size=SMALL, choices=CHOICES)
    with mock.patch.object(work, "compute", side_effect=AssertionError("computed again")):
        return experiment_rows(setup, folder, workers=1)


def until_open(folder, process):
    """Wait until the database is there, when workers start."""
    while not (folder / "results.sqlite-wal").exists():
        assert process.poll() is None
        time.sleep(0.02)


def until_units(folder, process):
    """Wait until some pieces are done: the journal beside the locked database has grown."""
    journal = folder / "results.sqlite-wal"
    for _ in range(30 * MINUTES):
        if journal.exists() and journal.stat().st_size > 80_000:
            return
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.1)
    raise AssertionError("nothing was done in three minutes")


def test_a_finished_folder_is_not_computed_again_and_keeps_its_tables_and_pictures(unbroken, tmp_path):
    folder, _ = unbroken
    setup, sources = make_setup(size=SMALL, choices=CHOICES)
    for exhibit, table in tables(setup, sources, rows_of(folder), None):
        table.to_csv(tmp_path / "table.csv", index=False, lineterminator="\n")
        assert (tmp_path / "table.csv").read_bytes() == (folder / f"{exhibit.name}.csv").read_bytes()
        if exhibit.name in DRAWN_AGAIN:
            assert picture_bytes(exhibit.picture(table), "svg") == (folder / f"{exhibit.name}.svg").read_bytes()


def test_another_seed_in_the_same_folder_is_refused(unbroken):
    line = refused(call("reproduce", *FAST, "--seed", "1", "-o", unbroken[0]))
    assert "seed was 0 and is 1" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scenario", "nowhere"], "--scenario: found 'nowhere'"),
        (["--devices", "rtx-4090,rtx-9999"], "found 'rtx-9999'"),
        (["--policy", "best"], "policy: found 'best'"),
        (["--pai", "unknown"], "PAI curve: found 'unknown'"),
        (["--devices", ""], "--devices: found '', accepted: profiles"),
        (["--devices", "rtx-4090,"], "--devices: found 'rtx-4090,', accepted: profiles"),
        (["--devices", "rtx-4090,RTX 4090"], "--devices: found 2 profiles named 'rtx-4090', accepted: each name once"),
        (["--latency-goal", "0"], "--latency-goal"),
        (["--cases", "1"], "--cases"),
        (["--gpus", "0"], "--gpus: found 0"),
    ],
)
def test_bad_options_are_one_line(options, says, tmp_path):
    assert says in refused(call("reproduce", *options, "-o", tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_damaged_database_is_one_line(tmp_path):
    (tmp_path / "results.sqlite").write_bytes(b"no database" * 1000)
    assert "--fresh" in refused(call("reproduce", *FAST, "-o", tmp_path))


def test_own_curve_and_profiles_are_drawn_and_planned_with():
    """Fig. 4 is of the user's own curve where that has points, Fig. 3 of the user's devices."""
    setup, sources = make_setup(changes=overrides(pai="toyworld"), devices=["rtx-3060", "h200"])
    assert setup.scenario.total_steps == 50
    assert sources.curve_name == "toyworld"
    assert sources.edge.name == "h100-nvl"
    assert [profile.name for profile in sources.devices] == ["rtx-3060", "h200"]
    assert sensitivity.interval_kind(setup, "steepness") == "95 % interval"
    assert sensitivity.interval_kind(setup, "slope_s") == "assumed, 10 %"


def test_two_profiles_of_one_device_stay_two(tmp_path):
    own = json.loads((data.FOLDER / "profiles" / "rtx-3060.json").read_text()) | {"name": "mine"}
    fit = own["fit"]
    fit["slope_ci_s"], fit["intercept_ci_s"] = [fit["slope_s"] * 0.9, fit["slope_s"] * 1.1], [0.0, 0.1]
    (tmp_path / "mine.json").write_text(json.dumps(own))
    setup, sources = make_setup(devices=["rtx-3060", str(tmp_path / "mine.json"), "h100-nvl"])
    table = latency.latency_table(sources.edge, sources.devices)
    labels = {"H100 NVL (edge)", "RTX 3060 (rtx-3060)", "RTX 3060 (mine)", "H100 NVL"}
    assert set(table["device"]) == labels
    kind = sensitivity.interval_kind(setup, sensitivity.OWN_LATENCY)
    assert kind == f"{FROM_FILE} of 1 device, else assumed, 10 %"
    low, high, _ = setup.device_intervals["mine"]
    assert low < setup.step_latency_s["mine"] < high


def test_a_folder_takes_more_cases_and_keeps_those_it_has(tmp_path):
    first, second = (Unit("wanted", 8, case) for case in (0, 1))
    for cases, missing in ((1, [first]), (2, [second])):
        setup, _ = make_setup(size=Size(cases=cases, slow_cases=cases))
        results = Results(tmp_path, setup.facts())
        assert results.missing([first, second][:cases]) == missing
        results.add(missing[0], compute(setup, missing[0]))
        both = results.table("wanted", {first, second})
        assert len(results.table("wanted", {first})) == 1
        results.close()
    assert both["case"].tolist() == [0, 1]


def test_a_policy_out_of_its_range_is_not_timed():
    """It would be the exact optimum's time."""
    setup, _ = make_setup(choices=Choices(policy="paper-general"))
    (far,), (near,) = (list(complexity.measured(setup, users, 0, ["drl"])) for users in (40, 20))
    assert math.isnan(far["seconds"])
    assert far["note"] == "not measured: 40 users, trained for 30 at most"
    assert near["seconds"] > 0


# -- the report ---------------------------------------------------------------------------------------------


class Links(HTMLParser):
    """Everything that a browser would fetch by itself."""

    def __init__(self):
        super().__init__()
        self.fetched, self.images = [], 0

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.images += tag == "img"
        self.fetched += [values[name] for name in ("src", "srcset", "data") if name in values]
        if tag in ("link", "script", "iframe", "object"):
            self.fetched.append(values.get("href", values.get("src", "")))


def test_the_report_holds_its_pictures_and_asks_for_nothing(unbroken):
    text = (unbroken[0] / "report.html").read_text()
    page = Links()
    page.feed(text)
    assert page.images == len(NAMES)
    assert all(link.startswith("data:") for link in page.fetched)
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text


LOOK = """
onload = () => {
  document.title = [...document.querySelectorAll('iframe')].map(f => {
    const d = f.contentDocument, w = d.documentElement.clientWidth, images = [...d.images];
    const loaded = images.filter(i => i.complete && i.naturalWidth > 0);
    const out = [...d.body.querySelectorAll('*')].filter(e =>
      e.getBoundingClientRect().right > w + 0.5 || (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0));
    const small = images.filter(i => i.getBoundingClientRect().width < Math.min(500, w - 40));
    return [d.documentElement.scrollWidth, images.length, loaded.length, out.length, small.length].join(' ');
  }).join(', ');
}
"""
"""For each frame: its width, pictures, what sticks out or scrolls, pictures that leave room beside them unused."""


def open_in_browser(reports, widths, folder):
    """The numbers of `LOOK` for each report and width, the console's words, and the addresses that pages asked for."""
    frame, log = folder / "frame.html", folder / "net.json"
    addresses = [report.resolve().as_uri() for report in reports]
    frames = (
        f'<iframe src="{address}" width={width} height=800></iframe>' for address in addresses for width in widths
    )
    frame.write_text(f"{''.join(frames)}<script>{LOOK}</script>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--disable-quic"]
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    done = subprocess.run(
        [BROWSER, *options, *quiet, "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom",
         f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--window-size=1600,1000",
         frame.as_uri()],
        capture_output=True, text=True, timeout=5 * MINUTES, check=True,
    )  # fmt: skip
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What the browser asks for of itself has no origin; a page's request has one.
    own = [e for e in events if "url" in e and e.get("initiator", "not an origin") != "not an origin"]
    title = re.search(r"<title>([\d ,]+)</title>", done.stdout).group(1)
    numbers = [list(map(int, part.split())) for part in title.split(", ")]
    return numbers, done.stderr, {e["url"] for e in own if not e["url"].startswith("file:")}


def odd_report(folder):
    """A report with names and evidence that no line has room for, and a table of more columns than a screen."""
    judged = [
        JudgedExhibit(
            exhibit=exhibit,
            png=(folder / f"{exhibit.name}.png").read_bytes(),
            checks=[Check("own_module:" + 90 * "x", "does not hold", "/".join(90 * ["folder"]))],
            table=PeopleTable(caption="Times.", head=["method", *map(str, range(30))], rows=[["m" * 80] * 31]),
        )
        for exhibit in exhibits()[:2]
    ]
    return render(judged, {"proposed": "the method " + 90 * "x"})


@needs_browser
def test_reports_open_without_a_word_or_a_request_and_never_scroll_sideways(unbroken, tmp_path):
    widths = [1280, 390]
    (tmp_path / "odd.html").write_text(odd_report(unbroken[0]))
    reports = [unbroken[0] / "report.html", tmp_path / "odd.html"]
    frames, console, asked = open_in_browser(reports, widths, tmp_path)
    for number, (shown_width, images, loaded, sticking_out, small) in enumerate(frames):
        assert shown_width <= widths[number % 2]
        assert images == loaded == (len(NAMES) if number < 2 else 2)
        assert (sticking_out, small) == (0, 0)
    assert "CONSOLE" not in console
    assert not asked


@needs_browser
def test_a_page_that_asks_for_something_is_found_out(tmp_path):
    (tmp_path / "page.html").write_text('<img src="https://www.gstatic.com/x.png">')
    assert open_in_browser([tmp_path / "page.html"], [390], tmp_path)[2] == {"https://www.gstatic.com/x.png"}

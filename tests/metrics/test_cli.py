"""The installed `pai-sweep`: end to end, killed and resumed, and read by `plan`."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from commands import BIN, refused, run
from models import save_finished_cohort

from edgesplit import data
from edgesplit.common.files import read_record
from edgesplit.fitting.schemas import PaiCurveFile
from edgesplit.metrics.pai import PaiConstants, pai

LONG = 300
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
PROMPTS = "a photo of {subject} in snow\na photo of dog at night\na photo of {subject} on the beach\n"
QUICK = ("--steps", "6", "--splits", "0,2,4,N", "--seeds", "4", "--batch", "3", "--device", "cpu")
KEY = ["prompt", "seed", "local_steps", "user"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    save_finished_cohort(folder / "cohort")
    (folder / "prompts.txt").write_text(PROMPTS)
    return folder


def arguments(work, output, *more):
    return ["--cohort", work / "cohort", "--prompts", work / "prompts.txt", *QUICK, "-o", output, *more]


@pytest.fixture(scope="module")
def swept(work):
    result = run("pai-sweep", *arguments(work, work / "whole"), timeout=LONG, **ONE_THREAD)
    assert result.returncode == 0, result.stderr
    return work / "whole", result


def table(folder):
    return pd.read_parquet(folder / "measurements.parquet")


def test_it_writes_curve_table_pictures_and_both_figures(swept):
    folder, result = swept
    names = {path.name for path in folder.iterdir()}
    figures = {f"fig4{letter}.{kind}" for letter in "ab" for kind in ("png", "svg")}
    assert names == {"pai_curve.json", "measurements.parquet", "pictures", "results.sqlite", *figures}
    assert len(list(folder.glob("pictures/*/*.png"))) == len(table(folder)) == 3 * 4 * 4 * 3
    assert max(map(len, result.stdout.splitlines()[:5])) <= 80


def test_the_curve_s_points_follow_from_the_table(swept):
    folder, _ = swept
    curve, rows = read_record(folder / "pai_curve.json", PaiCurveFile), table(folder)
    means = rows.groupby("local_steps")[["clip", "lpips"]].mean()
    assert curve.kappa == pytest.approx(1 / means["clip"].iloc[-1])
    expected = pai(means["clip"], means["lpips"], PaiConstants(kappa=curve.kappa))
    np.testing.assert_allclose([point.pai for point in curve.points], expected)
    assert [point.images for point in curve.points] == [36] * 4
    assert (curve.total_steps, curve.scheduler) == (6, "ddim")
    assert len(curve.fit.draws) == 500


def test_the_same_command_again_measures_nothing_and_writes_the_same(work, swept):
    folder, _ = swept
    before = table(folder)
    again = run("pai-sweep", *arguments(work, folder), timeout=LONG, **ONE_THREAD)
    assert "everything is measured already" in again.stderr
    pd.testing.assert_frame_equal(table(folder), before)


def test_other_settings_in_the_same_folder_are_refused(work, swept):
    folder, _ = swept
    line = refused(run("pai-sweep", *arguments(work, folder, "--guidance", "2"), timeout=LONG))
    assert "guidance_scale was 3.0 and is 2.0" in line


def test_fit_repeats_the_curve_from_the_table_alone(swept, tmp_path):
    folder, _ = swept
    result = run("pai-sweep", "fit", folder / "measurements.parquet", "-o", tmp_path / "again.json")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.json").read_text() == (folder / "pai_curve.json").read_text()
    table(folder).to_csv(tmp_path / "table.csv")
    result = run("pai-sweep", "fit", tmp_path / "table.csv", "-o", tmp_path / "c.json", "--kappa", "2", "--json")
    assert json.loads(result.stdout) == json.loads((tmp_path / "c.json").read_text())
    assert json.loads(result.stdout)["kappa"] == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"clip": None}, "found no column 'clip'"),
        ({"clip": "x"}, "column 'clip': found what is no number"),
        ({"local_steps": 3}, "column 'local_steps'"),
        ({"user": "anna"}, "column 'user': found one user"),
        ({"seed": range(144)}, "without some of the splits or users"),
    ],
)
def test_a_bad_table_is_refused(swept, tmp_path, columns, message):
    rows = table(swept[0])
    for name, values in columns.items():
        rows = rows.drop(columns=name) if values is None else rows.assign(**{name: values})
    rows.to_csv(tmp_path / "bad.csv")
    assert message in refused(run("pai-sweep", "fit", tmp_path / "bad.csv", "-o", tmp_path / "c.json"))
    assert not (tmp_path / "c.json").exists()


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "bad.parquet").write_text("no table")
    assert "cannot read" in refused(run("pai-sweep", "fit", tmp_path / "bad.parquet"))


def kill_and_resume(work, expected, times, seed):
    """Kill the command hard at random moments, then let it end; the tables must be equal to the last bit."""
    output, rng = work / f"killed-{seed}", np.random.default_rng(seed)
    command = [BIN / "pai-sweep", *map(str, arguments(work, output))]
    seen = set()
    for _ in range(times):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | ONE_THREAD
        )
        deadline = time.monotonic() + LONG
        target = len(seen) + int(rng.integers(1, 20))  # pictures; the moment between two of them is random
        while process.poll() is None and time.monotonic() < deadline and len(pictures(output)) < target:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        seen = pictures(output)
    result = run(*command, timeout=LONG, **ONE_THREAD)
    assert result.returncode == 0, result.stderr
    pd.testing.assert_frame_equal(table(output), expected, check_exact=True)


def pictures(output):
    return set(output.glob("pictures/*/[!.]*.png"))


def test_a_killed_sweep_goes_on_to_the_same_table(work, swept):
    kill_and_resume(work, table(swept[0]), times=2, seed=0)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_row(work, swept):
    kill_and_resume(work, table(swept[0]), times=20, seed=1)


def test_plan_reads_the_curve_and_says_how_sure_it_is(tmp_path):
    curve = data.FOLDER / "pai" / "toyworld.json"
    result = run("plan", "--users", data.sample("users.csv"), "--pai", curve, "--uncertainty", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    low, high = found["uncertainty"]["objective_ci"]
    assert low <= found["objective"] <= high
    assert found["uncertainty"]["regret_s"] >= 0
    assert found["scenario"]["total_steps"] == 50


def test_plan_refuses_uncertainty_for_a_curve_without_draws():
    users = data.sample("users.csv")
    assert "without bootstrap draws" in refused(run("plan", "--users", users, "--uncertainty"))

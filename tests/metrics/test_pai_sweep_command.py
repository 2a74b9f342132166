"""`pai-sweep` from its options to its exit code; killed and resumed as the installed command; read by `plan`."""

import json
import os
import shutil
import subprocess
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from commands import BIN, call, refused, run
from inprocess import run_here
from models import save_finished_cohort
from safetensors.torch import load_file, save_file

from edgesplit import data
from edgesplit.common.files import read_record
from edgesplit.fitting.schemas import PaiCurveFile
from edgesplit.metrics import sweep
from edgesplit.metrics.cli import main
from edgesplit.metrics.pai import PaiConstants, pai
from edgesplit.metrics.sweep import SweepModels
from edgesplit.optimizer.cli import main as plan_main

LONG = 300
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
PROMPTS = "a photo of {subject} in snow\na photo of dog at night\na photo of {subject} on the beach\n"
QUICK = ("--steps", "6", "--splits", "0,2,4,N", "--seeds", "3", "--batch", "3", "--device", "cpu", "--kappa", "3")
PICTURES = 3 * 3 * 4 * 3
"""Prompts, seeds, splits and users of a quick sweep."""


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
    result = run_here(main, *arguments(work, work / "whole"), **ONE_THREAD)
    assert result.returncode == 0, result.stderr
    return work / "whole", result


def table(folder):
    return pd.read_parquet(folder / "measurements.parquet")


def test_it_writes_curve_table_pictures_and_both_figures(swept):
    folder, result = swept
    names = {path.name for path in folder.iterdir()}
    figures = {f"fig4{letter}.{kind}" for letter in "ab" for kind in ("png", "svg")}
    assert names == {"pai_curve.json", "measurements.parquet", "pictures", "results.sqlite", *figures}
    assert len(list(folder.glob("pictures/*/*.png"))) == len(table(folder)) == PICTURES
    assert max(map(len, result.stdout.splitlines()[:5])) <= 80


def test_the_curve_s_points_follow_from_the_table(swept):
    folder, _ = swept
    curve, rows = read_record(folder / "pai_curve.json", PaiCurveFile), table(folder)
    groups = rows.groupby(["local_steps", "prompt", "seed"])[["clip", "lpips"]].mean()
    groups["pai"] = pai(groups["clip"], groups["lpips"], PaiConstants())
    expected = groups.groupby("local_steps").mean()
    for name in expected:
        np.testing.assert_allclose([getattr(point, name) for point in curve.points], expected[name], atol=1e-15)
    of_prompts = groups.groupby(["local_steps", "prompt"])["pai"].mean().unstack()[list(dict.fromkeys(rows["prompt"]))]
    np.testing.assert_allclose([point.prompt_pai for point in curve.points], of_prompts)
    assert [point.images for point in curve.points] == [PICTURES // 4] * 4
    assert (curve.total_steps, curve.scheduler, curve.kappa, curve.gain, curve.threshold) == (6, "ddim", 3.0, 30.0, 0.1)
    assert {f"prompt: {template}" for template in rows["prompt"]} <= set(curve.provenance.notes)
    assert any("users/ben: {subject} is 'sks dog', judged as 'a black dog'" in n for n in curve.provenance.notes)
    assert len(curve.fit.draws) == 500


def test_the_same_command_again_measures_nothing_and_writes_the_same(work, swept):
    folder, _ = swept
    before = table(folder)
    again = run_here(main, *arguments(work, folder))
    assert "everything is measured already" in again.stderr
    pd.testing.assert_frame_equal(table(folder), before)


def test_threads_of_the_first_run_stay_and_are_not_tried_again(work, swept, monkeypatch):
    folder, first = swept
    before = table(folder)
    next(folder.glob("pictures/p001-s0002/*.png")).unlink()
    monkeypatch.setattr(sweep, "fastest_threads", pytest.fail)
    again = run_here(main, *arguments(work, folder))
    assert "1 of 9 (prompt, seed) pairs are left to measure, with 1 CPU thread as before" in again.stderr
    pd.testing.assert_frame_equal(table(folder), before, check_exact=True)
    told = [line for line in first.stderr.splitlines() if " pictures, " in line]
    assert len(told) > 5  # without a terminal, progress is lines
    assert told[-1].startswith(f"pai-sweep: {PICTURES} of {PICTURES} pictures")


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(work, monkeypatch):
    rows = SweepModels.rows

    def pressed(self, block):
        if block == [(0, 2)]:
            raise KeyboardInterrupt
        return rows(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(SweepModels, "rows", pressed)
        stopped = run_here(main, *arguments(work, work / "stopped"))
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1] == "pai-sweep: interrupted; the same command goes on from here"
    result = run_here(main, *arguments(work, work / "stopped"))
    assert "pai-sweep: 7 of 9 (prompt, seed) pairs are left to measure" in result.stderr
    assert len(table(work / "stopped")) == PICTURES


def test_other_settings_in_the_same_folder_are_refused(work, swept):
    folder, _ = swept
    line = refused(run_here(main, *arguments(work, folder, "--guidance", "2")))
    assert "other settings: --guidance was 3.0 and is 2.0;" in line


def test_fit_repeats_the_curve_from_the_table_alone(swept, tmp_path):
    folder, _ = swept
    own = ("-o", tmp_path / "again.json", "--kappa", "3")
    result = run_here(main, "fit", folder / "measurements.parquet", *own)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.json").read_text() == (folder / "pai_curve.json").read_text()
    table(folder).to_csv(tmp_path / "table.csv")
    other = ("--kappa", "2", "--gain", "20", "--threshold", "0.2", "--json")
    result = run_here(main, "fit", tmp_path / "table.csv", "-o", tmp_path / "c.json", *other)
    curve = json.loads(result.stdout)
    assert curve == json.loads((tmp_path / "c.json").read_text())
    assert (curve["kappa"], curve["gain"], curve["threshold"]) == (2, 20, 0.2)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"clip": None}, "header: column 'clip' is missing; found prompt, seed,"),
        ({"clip": "x"}, "row 1 (line 2), column 'clip': found 'x', accepted: a number"),
        ({"clip": 1e300}, "row 1 (line 2), column 'clip': found '1e+300', accepted: a number from -1000000 to"),
        ({"lpips": ""}, "row 1 (line 2), column 'lpips': found nothing"),
        ({"prompt": ""}, "row 1 (line 2), column 'prompt': found nothing, accepted: the prompt of the picture"),
        ({"local_steps": 0.5}, "row 1 (line 2), column 'local_steps': found '0.5', accepted: a whole number from 0"),
        ({"local_steps": -1}, "row 1 (line 2), column 'local_steps': found '-1'"),
        ({"local_steps": 3, "seed": range(PICTURES)}, "column 'local_steps': found 3 alone, accepted: three different"),
        ({"user": "anna", "seed": range(PICTURES)}, "column 'user': found 'anna' alone, accepted: two users or more"),
        ({"user": "anna"}, "row 2 (line 3): has the prompt and seed and local_steps and user of row 1"),
        ({"seed": range(PICTURES)}, "found no row for local_steps 0 and user 'ben', accepted: one row for each split"),
        ({"seed": [f"s{n}" for n in range(PICTURES)]}, "seed s0: found no row for local_steps 0 and user 'ben'"),
    ],
)
def test_a_bad_table_is_refused(swept, tmp_path, columns, message):
    rows = table(swept[0])
    for name, values in columns.items():
        rows = rows.drop(columns=name) if values is None else rows.assign(**{name: values})
    rows.to_csv(tmp_path / "bad.csv")
    assert message in refused(run_here(main, "fit", tmp_path / "bad.csv", "-o", tmp_path / "c.json"))
    assert not (tmp_path / "c.json").exists()


def test_a_model_whose_weights_are_not_finite_is_refused_with_its_user_before_anything_is_measured(work, tmp_path):
    shutil.copytree(work / "cohort", tmp_path / "cohort")
    weights = tmp_path / "cohort" / "users" / "ben" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value * float("nan") for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    models = ("--cohort", tmp_path / "cohort", "--prompts", work / "prompts.txt", *QUICK, "-o", tmp_path / "out")
    line = refused(run_here(main, *models))
    assert line.startswith("pai-sweep: user 'ben': ")
    assert "not finite" in line
    assert not (tmp_path / "out").exists()


def test_fit_says_how_pai_was_computed_and_that_it_replaces_a_curve_of_before(swept, tmp_path):
    table, output = swept[0] / "measurements.parquet", tmp_path / "c.json"
    result = run_here(main, "fit", table, "-o", output, "--kappa", "3")
    assert "PAI: eq. (1) of every prompt and seed, then the means" in result.stdout
    assert "eq. (1) of the mean scores" not in result.stderr
    old = json.loads(output.read_text())
    del old["aggregation"]
    output.write_text(json.dumps(old))
    again = run_here(main, "fit", table, "-o", output, "--kappa", "3", "--json")
    assert f"pai-sweep: {output} held a curve with PAI: eq. (1) of the mean scores; " in again.stderr
    assert json.loads(again.stdout)["aggregation"] == "pai-then-mean"


@pytest.mark.parametrize("steps", ["0", "5", "200000"])
def test_fit_refuses_an_n_that_the_table_or_the_file_has_no_room_for(swept, tmp_path, steps):
    options = ("-o", tmp_path / "c.json", "--steps", steps)
    line = refused(run_here(main, "fit", swept[0] / "measurements.parquet", *options))
    assert f"--steps: found {steps}, accepted: from the table's largest local_steps, 6, to 100000" in line


def test_a_first_run_that_fails_leaves_nothing_and_fresh_moves_nothing_then(work, swept, tmp_path):
    """A prompt too long for the models is found when they are loaded, the last check before measuring."""
    (tmp_path / "long.txt").write_text("a photo of {subject} " + "in snow " * 30)
    wrong = ("--prompts", tmp_path / "long.txt")
    assert "tokens" in refused(run_here(main, *arguments(work, tmp_path / "new", *wrong)))
    assert not (tmp_path / "new").exists()
    before = sorted(swept[0].iterdir())
    assert "tokens" in refused(run_here(main, *arguments(work, swept[0], "--fresh", *wrong)))
    assert sorted(swept[0].iterdir()) == before


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "bad.parquet").write_text("no table")
    assert "bad.parquet: not valid Parquet" in refused(run_here(main, "fit", tmp_path / "bad.parquet"))


@pytest.mark.parametrize("facts", ["no json", "{}", '{"provenance": {"kind": "guessed"}}', '{"colour": 1}'])
def test_a_table_whose_facts_are_damaged_is_refused(swept, tmp_path, facts):
    rows = pq.read_table(swept[0] / "measurements.parquet").replace_schema_metadata({"edgesplit": facts})
    pq.write_table(rows, tmp_path / "t.parquet")
    assert "found damaged metadata" in refused(run_here(main, "fit", tmp_path / "t.parquet"))


def killed(work, output, wait, more=()):
    """Kill the command hard while it is at work; `wait` comes back at the moment."""
    command = [BIN / "pai-sweep", *map(str, arguments(work, output, *more))]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | ONE_THREAD
    )
    try:
        wait(process)
        assert process.poll() is None  # it was at work
    finally:
        process.kill()
        process.wait()


def while_loading(rng):
    return lambda _: time.sleep(rng.uniform(0.5, 2))


def while_measuring(rng, output):
    """Some time after the first picture that was not there before."""

    def wait(process):
        deadline, before = time.monotonic() + LONG, newest(output)
        while process.poll() is None and time.monotonic() < deadline and newest(output) == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))

    return wait


def newest(output):
    return max((path.stat().st_mtime_ns for path in output.glob("pictures/*/[!.]*.png")), default=0)


def kill_and_resume(work, expected, kinds, more=()):
    """Kill at random moments, then let it end; the tables must be equal to the last bit."""
    output, rng = work / f"killed-{len(kinds)}", np.random.default_rng(len(kinds))
    for kind in kinds:
        killed(work, output, while_loading(rng) if kind == "loading" else while_measuring(rng, output), more)
    result = run_here(main, *arguments(work, output, *more))
    assert result.returncode == 0, result.stderr
    assert "everything is measured already" not in result.stderr
    pd.testing.assert_frame_equal(table(output), expected, check_exact=True)
    assert not list(output.glob("pictures/*/.*"))


def test_a_killed_sweep_goes_on_to_the_same_table(work, swept):
    kill_and_resume(work, table(swept[0]), ["measuring", "loading"])


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_row(work):
    """Sixty blocks, so that there is work left at every kill."""
    more = ("--seeds", "20")
    result = run_here(main, *arguments(work, work / "twenty", *more))
    assert result.returncode == 0, result.stderr
    kill_and_resume(work, table(work / "twenty"), ["measuring", "measuring", "measuring", "loading"] * 5, more)


def test_plan_reads_the_curve_and_says_how_sure_it_is(tmp_path):
    curve = data.FOLDER / "pai" / "toyworld.json"
    result = run_here(plan_main, "--users", data.sample("users.csv"), "--pai", curve, "--uncertainty", "--json")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    low, high = plan["uncertainty"]["objective_ci"]
    assert low <= plan["objective"] <= high
    assert plan["uncertainty"]["regret_s"] >= 0
    assert plan["scenario"]["total_steps"] == 50


def test_plan_refuses_uncertainty_for_a_curve_without_draws_or_without_one_that_rises(tmp_path):
    plan = ("--users", data.sample("users.csv"), "--uncertainty")
    assert "without bootstrap draws" in refused(run_here(plan_main, *plan))
    curve = json.loads((data.FOLDER / "pai" / "toyworld.json").read_text())
    curve["fit"]["draws"] = [[-0.2, 20.0, 1.0, 0.0]] * 3
    (tmp_path / "curve.json").write_text(json.dumps(curve))
    line = refused(run_here(plan_main, *plan, "--pai", tmp_path / "curve.json"))
    assert "whose 3 bootstrap draws all fail to rise" in line


def test_help_stays_where_python_leaves_docstrings_out():
    for words in (["--help"], ["fit", "--help"]):
        assert run("pai-sweep", *words, PYTHONOPTIMIZE="2").stdout == call("pai-sweep", *words).stdout

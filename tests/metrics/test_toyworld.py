"""What the toy pairs show: the shipped curve, and a small sweep made anew."""

import numpy as np
import pandas as pd
import pytest
from inprocess import run_here

from edgesplit import data
from edgesplit.common.files import read_record
from edgesplit.fitting.schemas import PaiCurveFile
from edgesplit.metrics.cli import main
from edgesplit.metrics.prompts import read_prompts

SHIPPED = data.FOLDER / "pai" / "toyworld.json"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two prompts, one seed, 16 steps."""
    folder = tmp_path_factory.mktemp("toy")
    prompts = data.sample("prompts.txt").read_text().splitlines()[:2]
    (folder / "prompts.txt").write_text("\n".join(prompts))
    options = ("--seeds", "1", "--steps", "16", "--splits", "0:N:N/4", "--device", "cpu", "-o", folder / "sweep")
    result = run_here(main, "--prompts", folder / "prompts.txt", *options)
    assert result.returncode == 0, result.stderr
    return folder / "sweep" / "pai_curve.json"


@pytest.mark.parametrize("which", ["shipped", "small"])
def test_the_toy_pairs_show_the_paper_s_effect(which, request):
    curve = read_record(SHIPPED if which == "shipped" else request.getfixturevalue("small"), PaiCurveFile)
    lpips = [point.lpips for point in curve.points]
    assert curve.points[0].local_steps == 0
    assert lpips[0] == 0
    assert np.all(np.diff(lpips) > 0)
    assert curve.points[0].pai_ci[1] < curve.points[-1].pai_ci[0]
    assert curve.fit.r2 > 0.9
    assert curve.fit.steepness_ci[0] > 0


def test_the_shipped_curve_follows_the_sigmoid_and_lies_in_most_intervals():
    curve = read_record(SHIPPED, PaiCurveFile)
    fitted = curve.fit.curve()
    inside = [low <= fitted.value(point.local_steps) <= high for point in curve.points for low, high in [point.pai_ci]]
    assert curve.fit.r2 >= 0.99
    assert np.mean(inside) >= 0.5
    assert {len(point.prompt_pai) for point in curve.points} == {10}
    assert curve.aggregation == "pai-then-mean"


def test_the_shipped_curve_is_the_fit_of_the_shipped_measurements(tmp_path):
    table = data.FOLDER / "sweeps" / "toyworld" / "measurements.parquet"
    result = run_here(main, "fit", table, "-o", tmp_path / "again.json")
    assert result.returncode == 0, result.stderr
    again, shipped = (read_record(path, PaiCurveFile) for path in (tmp_path / "again.json", SHIPPED))
    for own, other in zip(again.points, shipped.points, strict=True):
        assert own.local_steps == other.local_steps
        for name, value in own.model_dump().items():
            np.testing.assert_allclose(value, getattr(other, name), rtol=1e-12)  # processors differ in the last digit
    for name in ("steepness", "midpoint", "steepness_ci", "midpoint_ci"):
        np.testing.assert_allclose(getattr(again.fit, name), getattr(shipped.fit, name), rtol=1e-4)
    assert again.min_local_steps == shipped.min_local_steps
    assert again.provenance == shipped.provenance
    prompts = read_prompts(data.sample("prompts.txt"), "dog")
    assert {f"prompt: {prompt}" for prompt in prompts} <= set(shipped.provenance.notes)
    assert len(pd.read_parquet(table)) == 10 * 20 * 3 * 11

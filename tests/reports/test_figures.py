"""Pictures in which everything is seen: titles, lines that coincide, few cases, names of any kind and length."""

import json
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from edgesplit import data
from edgesplit.common.figures import picture_bytes
from edgesplit.optimizer.inputs.scenario import overrides
from edgesplit.reports.basis.definitions import Material
from edgesplit.reports.basis.look import FEW, boxes, framed, legend_below, method_lines, palette
from edgesplit.reports.basis.setup import Choices, describe, make_setup
from edgesplit.reports.exhibit import latency, learning, scopes, splits
from edgesplit.reports.exhibits import exhibits

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # what seaborn asks of Matplotlib 3.11
SETUP, SOURCES = make_setup()


def coinciding(axis):
    """Pairs of lines that nobody can tell apart: the same points, marked at the same ones, equally wide."""
    lines = [line for line in axis.lines if len(line.get_xdata()) > 1]
    looks = [(line.get_markevery(), line.get_linewidth(), line.get_markersize()) for line in lines]
    return [
        (a, b)
        for (a, look), (b, other) in combinations(zip(lines, looks, strict=True), 2)
        if np.array_equal(a.get_xydata(), b.get_xydata()) and look == other
    ]


def equal_methods(x="users"):
    """Five methods that are worth the same in every one of two cases."""
    methods = ("drl", "exact", "ilp-fixed", "genetic", "genetic-joint")
    return pd.DataFrame(
        [
            {x: at, "case": case, "method": name, "qoe_per_user": -at - case, "captured_share": 0.9 + case / 20}
            for name in methods
            for at in (5, 10, 20)
            for case in (0, 1)
        ]
    )


def test_lines_of_equal_methods_stand_side_by_side_and_around_their_point():
    with framed() as (_, axis):
        method_lines(axis, equal_methods(), "users", "qoe_per_user", "drl")
    starts = [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 3]
    assert len(set(np.round(starts, 6))) == 5
    assert np.mean(starts) == pytest.approx(5)
    assert max(starts) - min(starts) < 2.5  # nearer to their own point than to the next one
    assert not coinciding(axis)


def test_equal_scopes_devices_and_batches_are_all_seen():
    rows = [
        {"scope": scope, "gpus": g, "drawn_at": 4, "users": users, "qoe_per_user": float(g)}
        for scope in ("general", "specific", "optimum") for g in (1, 2, 4) for users in (5, 10)
    ]  # fmt: skip
    assert not any(map(coinciding, scopes.draw(pd.DataFrame(rows), "qoe_per_user", "s").axes))
    assert not coinciding(scopes.draw_case(pd.DataFrame(rows)).axes[0])
    grid = pd.DataFrame({"alpha": np.geomspace(1, 100, splits.ALPHAS), "offloaded_steps": 0, "gpus": 8})
    same = [grid.assign(device=device, batch=batch) for device in ("slow", "fast") for batch in (5, 10, 20)]
    assert not coinciding(splits.draw(pd.concat(same), "device").axes[0])
    one = {"source": "published", "drawn": True}
    steps = [
        {**one, "device": device, "what": what, "batch": b, "step_s": 0.1 * b + (what == "fit")}
        for device in ("a", "b") for what in ("fit", "measured") for b in (1, 2, 4)
    ]  # fmt: skip
    assert not coinciding(latency.draw(pd.DataFrame(steps)).axes[0])


def test_the_optimum_is_drawn_upon_what_hides_it():
    curves = [
        pd.DataFrame({"scope": scope, "episode": [1000, 2000], "episode_return": [-5.0, -1.0], "optimum": [-1.0, -1.0]})
        for scope in ("general", "specific")
    ]
    for axis in learning.draw(pd.concat(curves)).axes:
        assert [line.get_label() for line in axis.lines][1] == "optimum"


@pytest.mark.parametrize("cases", [2, FEW - 1, FEW])
def test_few_cases_are_points_and_many_are_boxes(cases):
    values = np.arange(2 * 3 * cases, dtype=float)
    rows = pd.DataFrame({"place": np.repeat([0, 1, 2], 2 * cases), "kind": ["a", "b"] * (3 * cases), "value": values})
    looks = {name: {"color": colour, "marker": "o"} for name, colour in zip("ab", palette(2), strict=True)}
    with framed() as (_, axis):
        boxes(axis, rows, "place", "value", "kind", looks)
    points = [line for line in axis.lines if line.get_linestyle() == "None"]
    drawn = np.concatenate([line.get_xydata() for line in points]) if points else np.empty((0, 2))
    if cases >= FEW:
        assert len(axis.lines) > 6 * 4  # box, whiskers, median
        return
    assert sorted(drawn[:, 1]) == values.tolist()
    assert len(axis.lines) == 2
    assert np.array_equal(np.round(drawn[np.argsort(drawn[:, 1]), 0]), rows["place"])


def test_a_figure_has_its_exhibits_title():
    exhibit = exhibits()[0]
    table = exhibit.table(Material(setup=SETUP, sources=SOURCES, rows=pd.DataFrame()))
    assert exhibit.picture(table).get_suptitle() == exhibit.title


@pytest.mark.parametrize("name", ["$1 for $2", "_hidden", "显卡一 🎉", "a" * 200, r"\frac{1}", "a\nb"])
def test_devices_of_any_name_are_drawn_without_a_word(tmp_path, name):
    profile = json.loads((data.FOLDER / "profiles/rtx-3060.json").read_text()) | {"name": "mine", "device": name}
    (tmp_path / "mine.json").write_text(json.dumps(profile))
    _, sources = make_setup(devices=["h200", str(tmp_path / "mine.json")])
    figure = latency.draw(latency.latency_table(sources.edge, sources.devices))
    assert picture_bytes(figure, "png")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 3
    assert name.isascii() or any(label.startswith("mine (") for label in labels)
    assert_inside(figure)


def assert_inside(figure):
    """Whether the legend has room below the axes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `picture_bytes` does so, too
        FigureCanvasAgg(figure).draw()
    box, room = figure.legends[0].get_window_extent(), figure.bbox
    assert room.x0 <= box.x0 <= box.x1 <= room.x1
    assert box.y0 >= room.y0


@pytest.mark.parametrize("names", [("x", "y"), ("W" * 52, "y"), ("m" * 30, "m" * 30), ("a word " * 20, "y")])
def test_legends_stay_inside_of_the_picture(names):
    with framed() as (figure, axis):
        for name in names:
            axis.plot([1, 2], [1, 2], label=name)
    legend_below(figure)
    assert_inside(figure)


def test_a_device_that_nobody_named_has_the_profiles_name(tmp_path):
    profile = json.loads((data.FOLDER / "profiles/rtx-3060.json").read_text()) | {"device": "unknown"}
    for name in ("lab-1", "lab-2"):
        (tmp_path / f"{name}.json").write_text(json.dumps(profile | {"name": name}))
    first, second = (str(tmp_path / f"{name}.json") for name in ("lab-1", "lab-2"))
    setup, sources = make_setup(changes=overrides(edge=first), devices=[first, second], choices=Choices())
    table = latency.latency_table(sources.edge, sources.devices)
    assert set(table["device"]) == {"lab-1 (edge)", "lab-1", "lab-2"}
    assert "8 x lab-1" in describe("default", setup, sources)["scenario"]
    splits_of = next(exhibit for exhibit in exhibits() if exhibit.name == "fig7a")
    assert "unknown" not in str(splits_of.table(Material(setup=setup, sources=sources, rows=pd.DataFrame()))["device"])

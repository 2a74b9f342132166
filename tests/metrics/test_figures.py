"""Fig. 4: any prompt can stand above the pictures."""

import warnings

import numpy as np
import pytest
from PIL import Image

from edgesplit.common.figures import picture_bytes
from edgesplit.metrics.analysis import GroupScores, analyse
from edgesplit.metrics.figures import draw_curve, draw_pictures

STEPS = np.array([0, 5, 10])


@pytest.fixture(scope="module")
def analysis():
    rising = np.array([[0.2, 0.3, 0.4], [0.2, 0.35, 0.4]])
    return analyse(GroupScores(STEPS, rising, rising, np.arange(2), users=2), 10)


@pytest.mark.parametrize(
    "prompt", ["a $5 dog for $x^$", "雪地里的狗 🚀", "very " * 60 + "long", "_dog", "a\x1b[31mdog"]
)
def test_any_prompt_can_be_drawn_without_a_word(analysis, tmp_path, prompt):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    pictures = {name: [tmp_path / "p.png"] * len(STEPS) for name in ("anna", "ben")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_pictures(analysis, pictures, prompt)
        assert picture_bytes(figure, "svg")
    assert len(figure.axes[0].get_title()) <= 120


def test_the_curve_is_drawn_with_its_band_and_a_point_for_each_prompt_and_split(analysis):
    figure = draw_curve(analysis)
    assert "95 % band" in [text.get_text() for text in figure.legends[0].get_texts()]
    (points,) = (drawn for drawn in figure.axes[0].collections if drawn.get_label() == "PAI of each prompt")
    expected = [(n, value) for row in analysis.prompts["pai"] for n, value in zip(STEPS, row, strict=True)]
    np.testing.assert_allclose(points.get_offsets(), expected)

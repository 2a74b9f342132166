"""Pictures hold names of any kind without a warning, and the same figure gives the same bytes."""

import pytest
from matplotlib.figure import Figure

from edgesplit.common import figures
from edgesplit.common.figures import can_draw, drawn_text, picture_bytes


def picture_of(text):
    figure = Figure(figsize=(2, 2))
    axis = figure.subplots()
    axis.plot([0, 1], label=drawn_text(text))
    axis.set_title(drawn_text(text))
    axis.legend()
    assert len(axis.get_legend().get_texts()) == 1
    return picture_bytes(figure, "svg")


@pytest.mark.parametrize("text", ["RTX 4090", "显卡 🎉", "$x^2$", "5 $ a", r"$\frac{1}", "_hidden", "a\nb", "\x1b[1m"])
def test_any_name_is_drawn_without_a_warning_and_twice_alike(text):
    assert picture_of(text) == picture_of(text)


def test_letters_that_no_font_has_are_an_ellipsis(monkeypatch):
    monkeypatch.setattr(figures, "_fonts", lambda: ("DejaVu Sans",))
    assert drawn_text("lab (显卡 一) é") == "lab (\u2026) é"
    assert can_draw("Grüße, мир, γειά")
    assert not can_draw("显")


def test_a_long_name_ends_in_a_tilde_and_a_dollar_stays_one():
    assert drawn_text("x" * 60) == "x" * 39 + "~"
    assert drawn_text("5 $ to 6 $") == r"5 \$ to 6 \$"
    assert drawn_text("_a").endswith("_a")
    assert not drawn_text("_a").startswith("_")

"""The picture of profiles: its scale, what of it was not measured, and names of any kind."""

import warnings

import pytest

from edgesplit.common.figures import picture_bytes
from edgesplit.fitting.library import load_profile
from edgesplit.fitting.schemas import LatencySample
from edgesplit.profiler.figures import draw_profiles


def profile(batches, slow=0, **changes):
    """A profile with samples at these batch sizes; at each of them some are thirty times as slow."""
    model, samples = load_profile("rtx-4090"), []
    for batch in batches:
        median = float(model.fit.model().step_latency(batch))
        durations = [median] * 9 + [30 * median] * slow
        samples.append(
            LatencySample(
                batch=batch, median_s=median, ci_low_s=median, ci_high_s=median, n=len(durations), durations_s=durations
            )
        )
    return model.model_copy(update={"samples": samples, **changes})


def lines(figure, style):
    """The ends on the x axis of the upper picture's lines of a style, without those of the legend."""
    drawn = [line for line in figure.axes[0].lines if line.get_linestyle() == style and len(line.get_xdata()) > 2]
    return [(float(line.get_xdata()[0]), float(line.get_xdata()[-1])) for line in drawn]


def legend(figure):
    box = figure.axes[0].get_legend() or figure.legends[0]
    return [text.get_text() for text in box.get_texts()]


def test_the_scale_follows_the_medians_and_slower_samples_are_counted():
    calm, stormy = draw_profiles([profile((1, 2, 4))]), draw_profiles([profile((1, 2, 4), slow=2)])
    assert calm.axes[0].get_ylim() == stormy.axes[0].get_ylim()
    assert "not shown: 6 slower samples" in legend(stormy)
    assert not any("not shown" in text for text in legend(calm))


@pytest.mark.parametrize(
    ("batches", "solid", "dashed"),
    [
        ((1, 2, 4), [(1, 4)], []),
        ((2, 4, 8), [(2, 8)], [(1, 2)]),
        ((1, 32), [(1, 32)], []),
        ((20, 32), [(20, 32)], [(1, 20)]),
        ((), [], [(1, 16)]),
    ],
)
def test_the_line_is_dashed_where_nothing_was_measured(batches, solid, dashed):
    figure = draw_profiles([profile(batches)])
    assert (lines(figure, "-"), lines(figure, "--")) == (solid, dashed)
    assert ("dashed: batch sizes that were not measured" in legend(figure)) == bool(dashed)


def test_a_single_batch_size_has_a_point_and_no_line():
    figure = draw_profiles([load_profile("iphone-14"), load_profile("snapdragon-x-elite")])
    assert (lines(figure, "-"), lines(figure, "--")) == ([], [])
    assert legend(figure) == ["iPhone 14, SD2.1-base, fp16: 389.00 ms", "Snapdragon X Elite, SD1.5, w8a16: 225.40 ms"]
    assert figure.axes[0].get_ylim()[1] == pytest.approx(1.15 * 389)


def test_profiles_beside_each_other_are_drawn_to_the_same_batch_size_but_no_farther_than_is_usual():
    figure = draw_profiles([profile((1, 2)), profile((1, 100))])
    assert lines(figure, "-") == [(1, 2), (1, 100)]
    assert lines(figure, "--") == [(2, 16)]


def test_many_profiles_have_their_legend_below():
    figure = draw_profiles([profile((1, 2))] * 12)
    assert len(legend(figure)) == 12
    assert figure.axes[0].get_legend() is None


@pytest.mark.parametrize("name", ["显卡 🚀", "a $x^$ b $", "_hidden", "x" * 300, "a\tb\x1b[31m"])
def test_any_name_can_be_drawn_without_a_word(name):
    figure = draw_profiles([profile((1, 2), device=name, model=name)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture_bytes(figure, "svg")
    assert len(legend(figure)) == 1

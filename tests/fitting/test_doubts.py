"""What is implausible in a parameter file is said, and nothing of what ships is."""

import pytest

from edgesplit import data
from edgesplit.common.files import read_record
from edgesplit.fitting.doubts import curve_doubts, profile_doubts
from edgesplit.fitting.library import load_curve, load_profile
from edgesplit.fitting.schemas import LatencyProfile, PaiCurveFile

PROFILE, CURVE = load_profile("rtx-4090"), load_curve("toyworld")


def test_nothing_that_ships_is_doubted_without_a_note_that_says_so():
    for path in data.shipped("profiles").values():
        profile = read_record(path, LatencyProfile)
        doubts = set(profile_doubts(profile))
        assert doubts <= set(profile.provenance.notes)
        assert bool(doubts) == (len(profile.samples) in (1, 2))
    for path in data.shipped("pai").values():
        assert list(curve_doubts(read_record(path, PaiCurveFile))) == []


def with_fit(record, **changes):
    return record.model_copy(update={"fit": record.fit.model_copy(update=changes)})


def with_points(count=None, **changes):
    points = [point.model_copy(update=changes) for point in CURVE.points[:count]]
    return CURVE.model_copy(update={"points": points})


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (with_fit(PROFILE, slope_s=500.0), "one step of one image takes 500 s by this profile"),
        (with_fit(PROFILE, slope_s=1e-7, intercept_s=0.0, floor_s=None), "takes 1e-07 s by this profile"),
        (PROFILE.model_copy(update={"samples": PROFILE.samples[:2]}), "a line goes through two batch sizes"),
        (PROFILE.model_copy(update={"samples": PROFILE.samples[:1]}), "so that k and h are unknown"),
        (with_fit(PROFILE, slope_s=0.0, floor_s=None), "further images in a batch take no time"),
    ],
)
def test_an_implausible_profile_is_doubted_once(profile, says):
    (doubt,) = profile_doubts(profile)
    assert says in doubt


@pytest.mark.parametrize(
    ("curve", "says"),
    [
        (with_points(clip=31.2, pai=89.1), "CLIP is up to 31.2 and PAI up to 89.1, but a cosine is 1 at most"),
        (with_points(pai=1.6), "PAI is up to 1.6, and the paper's about 1"),
        (with_fit(CURVE, amplitude=3.0, offset=0.1), "PAI is up to 3.08"),
        (with_points(lpips=7.0), "LPIPS-bar is 7 at n = 0"),
        (with_points(lpips=-0.3), "LPIPS-bar is -0.3 at n = 0"),
        (CURVE.model_copy(update={"aggregation": "mean-then-pai"}), "its PAI is eq. (1) of mean scores"),
        (with_points(3), "the 2 parameters of the sigmoid follow from 3 splits"),
    ],
)
def test_an_implausible_curve_is_doubted_once(curve, says):
    (doubt,) = curve_doubts(curve)
    assert says in doubt

"""Profiles of further devices and models, and held-out measurements: each published row stands where it belongs."""

from collections import Counter

import pytest

from edgesplit import data
from edgesplit.fitting.further import further_profiles, shipped_rows
from edgesplit.fitting.latency import fit_latency
from edgesplit.fitting.library import load_profile
from edgesplit.fitting.names import network_of
from edgesplit.fitting.published import all_profiles
from edgesplit.fitting.sources import FURTHER

ROWS = shipped_rows()


def test_every_row_of_a_profile_is_a_sample_of_one_shipped_profile():
    wanted = Counter((row.device, row.model, row.batch, row.step_s) for row in ROWS if row.use.startswith("profile"))
    made = [load_profile(profile.name) for profile in further_profiles(ROWS)]
    assert Counter((p.device, p.model, s.batch, s.median_s) for p in made for s in p.samples) == wanted
    assert all(profile.provenance.kind == "published" and profile.provenance.versions["backend"] for profile in made)


def test_every_held_out_row_stands_beside_a_card_of_its_kind_and_is_no_sample_of_it():
    profiles = all_profiles()
    kept = [(profile, check) for profile in profiles for check in profile.held_out]
    rows = {(row.device, row.batch, row.step_s) for row in ROWS if row.use == "held-out check"}
    assert {(check.device, check.batch, check.step_s) for _, check in kept} == rows
    for profile, check in kept:
        assert check.device.replace("Tesla ", "").split("-")[0].split()[0] in profile.device
        assert network_of(check.model) == network_of(profile.model)
        assert (check.batch, check.step_s) not in [(sample.batch, sample.median_s) for sample in profile.samples]
        assert check.source.partition(":")[0] in FURTHER


def test_the_a100_is_as_far_off_other_people_s_measurements_as_the_sources_say():
    """-8, +33, +19, +18 % at b = 1, 2, 4, 8."""
    profile = load_profile("a100-sxm4-40gb")
    checks = [check for check in profile.held_out if check.source.startswith("E1:")]
    off = [round(100 * (float(profile.fit.model().step_latency(c.batch)) / c.step_s - 1)) for c in checks]
    assert (off, [check.batch for check in checks]) == ([-8, 33, 19, 18], [1, 2, 4, 8])


def test_one_batch_size_leaves_k_unknown_and_counts_images_one_after_another():
    phone = load_profile("iPhone 14")
    assert phone.one_size
    assert float(phone.fit.model().step_latency(3)) == pytest.approx(3 * phone.samples[0].median_s)
    assert "k and h are unknown" in phone.provenance.notes[-1]
    assert not load_profile("a100-80gb-sdxl").one_size


def test_quantised_steps_say_so():
    profile = load_profile("Snapdragon X Elite")
    assert (profile.dtype, profile.quantization) == ("int16", "w8a16")


def test_a_published_plateau_takes_the_floor_model():
    """Qwen-Image on an H200, flat up to three images."""
    rows = [row for row in ROWS if row.use == "floor test"]
    fit = fit_latency([row.batch for row in rows], [row.step_s for row in rows])
    assert 0.167 < fit.model.floor_s < 0.186
    assert fit.max_relative_residual < 0.08


def test_decode_times_come_with_their_source():
    for profile in all_profiles():
        assert (profile.decode_s is not None) == any(
            note.startswith("decode_s: D1") for note in profile.provenance.notes
        )
    assert load_profile("rtx-4090").decode_s == 0.031


@pytest.mark.parametrize(
    ("model", "network"),
    [("SD1.5", "SD 1.x"), ("sd15", "SD 1.x"), ("SD1.x/2.x", "SD 1.x"), ("sd21", "SD 2.x"), ("SD2.1-base", "SD 2.x"),
     ("SDXL", "sdxl"), ("sd3.5-medium", "sd35medium"), ("PixArt-Sigma", "pixartsigma"), ("???", "")],
)  # fmt: skip
def test_a_network_is_known_by_any_name_of_its_models(model, network):
    assert network_of(model) == network


def test_every_shipped_profile_is_made_by_the_script():
    assert {profile.name for profile in all_profiles()} == {*data.shipped("profiles")}

"""Parameter files: what ships, round trips, and one line for each way to spoil one."""

import json

import pytest

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.common.files import read_record, write_record
from edgesplit.fitting.library import load_curve, load_profile
from edgesplit.fitting.names import plain, slug
from edgesplit.fitting.published import CARDS, all_profiles
from edgesplit.fitting.schemas import LatencyProfile, PaiCurveFile

PROFILE = data.shipped("profiles")["rtx-4080"]
CURVE = data.shipped("pai")["paper"]


def test_shipped_profiles_are_what_the_fit_script_makes():
    made = {profile.name: profile for profile in all_profiles()}
    shipped = {name: read_record(path, LatencyProfile) for name, path in data.shipped("profiles").items()}
    for name, profile in made.items():
        fit, again = (
            {key: value for key, value in vars(record.fit).items() if value is not None}
            for record in (profile, shipped[name])
        )
        assert fit == pytest.approx(again, rel=1e-9)  # the last digits differ from processor to processor
        assert profile.model_copy(update={"fit": shipped[name].fit}) == shipped[name]
    assert {slug(card) for card in CARDS} <= shipped.keys()


@pytest.mark.parametrize(("folder", "kind"), [("profiles", LatencyProfile), ("pai", PaiCurveFile)])
def test_every_shipped_file_validates_and_bears_its_name(folder, kind):
    for name, path in data.shipped(folder).items():
        record = read_record(path, kind)
        assert getattr(record, "name", name) == name
        assert record.provenance.source


def test_every_s1_profile_says_what_was_done_to_it():
    for profile in all_profiles():
        notes = " ".join(profile.provenance.notes)
        scaled = profile.provenance.source.startswith("S1:")
        assert ("0.87" in notes) == scaled
        assert profile.dtype == {"h200": "bf16"}.get(profile.name, "int16" if profile.quantization else "fp16")
    assert "intercept_s is an upper bound" in " ".join(load_profile("a100-sxm4-80gb").provenance.notes)
    assert load_profile("h100-nvl").provenance.kind == "estimated"


@pytest.mark.parametrize("name", ["rtx-4080", "RTX 4080", "rtx4080", "Rtx_4080", str(PROFILE)])
def test_name_or_path_serves(name):
    assert load_profile(name).device == "RTX 4080"


def test_plain_ignores_case_space_and_hyphen():
    assert plain("A100-SXM4 80GB") == plain("a100 sxm4-80gb")


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match=r"found 'RTX 409O', accepted: .* did you mean 'rtx-4090'\?"):
        load_profile("RTX 409O")
    with pytest.raises(InputError, match="did you mean 'paper'"):
        load_curve("papre")


def test_a_written_file_reads_back_equal(tmp_path):
    profile = load_profile("rtx-4090")
    write_record(tmp_path / "own.json", profile)
    assert load_profile("own.json", tmp_path) == profile


@pytest.mark.parametrize(
    "change", [{"resolution": "1024x768"}, {"decode_s": 0.03, "encode_s": 0.01}, {"attention": "flash"}]
)
def test_a_profile_keeps_what_is_known_of_it_and_a_file_without_it_reads_as_before(tmp_path, change):
    whole = json.loads(PROFILE.read_text())
    old = {
        key: value
        for key, value in whole.items()
        if key not in ("quantization", "attention", "decode_s", "encode_s", "held_out")
    }
    (tmp_path / "old.json").write_text(json.dumps(old))
    profile = load_profile("old.json", tmp_path)
    assert (profile.quantization, profile.attention, profile.decode_s, profile.encode_s, profile.held_out) == (
        None,
    ) * 4 + ([],)
    (tmp_path / "new.json").write_text(json.dumps(old | change))
    read = load_profile("new.json", tmp_path)
    assert {key: getattr(read, key) for key in change} == change
    write_record(tmp_path / "again.json", read)
    assert load_profile("again.json", tmp_path) == read


def test_a_curve_of_before_reads_and_is_known_by_how_its_pai_was_computed(tmp_path):
    old = json.loads(data.shipped("pai")["toyworld"].read_text())
    for record, name in ((old, "aggregation"), (old["fit"], "prompt_r2"), *((p, "prompt_pai") for p in old["points"])):
        del record[name]
    (tmp_path / "old.json").write_text(json.dumps(old))
    curve = load_curve("old.json", tmp_path)
    assert (curve.aggregation, curve.fit.prompt_r2, curve.points[0].prompt_pai) == ("mean-then-pai", None, [])
    assert curve.fit.curve() == load_curve("toyworld").fit.curve()
    assert {load_curve(name).aggregation for name in ("paper", "toyworld")} == {"pai-then-mean"}


def spoil(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    return json.dumps(content)


def put(*keys, value):
    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1, column 1: not valid JSON"),
        ("[]", "found a list at the top"),
        (PROFILE.read_text()[:300], "not valid JSON .*cut short"),
        (PROFILE.read_text().replace("0.0", "NaN", 1), "NaN is not a JSON number"),
        (PROFILE.read_text().replace('"name"', '"device"', 1), "key 'device' stands twice"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        (
            spoil(PROFILE, put("fit", "slope_s", value=-1)),
            "field 'fit.slope_s': found -1, accepted: 0 or more",
        ),
        (
            spoil(PROFILE, put("fit", "slope_s", value="0.1")),
            "field 'fit.slope_s': found '0.1', accepted: .*number",
        ),
        (spoil(PROFILE, put("fit", "slope_s", value=1e300)), "field 'fit.slope_s': found 1e"),
        (spoil(PROFILE, put("fit", "slop", value=1)), "field 'fit.slop': unknown; did you mean 'slope_s'"),
        (spoil(PROFILE, lambda c: c.pop("device")), "field 'device': missing"),
        (spoil(PROFILE, lambda c: c["fit"].update(slope_s=0, intercept_s=0)), "a step that takes time"),
        (spoil(PROFILE, put("dtype", value="fp8")), "field 'dtype': found 'fp8', accepted: .*fp16"),
        (spoil(PROFILE, put("resolution", value="768")), "field 'resolution': .*WIDTHxHEIGHT.*'768'"),
        (spoil(PROFILE, put("resolution", value="0x768")), "field 'resolution': .*WIDTHxHEIGHT"),
        (spoil(PROFILE, put("resolution", value=0)), "field 'resolution': .*WIDTHxHEIGHT"),
        (spoil(PROFILE, put("quantization", value="[/bold]")), "field 'quantization': found '\\[/bold\\]'"),
        (spoil(PROFILE, put("decode_s", value=0)), "field 'decode_s': found 0"),
        (spoil(PROFILE, put("held_out", 0, "step_s", value=0)), "field 'held_out.0.step_s': found 0"),
        (spoil(PROFILE, put("samples", 0, "batch", value=0)), "field 'samples.0.batch': found 0"),
        (
            spoil(PROFILE, put("schema", value="edgesplit/latency-profile@2")),
            "newer than .* upgrade edgesplit",
        ),
        (spoil(PROFILE, put("schema", value="edgesplit/pai-curve@1")), "field 'schema': found .* accepted"),
        (
            spoil(PROFILE, lambda c: c.pop("schema")),
            "field 'schema': found None, accepted: 'edgesplit/latency",
        ),
    ],
)
def test_a_spoilt_profile_is_refused_in_one_line(text, says, tmp_path):
    path = tmp_path / "spoilt.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        load_profile(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_curve_with_local_steps_beyond_its_total_is_refused(tmp_path):
    path = tmp_path / "curve.json"
    path.write_text(spoil(CURVE, put("min_local_steps", value=201)))
    with pytest.raises(InputError, match="up to total_steps = 200, not 201"):
        load_curve(str(path))

"""Foreign files as traces; the rows here are made up."""

import json

import numpy as np
import pytest
from commands import call_root, refused

GENTD26 = """gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,negative_prompt_length,\
num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora
2030-01-01 00:00:09,TXT_2_IMG,SUCCEED,32.0,G1,63.0,26.0,4.0,30.0,M0,0
2030-01-01 00:00:01,TXT_2_IMG,SUCCEED,43.0,G2,93.0,,1.0,40.0,M1,0
2030-01-01 01:00:01,IMG_2_IMG,FAILED,53.0,G1,,,,,M1,2
"""


def imported(tmp_path, text, *options, name="trace.csv"):
    source = tmp_path / "source.csv"
    source.write_text(text)
    result = call_root("trace", "import", source, *options, "-o", tmp_path / name)
    assert result.returncode == 0, result.stderr
    return (tmp_path / name).read_text() if name.endswith(".csv") else result


def test_gentd26_becomes_a_trace_in_the_order_of_its_times(tmp_path):
    made = imported(tmp_path, GENTD26, "--from", "gentd26")
    assert made.splitlines() == [
        "time_s,user_id,images,total_steps", "0.0,G2,1,40", "8.0,G1,4,30", "3600.0,G1,,",
    ]  # fmt: skip


def test_a_table_of_ones_own_with_named_columns(tmp_path):
    text = "Start Time;Kunde;n\n10,5;ada;2\n7,25;ben;1\n"
    made = imported(tmp_path, text.replace(",", "."), "--time", "Start Time", "--user", "kunde", "--images", "n")
    assert made.splitlines() == ["time_s,user_id,images", "0.0,ben,1", "3.25,ada,2"]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a\n1\n", [], "--time: found nothing"),
        ("a\n1\n", ["--from", "gentd26"], "is missing"),
        ("a\n1\n", ["--from", "azure"], "--from: found 'azure'"),
        ("a\nsoon\n", ["--time", "a"], "found 'soon', accepted: a number of seconds, or a date"),
        ("a\ninf\n", ["--time", "a"], "found 'inf', accepted: a finite number"),
        ("a\n", ["--time", "a"], "no rows"),
        ("a,b\n1,x\n", ["--time", "a", "--steps", "b"], "found 'x', accepted: a whole number"),
        (GENTD26, ["--from", "gentd26", "--time", "gmt_create"], "--time: found --from gentd26"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path, text, options, said):
    source = tmp_path / "source.csv"
    source.write_text(text)
    line = refused(call_root("trace", "import", source, *options, "-o", tmp_path / "trace.csv"))
    assert said in line
    assert not (tmp_path / "trace.csv").exists()


def test_facts_are_what_the_plain_formulas_say(tmp_path):
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 20_000, 500)).round(3)
    images = rng.integers(1, 5, 500)
    path = tmp_path / "trace.csv"
    rows = "\n".join(f"{t},u{i % 7},{k}" for i, (t, k) in enumerate(zip(times, images, strict=True)))
    path.write_text(f"time_s,user_id,images\n{rows}\n")
    result = call_root("trace", "show", path, "--json")
    facts = json.loads(result.stdout)
    gaps = np.diff(times)
    assert facts["requests"] == 500
    assert facts["images"] == images.sum()
    assert facts["users"] == 7
    assert facts["median_gap_s"] == pytest.approx(np.median(gaps))
    assert facts["gap_variation"] == pytest.approx(gaps.std() / gaps.mean())
    assert facts["busiest_minute"] == max(np.sum((times >= t) & (times < t + 60)) for t in times)
    assert (tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")
    told = call_root("trace", "show", path).stdout
    assert all(len(line) <= 120 for line in told.splitlines())
    assert "500 requests of 7 users" in told


def test_a_trace_of_one_request_has_no_gaps(tmp_path):
    (tmp_path / "one.csv").write_text("time_s\n4\n")
    facts = json.loads(call_root("trace", "show", tmp_path / "one.csv", "--json").stdout)
    assert (facts["requests"], facts["mean_rate"], facts["median_gap_s"], facts["busiest_hour"]) == (1, None, None, 1)

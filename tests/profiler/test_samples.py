"""Measurements from elsewhere: what is read, and which files are refused."""

import pandas as pd
import pytest

from edgesplit.common.errors import InputError
from edgesplit.profiler.samples import read_samples


def written(folder, text, name="theirs.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_are_gathered_by_batch_size_in_their_order(tmp_path):
    text = "duration_s, batch,note\n0.3,2,warm\n0.1,1,\n0.25,2,\n"
    assert read_samples(written(tmp_path, text)) == {2: [0.3, 0.25], 1: [0.1]}


@pytest.mark.parametrize(
    "text",
    [
        "batch;duration_s\n1;0,1\n2;0,3\n",
        "sep=;\nbatch;duration_s\n1;0.1\n2;0.3\n",
        "batch\tduration_s\n1\t0.1\n2\t0.3\n",
        "\ufeffBatch,Duration_S\r\n1,0.1\r\n2,0.3\r\n",
        "batch,duration_s\n1,0.1\n2,0.3\n".encode("utf-16"),
        ",batch,duration_s\n0,1.0,0.1\n1,2.0,0.3\n",
        "batch,duration_s,\n1,0.1,\n,,\n\n2,1e-1,\n2,.5,\n,,\n",
        "batch,duration_s,gpu\n1,0.1,NA\n2,0.3,\n",
    ],
)
def test_what_programs_write_is_read_as_meant(tmp_path, text):
    expected = {1: [0.1], 2: [0.1, 0.5]} if "1e-1" in str(text) else {1: [0.1], 2: [0.3]}
    assert read_samples(written(tmp_path, text)) == expected


def test_parquet_serves_too_and_a_folder_of_its_parts(tmp_path):
    frame = pd.DataFrame({"batch": [1, 2, 2], "duration_s": [0.1, 0.3, 0.4]}, index=[5, 6, 7])
    frame.to_parquet(tmp_path / "steps.parquet")
    (tmp_path / "parts.parquet").mkdir()
    frame.iloc[:1].to_parquet(tmp_path / "parts.parquet" / "part-0.parquet")
    frame.iloc[1:].to_parquet(tmp_path / "parts.parquet" / "part-1.parquet")
    for name in ("steps.parquet", "parts.parquet"):
        assert read_samples(tmp_path / name) == {1: [0.1], 2: [0.3, 0.4]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty; accepted: a header (batch, duration_s) and one row for each of the timed steps"),
        ("batch,seconds\n", "header: column 'duration_s' is missing; found batch, seconds"),
        ("batch,duration_s\n", "no rows below the header"),
        ("batch,duration_s\n1,0.1\n", "found one batch size, accepted: two or more"),
        ("batch,duration_s\n1,0.1\nx,0.1\n", "row 2 (line 3), column 'batch': found 'x', accepted: a whole number"),
        ("batch,duration_s\n1.5,0.1\n", "row 1 (line 2), column 'batch': found '1.5', accepted: a whole number from 1"),
        ("batch,duration_s\n1,-1\n", "row 1 (line 2), column 'duration_s': found '-1', accepted: a number"),
        ("batch,duration_s\n1,0\n", "column 'duration_s': found '0', accepted: a number of seconds above 0"),
        ("batch,duration_s\n1,NaN\n", "row 1 (line 2), column 'duration_s': found nothing"),
        ("batch,duration_s\n,0.1\n", "row 1 (line 2), column 'batch': found nothing"),
        ("batch,duration_s\n1,inf\n", "column 'duration_s': found 'inf'"),
        ("batch,duration_s\n1\n", "line 2: found 1 fields, accepted: 2"),
        ("batch,duration_s\n1,1e-13\n", "column 'duration_s': found '1e-13'"),
        ("batch,duration_s\n2_0,0.1\n", "column 'batch': found '2_0'"),
        ("batch,duration_s\n1,0.1,7\n", "line 2: found 3 fields, accepted: 2"),
        ("batch,duration_s\n1,21 ms\n", "column 'duration_s': found '21 ms'"),
        ("batch,duration_s\n1," + "1" * 140_000, "line 2: not valid CSV (field larger than field limit"),
        (b"batch,duration_s\n1,\xff\n", "line 2: not UTF-8"),
    ],
)
def test_bad_samples_are_refused_in_one_line(tmp_path, text, says):
    with pytest.raises(InputError) as caught:
        read_samples(written(tmp_path, text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)

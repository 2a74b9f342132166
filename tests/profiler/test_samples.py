"""Measurements from elsewhere: what is read, and which files are refused."""

import pytest

from edgesplit.common.errors import InputError
from edgesplit.profiler.samples import read_samples


def written(folder, text):
    path = folder / "theirs.csv"
    path.write_text(text)
    return path


def test_rows_are_gathered_by_batch_size_in_their_order(tmp_path):
    text = "duration_s, batch,note\n0.3,2,warm\n0.1,1,\n0.25,2,\n"
    assert read_samples(written(tmp_path, text)) == {2: [0.3, 0.25], 1: [0.1]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "header: found '', accepted: columns batch and duration_s"),
        ("batch,seconds\n", "header: found 'batch,seconds'"),
        ("batch,duration_s\n", "no rows below the header"),
        ("batch,duration_s\n1,0.1\n", "found one batch size, accepted: two or more"),
        ("batch,duration_s\n1,0.1\nx,0.1\n", "line 3, column 'batch': found 'x', accepted: 1 to 4096"),
        ("batch,duration_s\n1,-1\n", "line 2, column 'duration_s': found '-1', accepted: a number"),
        ("batch,duration_s\n1\n", "line 2, column 'duration_s': found None"),
        ("batch,duration_s\n1,1e-13\n", "line 2, column 'duration_s': found '1e-13'"),
        ("batch,duration_s\n2_0,0.1\n", "line 2, column 'batch': found '2_0'"),
        ("batch,duration_s\n1,0.1,7\n", "line 2: found more fields than the header has, accepted: 2"),
        ("batch,duration_s\n1," + "1" * 140_000, "line 2: not CSV (field larger than field limit"),
    ],
)
def test_bad_samples_are_refused_in_one_line(tmp_path, text, says):
    with pytest.raises(InputError) as caught:
        read_samples(written(tmp_path, text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)

"""The users file: what is accepted, and one line for each way to get it wrong."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.fitting.library import load_profile
from edgesplit.optimizer.inputs.scenario import resolve_scenario
from edgesplit.optimizer.inputs.users import read_users
from edgesplit.optimizer.model.qoe import Users
from edgesplit.optimizer.model.split import alpha_from_emphasis

SCENARIO = resolve_scenario("default").for_alpha
GOOD = "user_id,step_latency_s\na,0.5\n"


@pytest.fixture
def read(tmp_path):
    def read(content, name="users.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_users(path, SCENARIO)

    return read


def test_device_or_number_alpha_or_emphasis_or_neither(read):
    table = read(
        "user_id,device,step_latency_s,alpha,emphasis,request_slot\na,RTX 4090,,,,\nb,,0.5,7,,3\nc,,0.5,,0.5,10\n"
    )
    latency = float(load_profile("rtx-4090").fit.model().step_latency(1))
    np.testing.assert_array_equal(table.step_latency_s, [latency, 0.5, 0.5])
    expected = [alpha_from_emphasis(SCENARIO, latency, 0.25), 7, alpha_from_emphasis(SCENARIO, 0.5, 0.5)]
    np.testing.assert_array_equal(table.alpha, expected)
    np.testing.assert_array_equal(table.request_slot, [10, 3, 10])
    assert table.cell_of is None


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffuser_id,step_latency_s\na,0.5\n",  # byte order mark
        "user_id,step_latency_s\r\na,0.5\r\n",
        " user_id , step_latency_s \n a , 0.5 \n\n",
        'user_id,step_latency_s\n"a","5e-1"',
        "step_latency_s,user_id,emphasis\n0.5,a,\n",
    ],
)
def test_harmless_variants_read_the_same(read, content):
    table, plain = read(content), read(GOOD)
    assert list(table.user_id) == ["a"]
    assert table.alpha == plain.alpha
    assert table.step_latency_s == plain.step_latency_s


def test_cells_are_numbered_as_they_appear(read):
    table = read("user_id,step_latency_s,cell\na,1,west\nb,1,east\nc,1,west\nd,1,\n")
    assert list(table.cell_names) == ["west", "east", ""]
    np.testing.assert_array_equal(table.cell, [0, 1, 0, 2])


def test_parquet_reads_as_csv_does(tmp_path):
    csv = data.sample("users.csv")
    pd.read_csv(csv).to_parquet(tmp_path / "users.parquet")
    ours, theirs = read_users(csv, SCENARIO), read_users(tmp_path / "users.parquet", SCENARIO)
    assert list(ours.user_id) == list(theirs.user_id)
    for name in (field.name for field in fields(Users)):
        np.testing.assert_array_equal(vars(ours)[name], vars(theirs)[name])


def test_a_devices_path_starts_at_the_users_file(read, tmp_path):
    profile = data.shipped("profiles")["rtx-4090"].read_text()
    (tmp_path / "mine.json").write_text(profile)
    assert read("user_id,device\na,mine.json\n").step_latency_s == [
        load_profile("rtx-4090").fit.model().step_latency(1)
    ]


def row(text, header="user_id,device,step_latency_s,alpha,emphasis,request_slot"):
    return f"{header}\nok,,0.5,,,\n{text}\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty; accepted: a header"),
        ("\n \n", "the file is empty"),
        ("user_id,device\n", "no rows below the header"),
        ("device\nrtx-4090\n", "column 'user_id' is missing"),
        ("user_id,alpha\na,1\n", "column 'device' or 'step_latency_s' is missing"),
        ("user_id,step_latency_s,aplha\na,1,1\n", r"unknown column 'aplha'; did you mean 'alpha'\?"),
        ("user_id,device,device\na,rtx-4090,\n", "column 'device' stands twice"),
        (row("a,,0.5,,,,x"), "line 3: found 7 fields, accepted: 6"),
        (row("a,,0.5"), "line 3: found 3 fields, accepted: 6"),
        (row('a,,0.5,"x'), "line 3: not valid CSV"),
        (
            row("ok,,0.5,,,"),
            r"row 2 \(line 3\): repeats row 1, 'ok'; keep one of them",
        ),
        (row("ok,,0.6,,,"), r"row 2 \(line 3\): has the user_id of row 1, 'ok'; keep one of them"),
        (row("a\tb,,0.5,,,"), "column 'user_id': found 'a.tb', accepted: a name without control characters"),
        (row(",,0.5,,,"), "column 'user_id': found nothing, accepted: a name"),
        (row("a,RTX 409O,,,,"), r"column 'device': .*found 'RTX 409O', .*did you mean 'rtx-4090'\?"),
        (row("a,missing.json,,,,"), "column 'device': .*missing.json: cannot read: No such file"),
        (row("a,,,,,"), "column 'device': found nothing, accepted: a device or a step latency"),
        (row("a,rtx-4090,0.5,,,"), "column 'step_latency_s': found '0.5', accepted: a blank cell"),
        (row("a,,-0.5,,,"), r"row 2 \(line 3\), column 'step_latency_s': found '-0.5', accepted: a number"),
        (row("a,,0,,,"), "column 'step_latency_s': found '0'"),
        (row("a,,nan,,,"), "column 'device': found nothing, accepted: a device or a step latency"),
        (row("a,,inf,,,"), "column 'step_latency_s': found 'inf'"),
        (row("a,,1e400,,,"), "column 'step_latency_s': found '1e400'"),
        (row("a,,fast,,,"), "column 'step_latency_s': found 'fast'"),
        (row("a,,1_0,,,"), "column 'step_latency_s': found '1_0'"),
        (row('a,,"0,5",,,'), "column 'step_latency_s': found '0,5'"),
        (row("a,,0.5,-1,,"), "column 'alpha': found '-1', accepted: a number of seconds, 0 or more"),
        (row("a,,0.5,,1.01,"), "column 'emphasis': found '1.01', accepted: a number from 0 to 1"),
        (
            row("a,,0.5,1,0.5,"),
            "column 'emphasis': found '0.5', accepted: a blank cell where 'alpha' is filled",
        ),
        (row("a,,0.5,,,0"), "column 'request_slot': found '0', accepted: a whole number from 1 to 10"),
        (row("a,,0.5,,,11"), "column 'request_slot': found '11'"),
        (row("a,,0.5,,,2.5"), "column 'request_slot': found '2.5'"),
        (b"user_id,device\na,\xff\n", "line 2: not UTF-8"),
    ],
)
def test_bad_files_are_refused_in_one_line_with_place_value_and_remedy(read, tmp_path, content, says):
    with pytest.raises(InputError, match=says) as caught:
        read(content)
    assert str(caught.value).startswith(str(tmp_path / "users.csv"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"user_id,device\n"])
def test_what_is_not_parquet_is_refused(read, content):
    with pytest.raises(InputError, match="not valid Parquet"):
        read(content, "users.parquet")


def test_an_emphasis_that_no_alpha_can_give_is_refused(read):
    flat = resolve_scenario("default").for_alpha
    steep = type(flat.pai)(steepness=50.0, midpoint=20)
    with pytest.raises(InputError, match=r"an alpha instead: .*a flat PAI curve"):
        read_users(data.sample("users.csv"), type(flat)(**vars(flat) | {"pai": steep}))

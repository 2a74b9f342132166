"""Tables of measurements from elsewhere: read as meant whoever wrote them, or refused with row, column and value."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from commands import refused
from inprocess import run_here

from edgesplit.common.errors import InputError
from edgesplit.metrics.cli import main
from edgesplit.metrics.measurements import NEEDED, read_measurements

SPLITS = (0, 5, 10, 15, 20)


def rows(users=("anna", "ben"), prompts=("in snow", "at night"), seeds=(0, 1)):
    """A curve that rises, with noise that is no random one."""
    return [
        (prompt, seed, n, user, round(0.2 + 0.01 * n + 0.001 * len(prompt) * seed, 4), round(0.02 * n, 4))
        for prompt in prompts
        for seed in seeds
        for n in SPLITS
        for user in users
    ]


def frame(**choices):
    return pd.DataFrame(rows(**choices), columns=NEEDED)


MEANT = frame().to_dict("list")


def decimal_commas(table):
    return table.to_csv(index=False, sep=";", decimal=",")


DIALECTS = {
    "pandas": lambda table: table.to_csv(),
    "semicolons and decimal commas": decimal_commas,
    "a sep= line": lambda table: "sep=;\n" + table.to_csv(index=False, sep=";"),
    "tabs": lambda table: table.to_csv(index=False, sep="\t"),
    "a byte order mark": lambda table: "\ufeff" + table.to_csv(index=False, lineterminator="\r\n"),
    "UTF-16": lambda table: table.to_csv(index=False).encode("utf-16"),
    "whole numbers as floats": lambda table: table.astype({"local_steps": float, "seed": float}).to_csv(index=False),
    "capitals and spaces": lambda table: table.rename(columns={"local_steps": "Local Steps", "clip": "CLIP"}).to_csv(),
    "blank rows and columns": lambda table: table.to_csv(index=False).replace("\n", ",,\n") + ",,,,,,,\n\n",
    "other columns": lambda table: table.assign(picture="x.png", note="NA").to_csv(index=False),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_programs_write_is_read_as_meant(tmp_path, dialect):
    text = DIALECTS[dialect](frame())
    path = tmp_path / "theirs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    columns, facts = read_measurements(path)
    assert {name: list(values) for name, values in columns.items()} == MEANT
    assert facts.provenance.source == "theirs.csv"


def test_parquet_a_folder_of_its_parts_and_the_folder_of_a_sweep_are_one_table(tmp_path):
    table = frame()
    (tmp_path / "sweep").mkdir()
    table.to_parquet(tmp_path / "sweep" / "measurements.parquet")
    (tmp_path / "parts").mkdir()
    for number in range(4):
        table.iloc[10 * number :][:10].to_parquet(tmp_path / "parts" / f"part-{number}.parquet")
    for path in (tmp_path / "sweep" / "measurements.parquet", tmp_path / "sweep", tmp_path / "parts"):
        assert {name: list(values) for name, values in read_measurements(path)[0].items()} == MEANT


@pytest.mark.parametrize("users", [("NA", "ben"), ("None", "nan"), ("01", "1"), ("null", "", "x"), ("1.0", "1")])
def test_users_keep_their_names(tmp_path, users):
    frame(users=users).to_csv(tmp_path / "t.csv", index=False)
    if "" in users:
        with pytest.raises(InputError, match=r"row 2 \(line 3\), column 'user': found nothing, accepted: the name"):
            read_measurements(tmp_path / "t.csv")
    else:
        columns, _ = read_measurements(tmp_path / "t.csv")
        assert tuple(dict.fromkeys(columns["user"])) == users


@pytest.mark.parametrize(
    ("number", "value", "message"),
    [
        (None, rows()[3], r"row 41 \(line 42\): repeats row 4, 'in snow, 0, 5, ben'; keep one of them"),
        (None, (*rows()[3][:4], 0.9, 0.9), r"row 41 .*: has the prompt and seed and local_steps and user of row 4"),
        (None, ("in snow", "0.0", "5.0", "ben", 0.25, 0.1), r"row 41 .*: repeats row 4"),
        (7, None, "prompt 'in snow', seed 0: found no row for local_steps 15 and user 'ben', accepted: one row for"),
        (7, ("in snow", 0, 15, "Ben", 0.1, 0.1), "found no row for local_steps 0 and user 'Ben'"),
        (7, ("", 0, 15, "ben", 0.1, 0.1), r"row 8 \(line 9\), column 'prompt': found nothing"),
        (7, ("in snow", "", 15, "ben", 0.1, 0.1), r"row 8 .*column 'seed': found nothing"),
        (7, ("in snow", 0, "15 steps", "ben", 0.1, 0.1), r"row 8 .*column 'local_steps': found '15 steps'"),
        (7, ("in snow", 0, 15, "ben", "NaN", 0.1), r"row 8 .*column 'clip': found nothing, accepted: a number"),
        (7, ("in snow", 0, 15, "ben", "inf", 0.1), r"row 8 .*column 'clip': found 'inf', accepted: a number"),
        (7, ("in snow", 0, 15, "b\x1ben", 0.1, 0.1), r"row 8 .*column 'user': found .*control characters"),
    ],
)
def test_a_bad_row_is_one_line_with_its_place(tmp_path, number, value, message):
    table = [list(map(str, row)) for row in rows()]
    if number is None:
        table.append(list(map(str, value)))
    elif value is None:
        del table[number]
    else:
        table[number] = list(map(str, value))
    path = tmp_path / "t.csv"
    path.write_text("\n".join(",".join(row) for row in [NEEDED, *table]))
    assert re.search(message, refused(run_here(main, "fit", path, "-o", tmp_path / "c.json")))


def test_clip_of_0_to_100_is_fitted_with_a_word(tmp_path):
    table = frame()
    table["clip"] *= 100
    table.to_csv(tmp_path / "t.csv", index=False)
    result = run_here(main, "fit", tmp_path / "t.csv", "-o", tmp_path / "c.json")
    assert result.returncode == 0
    assert "a cosine is 1 at most; is this CLIP on a scale of 0 to 100?" in result.stderr
    frame().to_csv(tmp_path / "t.csv", index=False)
    assert "cosine" not in run_here(main, "fit", tmp_path / "t.csv", "-o", tmp_path / "c.json").stderr


def test_fitting_again_needs_no_torch(tmp_path):
    frame().to_csv(tmp_path / "t.csv", index=False)
    code = (
        "import json, sys\nsys.argv = ['pai-sweep', 'fit', 't.csv', '--json']\n"
        "from edgesplit.metrics.cli import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n"
        "    print(json.dumps([left.code, 'torch' in sys.modules, 'diffusers' in sys.modules]), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(result.stderr.splitlines()[-1]) == [0, False, False], result.stderr
    assert json.loads(result.stdout)["schema"] == "edgesplit/pai-curve@1"

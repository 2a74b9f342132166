"""A full disk, whatever a command writes: one line that names the file, nothing half-written, nothing left behind."""

import pytest
from commands import call_root
from disks import files_up_to

from edgesplit import data

USERS = data.sample("users.csv")
BENCH = ("bench", "--device", "cpu", "--model", "tiny", "--batches", "1,2", "--max-seconds", "1", "-o")


@pytest.mark.parametrize(
    ("command", "options", "size"),
    [
        ("plan", ("--users", USERS, "-o", "plan.csv"), 50),
        ("plan", ("--users", USERS, "-o", "plan.parquet"), 50),
        ("plan", ("--users", USERS, "--gpu-sweep", "1:4", "-o", "gpus.png"), 1000),
        ("plan", ("init", "."), 50),
        ("hwprof", (*BENCH, "profile.json"), 300),
        ("hwprof", (*BENCH, "profile.json"), 20_000),
        ("hwprof", ("compare", "rtx-4090", "rtx-3060", "-o", "both.png"), 1000),
        ("dreambooth", ("--example", "example"), 1000),
        ("simulate", ("--arrivals", "poisson:1", "--rounds", "10", "--worlds", "1", "-o", "runs"), 1000),
    ],
)
def test_a_full_disk_is_one_line_and_nothing_half_written_stays(tmp_path, command, options, size):
    with files_up_to(size):
        done = call_root(command, *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "cannot write: File too large" in last
    assert "stdout" not in last
    assert all(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert not [path for path in tmp_path.rglob(".*") if path.suffix in (".tmp", ".lock")]

"""Files are written whole or not at all, and what cannot be read is said in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgesplit.common.errors import InputError, nearest, shown
from edgesplit.common.files import read_text, whole_file


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "plan.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as handle:
        handle.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["plan.csv"]


def test_a_full_disk_is_said_in_one_line(tmp_path):
    path = tmp_path / "plan.csv"
    path.write_text("old")
    with pytest.raises(InputError, match="cannot write"), whole_file(path) as handle:
        raise OSError(28, "No space left on device")
    assert handle.closed
    assert path.read_text() == "old"


def test_a_link_keeps_pointing_at_the_new_content(tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    with whole_file(tmp_path / "link.csv") as handle:
        handle.write("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"


@pytest.mark.parametrize("name", ["no/such/folder/x.csv", "", "x" * 300])
def test_where_nothing_can_be_written_is_named(name, tmp_path):
    with pytest.raises(InputError, match="cannot write"), whole_file(tmp_path / name) as handle:
        handle.write("x")


def test_a_device_is_not_replaced():
    with pytest.raises(InputError, match="not a regular file"), whole_file(Path(os.devnull)) as handle:
        handle.write("x")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"a\n\xff", r"line 2: not UTF-8 \(byte 0xff\)"), (None, "cannot read: No such file")],
)
def test_what_cannot_be_read_is_named(content, says, tmp_path):
    path = tmp_path / "users.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_text(path)


def test_a_directory_and_a_name_with_a_null_byte_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "a\0b"):
        with pytest.raises(InputError, match="cannot read"):
            read_text(path)


def test_byte_order_mark_is_dropped(tmp_path):
    path = tmp_path / "users.csv"
    path.write_bytes(b"\xef\xbb\xbfuser_id")
    assert read_text(path) == "user_id"


def test_words_for_messages():
    assert nearest("aplha", ["alpha", "cell"]) == "did you mean 'alpha'?"
    assert nearest("zzz", ["alpha", "cell"]) == "known: alpha, cell"
    assert "\n" not in shown("a\nb")
    assert len(shown("x" * 1000)) == 60


def test_a_private_file_stays_private_when_it_is_rewritten(tmp_path):
    path = tmp_path / "private.json"
    path.touch(mode=0o600)
    with whole_file(path) as handle:
        handle.write("new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_links_that_lead_back_to_themselves_are_one_line(tmp_path):
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match="its links lead back to itself"), whole_file(loop):
        pass


KILLED = """
import os, sys
from pathlib import Path
from edgesplit.common.files import whole_file
with whole_file(Path(sys.argv[1])) as handle:
    handle.write("half")
    handle.flush()
    os._exit(9)
"""


def test_the_next_run_takes_what_a_killed_one_left(tmp_path):
    path = tmp_path / "result.json"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert [entry.name for entry in tmp_path.iterdir()] == [".result.json.tmp"]
    with whole_file(path) as handle:
        handle.write("whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "whole"


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "result.json"
    with whole_file(path) as first:
        first.write("first")
        done = subprocess.run([sys.executable, "-c", WRITES, path], check=True, capture_output=True, text=True)
        assert done.stderr == ""
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


WRITES = """
import sys
from pathlib import Path
from edgesplit.common.files import whole_file
with whole_file(Path(sys.argv[1])) as handle:
    handle.write("second")
"""

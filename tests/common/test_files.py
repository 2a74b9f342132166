"""Files are written whole or not at all, and what cannot be read is said in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgesplit.common import files
from edgesplit.common.errors import InputError, nearest, shown
from edgesplit.common.files import make_folder, read_text, whole_file


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


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_that_nobody_writes_to_is_refused(pipe, monkeypatch):
    monkeypatch.setattr(files, "WRITER_S", 0.1)
    with pytest.raises(InputError, match="found a pipe that nobody writes to, accepted: a file"):
        read_text(pipe)


def test_a_pipe_whose_writer_is_silent_is_refused(pipe, monkeypatch):
    monkeypatch.setattr(files, "SILENCE_S", 0.1)
    writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(InputError, match=r"found a pipe that is silent for 0\.1 s"):
            read_text(pipe)
    finally:
        os.close(writer)


def test_what_somebody_writes_to_a_pipe_slowly_is_read_whole(pipe):
    text = "user_id,device\n" * 20_000
    slow = (
        "import sys, time\n"
        "with open(sys.argv[1], 'w') as pipe:\n"
        "    for _ in range(4):\n"
        "        pipe.write('user_id,device\\n' * 5_000); pipe.flush(); time.sleep(0.05)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", slow, pipe])
    while not (content := _none_yet(pipe)):  # the writer is still being started
        pass
    assert content == text
    assert writer.wait(60) == 0


def _none_yet(pipe):
    try:
        return read_text(pipe)
    except InputError:
        return ""


def test_devices_and_huge_files_are_refused_before_they_are_read(tmp_path):
    for device in ("/dev/zero", "/dev/urandom", os.devnull):
        with pytest.raises(InputError, match=f"{device}: found a device, accepted: a file"):
            read_text(Path(device))
    with open(tmp_path / "huge.csv", "wb") as handle:
        handle.truncate(1 << 40)
    with pytest.raises(InputError, match="found more than 1024 MiB"):
        read_text(tmp_path / "huge.csv")


def test_a_pipe_without_an_end_is_refused(pipe, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    endless = "import sys\nwith open(sys.argv[1], 'w') as pipe:\n    while True: pipe.write('0' * 4096)"
    writer = subprocess.Popen([sys.executable, "-c", endless, pipe], stderr=subprocess.DEVNULL)
    try:
        with pytest.raises(InputError, match="found more than 1 MiB"):
            while not _none_yet_or_too_much(pipe):
                pass
    finally:
        writer.kill()
        writer.wait()


def _none_yet_or_too_much(pipe):
    try:
        return read_text(pipe)
    except InputError as error:
        if "nobody writes" not in str(error):
            raise
        return ""


def write(path):
    with whole_file(path) as handle:
        handle.write("x")


@pytest.mark.parametrize("use", [read_text, make_folder, write])
@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "loop/x", "\ud800", ""])
def test_no_name_of_a_file_is_a_traceback(use, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    try:
        use(Path(name))
    except InputError as error:
        assert "\n" not in str(error)

"""A folder of results: one process at a time, and the true reason where it cannot be used."""

import os
import sqlite3
from contextlib import closing

import pytest

from edgesplit.common.database import one_line, open_results
from edgesplit.common.errors import InputError
from edgesplit.common.result_table import ResultTable

TABLE = ResultTable(name="rows", columns={"value": "TEXT"}, key=("value",))


def opened(folder):
    return closing(open_results(folder / "results.sqlite", TABLE, {"a": 1}, "work"))


def test_a_second_process_is_told_of_the_first(tmp_path):
    with opened(tmp_path), pytest.raises(InputError, match="another work is at work here"), opened(tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("SQLITE_FULL", "database or disk is full", "free some space"),
        ("SQLITE_READONLY", "attempt to write a readonly database", "it may not be written: change its permissions"),
        ("SQLITE_READONLY_DIRECTORY", "attempt to write a readonly database", "it may not be written"),
        ("SQLITE_CANTOPEN", "unable to open database file", "it cannot be opened for writing"),
        ("SQLITE_IOERR_WRITE", "disk I/O error", "see whether the disk is full or failing"),
        ("SQLITE_ERROR", "no such table: rows", "no such table: rows; choose another -o"),
    ],
)
def test_an_error_of_the_database_comes_with_its_own_remedy(tmp_path, name, words, says):
    error = sqlite3.OperationalError(words)
    error.sqlite_errorname = name
    with pytest.raises(InputError, match=says) as caught, one_line(tmp_path / "results.sqlite", "work"):
        raise error
    assert ("free some space" in str(caught.value)) == (name == "SQLITE_FULL")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_says_so(tmp_path):
    with opened(tmp_path):
        pass
    (tmp_path / "results.sqlite").chmod(0o400)
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"may not be written|cannot be opened"), opened(tmp_path):
        pass


def test_a_disk_that_is_full_at_the_beginning_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left"):
        patch.setattr("os.replace", full)
        open_results(tmp_path / "results.sqlite", TABLE, {"a": 1}, "work")
    assert list(tmp_path.iterdir()) == []
    with opened(tmp_path):
        pass

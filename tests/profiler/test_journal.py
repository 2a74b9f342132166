"""The journal of a run: what an interrupted one leaves, and what the next one takes from it."""

import json

import pytest

from edgesplit.common.errors import InputError
from edgesplit.profiler.journal import Journal
from edgesplit.profiler.telemetry import NOTHING, Reading
from edgesplit.profiler.timing import Visit

HOT = Reading(**NOTHING.as_json() | {"throttled_by": ["hardware slowdown"], "energy_j": 1.0})
VISIT = Visit(round=0, batch=2, durations_s=[0.1, 0.25])


CONFIG = {"batches": [1, 2], "workload": {"model": "tiny", "dtype": "fp32"}}


@pytest.mark.parametrize(("content", "says"), [("", "not a journal"), ("5\n", "not a journal"), (None, "cannot read")])
def test_what_is_no_journal_is_not_written_over(tmp_path, content, says):
    path = tmp_path / "p.journal.jsonl"
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=says):
        Journal(path, {})
    assert path.is_dir() if content is None else path.read_text() == content


def test_a_spoiled_line_ends_what_is_gone_on_with(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"config": {}}\n5\n{"visit": {}}\n')
    journal = Journal(path, {})
    journal.close(remove=True)
    assert journal.done == []


def test_a_journal_keeps_visits_readings_and_threads(tmp_path):
    path = tmp_path / "j.jsonl"
    first = Journal(path, CONFIG)
    assert first.threads is None
    first.keep_threads(3)
    first.add(VISIT, HOT)
    first.close(remove=False)
    for _ in range(2):  # nor does a second interruption lose them
        again = Journal(path, CONFIG)
        assert (again.done, again.threads) == ([(VISIT, HOT)], 3)
        again.close(remove=False)
    again.close(remove=True)
    assert not path.exists()


def interrupted(path, visits=1):
    journal = Journal(path, CONFIG)
    journal.keep_threads(3)
    for _ in range(visits):
        journal.add(VISIT, HOT)
    journal.close(remove=False)
    return path


def test_visits_of_other_options_are_refused_with_the_difference_and_begun_anew_on_demand(tmp_path):
    path = interrupted(tmp_path / "j.jsonl")
    other = {"batches": [1, 4], "workload": {"model": "tiny", "dtype": "fp16"}}
    with pytest.raises(InputError) as caught:
        Journal(path, other)
    assert "had other options: batches was [1, 2] and is [1, 4], dtype was 'fp32' and is 'fp16';" in str(caught.value)
    assert "--fresh" in str(caught.value)
    for config in (other, CONFIG):
        journal = Journal(path, config, fresh=True)
        assert (journal.done, journal.threads) == ([], None)
        journal.close(remove=False)


def test_an_option_that_the_interrupted_run_did_not_know_binds_only_where_it_is_used(tmp_path):
    path = interrupted(tmp_path / "j.jsonl")
    Journal(path, CONFIG | {"quantize": None}).close(remove=False)
    with pytest.raises(InputError, match="quantize was None and is 'int8'"):
        Journal(path, CONFIG | {"quantize": "int8"})


def test_options_with_which_nothing_was_measured_bind_no_later_run(tmp_path):
    journal = Journal(interrupted(tmp_path / "j.jsonl", visits=0), {"batches": [8]})
    assert (journal.done, journal.threads) == ([], None)
    journal.close(remove=True)


@pytest.mark.parametrize(("visits", "fails", "stays"), [(1, False, False), (1, True, True), (0, True, False)])
def test_the_file_stays_only_after_an_error_and_with_a_visit(tmp_path, visits, fails, stays):
    path = tmp_path / "j.jsonl"
    try:
        with Journal(path, {}) as journal:
            for _ in range(visits):
                journal.add(VISIT, HOT)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert path.exists() == stays


def test_a_journal_of_a_version_without_digests_is_gone_on_with(tmp_path):
    path = interrupted(tmp_path / "j.jsonl", visits=2)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in entries:
        del entry["digest"]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    journal = Journal(path, CONFIG)
    assert (journal.done, journal.threads) == ([(VISIT, HOT)] * 2, 3)
    journal.close(remove=True)


def test_a_changed_visit_and_what_follows_it_are_measured_again_which_is_said(tmp_path, capsys):
    path = interrupted(tmp_path / "j.jsonl", visits=3)
    first, second, _ = path.read_text().splitlines(keepends=True)[2:]
    path.write_text(path.read_text().replace(first + second, first + second.replace("0.25", "0.26")))
    journal = Journal(path, CONFIG)
    assert journal.done == [(VISIT, HOT)]
    journal.close(remove=True)
    assert f"{path} was damaged: 2 visits of it are measured again" in capsys.readouterr().err


def test_a_full_disk_is_told_of_the_journal_and_not_of_stdout(tmp_path):
    class Full:
        def full(self, *_):
            raise OSError(28, "No space left on device")

        write = flush = close = full

    path = interrupted(tmp_path / "j.jsonl")
    with pytest.raises(InputError, match=r"j\.jsonl: cannot write: No space left"), Journal(path, CONFIG) as journal:
        journal.close(remove=False)
        journal._file = Full()
        journal.add(VISIT, HOT)
    again = Journal(path, CONFIG)
    assert again.done == [(VISIT, HOT)]
    again.close(remove=True)

"""The journal of a run: what an interrupted one leaves, and what the next one takes from it."""

import pytest

from edgesplit.common.errors import InputError
from edgesplit.profiler.journal import Journal
from edgesplit.profiler.telemetry import NOTHING, Reading
from edgesplit.profiler.timing import Visit

HOT = Reading(**NOTHING.as_json() | {"throttled_by": ["hardware slowdown"], "energy_j": 1.0})
VISIT = Visit(round=0, batch=2, durations_s=[0.1, 0.25])


@pytest.mark.parametrize(("content", "says"), [("", "not a journal"), ("5\n", "not a journal"), (None, "cannot read")])
def test_what_is_no_journal_is_not_resumed(tmp_path, content, says):
    path = tmp_path / "p.journal.jsonl"
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=says):
        Journal(path, {}, resume=True)


def test_a_spoiled_line_ends_what_is_resumed(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"config": {}}\n5\n{"visit": {}}\n')
    journal = Journal(path, {}, resume=True)
    journal.close(remove=True)
    assert journal.done == []


def test_a_journal_keeps_visits_and_readings(tmp_path):
    path, config = tmp_path / "j.jsonl", {"batches": [1, 2]}
    first = Journal(path, config, resume=False)
    first.add(VISIT, HOT)
    first.close(remove=False)
    again = Journal(path, config, resume=True)
    assert again.done == [(VISIT, HOT)]
    again.close(remove=True)
    assert not path.exists()


@pytest.mark.parametrize(("visits", "fails", "stays"), [(1, False, False), (1, True, True), (0, True, False)])
def test_the_file_stays_only_after_an_error_and_with_a_visit(tmp_path, visits, fails, stays):
    path = tmp_path / "j.jsonl"
    try:
        with Journal(path, {}, resume=False) as journal:
            for _ in range(visits):
                journal.add(VISIT, HOT)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert path.exists() == stays

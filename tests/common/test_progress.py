"""Progress where there is no terminal: a line at once, one for each tenth, and one a minute."""

from edgesplit.common import progress


def said(capsys, steps, total):
    with progress.progress_bar("work", total, "pictures") as show:
        for completed in steps:
            show(completed, "now")
    return capsys.readouterr().err.splitlines()


def test_the_first_step_and_each_tenth_have_a_line(capsys):
    lines = said(capsys, range(1, 101), 100)
    assert lines[0] == "work: 1 of 100 pictures, now"
    assert lines[1:] == [f"work: {number} of 100 pictures, now" for number in range(10, 101, 10)]


def test_slow_work_has_a_line_a_minute(capsys, monkeypatch):
    minutes = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: 61.0 * next(minutes))
    assert len(said(capsys, range(1, 6), 1000)) == 5


def test_work_without_a_size_has_one_line(capsys):
    assert said(capsys, [0, 0, 0], 0) == ["work: 0 of 0 pictures, now"]

"""Tables on narrow terminals: names are shortened by the terminal's cells, numbers never."""

import csv

import pytest
from rich.cells import cell_len

from edgesplit.common.errors import counted, printable
from edgesplit.common.tables import plain_table, print_table, short_name, write_table

NAMES = [
    "plain",
    "北京市海淀区中关村大街一号",
    "👩\u200d👩\u200d👧 family of three",
    "[red]not markup[/red]",
    "e\u0301" * 20,
]


@pytest.mark.parametrize("width", ["20", "60", "200"])
def test_numbers_are_whole_at_any_width(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", width)
    table = plain_table("name", "value", "another value")
    for name in NAMES:
        table.add_row(short_name(name, 12), "123456789.123456789", "-0.000000001")
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.rstrip().endswith("123456789.123456789  -0.000000001") for line in lines[1:])
    assert len({cell_len(line) for line in lines}) == 1


@pytest.mark.parametrize("cells", [2, 5, 12, 80])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_has_so_many_cells_at_most_and_stays_whole_where_it_fits(name, cells):
    short = short_name(name, cells).plain
    assert cell_len(short) <= cells
    assert short == printable(name) or short.endswith("~")


def test_joiners_are_left_out_and_what_else_is_not_seen_is_a_question_mark():
    assert printable("👩\u200d👧 می\u200cخواهم") == "👩👧 میخواهم"
    assert printable("a\u200bb\u202ec\x1b") == "a?b?c?"


def test_one_is_singular():
    assert [counted(number, "GPU") for number in (0, 1, 2, 1000)] == ["0 GPUs", "1 GPU", "2 GPUs", "1,000 GPUs"]


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", 'a"\r"', "=1+1", "a\nb,c"])
def test_a_text_with_ends_of_lines_comes_back_as_one(tmp_path, text):
    write_table(tmp_path / "t.csv", {"cell": ["x", text], "value": [1.5, 2]})
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as handle:
        assert list(csv.reader(handle)) == [["cell", "value"], ["x", "1.5"], [text, "2"]]

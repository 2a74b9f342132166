"""The one reader of tables: what programs write is read as meant; what is unclear is refused with its place."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesplit.common.errors import InputError
from edgesplit.common.table_reader import TableForm, read_table

FORM = TableForm(rows="things", known=("name", "size", "count"), names=("name",))
MEANT = {"name": ["ada", "bo"], "size": ["1.5", ""], "count": ["5", "7"]}


@pytest.fixture
def read(tmp_path):
    def read(content, file="things.csv", form=FORM):
        path = tmp_path / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, form)

    return read


@pytest.mark.parametrize(
    "content",
    [
        "name,size,count\nada,1.5,5\nbo,,7\n",
        "\ufeffname,size,count\r\nada,1.5,5\r\nbo,,7\r\n",
        "name;size;count\nada;1.5;5\nbo;;7\n",
        "name\tsize\tcount\nada\t1.5\t5\nbo\t\t7\n",
        "name|size|count\nada|1.5|5\nbo||7\n",
        "sep=;\nname;size;count\nada;1.5;5\nbo;;7\n",
        '"sep=,"\nname,size,count\nada,1.5,5\nbo,,7\n'.replace('"', ""),
        "Name, SIZE ,Count\nada,1.5,5\nbo,NA,7\n",
        "name,size,count\nada,1.5,5\nbo,NaN,7\n,,\n\n , ,\n",
        "name,size,count,,\nada,1.5,5,,\nbo,null,7,,\n",
        "name,size,count\nada,1.5,5,,\nbo,n/a,7\n",
        ",name,size,count\n0,ada,1.5,5\n1,bo,,7\n",
        "Unnamed: 0,name,size,count\n0,ada,1.5,5\n1,bo,,7\n",
        "name,size,count\nada,1.5,5\nbo,,7\n".encode("utf-16"),
        '"name","size","count"\n"ada","1.5","5"\n"bo","","7"\n',
        "# made by hand\n#\n\nname,size,count\nada,1.5,5\nbo,,7\n",
    ],
)
def test_what_programs_write_is_read_as_meant(read, content):
    assert read(content).columns == MEANT


def test_a_suffix_says_tab_and_a_decimal_comma_needs_semicolons(read):
    assert read("name\tsize\tcount\nada\t1.5\t5\n", "things.tsv").columns["size"] == ["1.5"]
    table = read("name;size\nada;1,5\nbo;1.5\n")
    np.testing.assert_array_equal(table.numbers("size", "a number", 0, 9), [1.5, 1.5])
    with pytest.raises(InputError, match=r"row 1 .*column 'size': found '1,5', accepted: a number"):
        read('name,size\nada,"1,5"\n').numbers("size", "a number", 0, 9)
    with pytest.raises(InputError, match=r"found '1\.000,5'"):
        read("name;size\nada;1.000,5\n").numbers("size", "a number", 0, 9e9)


@pytest.mark.parametrize("name", ["NA", "None", "nan", "01", "1e3", "null", "TRUE", "é", "小明", "=1+1"])
def test_names_stay_themselves(read, tmp_path, name):
    assert read(f"name,size\n{name},1\n")["name"] == [name]
    pd.DataFrame({"name": [name]}).to_parquet(tmp_path / "names.parquet")
    assert read_table(tmp_path / "names.parquet", FORM)["name"] == [name]
    assert read_table(pd.DataFrame({"name": [name]}), FORM)["name"] == [name]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty; accepted: a header .name, size, count. and one row for each of the things"),
        (" \n,\n", "the file is empty"),
        ("name,weight\nada,1\n", "header: found unknown column 'weight'; known: name, size, count"),
        ("name,sise\nada,1\n", r"unknown column 'sise'; did you mean 'size'\?"),
        ("name,name\nada,bo\n", "header: column 'name' stands twice; keep one of them"),
        ("name, Name \nada,bo\n", "column 'name' stands twice"),
        ("name,\nada,5\nbo,x\n", "header: found a column without a name that holds '5'; name it, or remove it"),
        ("name,size\nada\n", "line 2: found 1 fields, accepted: 2 as in the header"),
        ("name,size\nada,1,x\n", "line 2: found 3 fields, accepted: 2 as in the header; quote a field"),
        ('name,size\n"ada,1\n', "line 2: not valid CSV"),
        (b"name\n\xff\xe9\n", "line 2: not UTF-8"),
        (b"PK\x03\x04rest", "found a file that is an Excel workbook or another zip archive, accepted: CSV or Parquet"),
        (b"\x1f\x8brest", "found a file that is compressed by gzip"),
        (b"PAR1rest", "found a file that is Parquet without the suffix .parquet"),
        ('[{"name": "ada"}]', "found a file that is JSON, accepted: CSV or Parquet; save it as one of these"),
    ],
)
def test_what_is_unclear_is_refused_in_one_line(read, content, says):
    with pytest.raises(InputError, match=says) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_lines_count_as_an_editor_does_though_rows_are_skipped(read):
    table = read("name,size\n\n,\nada,1\nbo,x\n")
    with pytest.raises(InputError, match=r"row 2 \(line 5\), column 'size': found 'x', accepted: a number"):
        table.numbers("size", "a number", 0, 9)


def test_other_columns_are_left_out_where_the_form_says_so(read):
    loose = TableForm(rows="things", known=("name",), names=("name",), strict=False)
    assert read("name,weight,\nada,1,x\n", form=loose).columns == {"name": ["ada"]}


def test_a_table_without_a_needed_column_is_refused_with_what_it_has(read):
    needing = TableForm(rows="things", known=("name", "size"), strict=False, needed=("name", "size"))
    assert read("name,weight,size\nada,x,1\n", form=needing).columns == {"name": ["ada"], "size": ["1"]}
    with pytest.raises(InputError, match="header: column 'size' is missing; found name, weight; needed: name, size"):
        read("name,weight\nada,1\n", form=needing)
    with pytest.raises(InputError, match="column 'name' is missing"):
        read_table(pd.DataFrame({"weight": [1]}), needing)


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5), ("5.0", 5), ("5e0", 5), ("", np.nan), ("NA", np.nan), (" 5 ", 5)]
)
def test_whole_numbers_may_be_written_as_programs_do(read, text, value):
    column = read(f"name,count\nada,{text}\n").numbers("count", "whole", 0, 9, whole=True)
    np.testing.assert_array_equal(column, [value])


@pytest.mark.parametrize("text", ["5.5", "1_0", "0x5", "five", "inf", "10", "-1", "1e999", "٣٫٥"])
def test_what_is_no_such_number_is_refused(read, text):
    with pytest.raises(InputError, match=r"column 'count': found .*, accepted: 0 to 9"):
        read(f"name,count\nada,{text}\n").numbers("count", "0 to 9", 0, 9, whole=True)


@pytest.mark.parametrize("name", ["a\0b", "a\x1bb", '"a\nb"', "a\x7fb", "a\x85b"])
def test_control_characters_in_a_name_are_refused(read, name):
    with pytest.raises(InputError, match=r"column 'name': found .*, accepted: a name without control characters"):
        read(f"name,size\n{name},1\n").check_names("name")


def test_a_repeated_row_is_called_repeated_and_another_with_its_key_is_not(read):
    with pytest.raises(InputError, match=r"row 3 \(line 4\): repeats row 1, 'ada'; keep one of them"):
        read("name,size\nada,1\nbo,1\nada,1\n").check_unique("name")
    with pytest.raises(InputError, match=r"row 2 \(line 3\): has the name and size of row 1, 'ada, 1'; keep one"):
        read("name,size,count\nada,1,1\nada,1,2\n").check_unique("name", "size")


def test_parquet_of_other_programs(tmp_path):
    frame = pd.DataFrame({"name": [b"ada", b"bo"], "size": [1.5, np.nan], "count": [5, 7]}, index=[3, 4])
    frame.to_parquet(tmp_path / "binary.parquet")
    assert read_table(tmp_path / "binary.parquet", FORM).columns == MEANT
    for folder in (tmp_path / "parts.parquet", tmp_path / "parts"):
        folder.mkdir()
        (folder / "_SUCCESS").touch()
        for number in range(2):
            frame.iloc[[number]].to_parquet(folder / f"part-{number}.parquet")
        assert read_table(folder, FORM).columns == MEANT
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"cannot read: Is a directory; name an existing file"):
        read_table(tmp_path / "empty", FORM)
    assert read_table(frame, FORM).columns == MEANT
    (tmp_path / "parts" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"found a folder that holds notes.txt, accepted: a file, or a folder of"):
        read_table(tmp_path / "parts", FORM)
    pd.DataFrame({"name": [b"\xff"]}).to_parquet(tmp_path / "odd.parquet")
    with pytest.raises(InputError, match=r"row 1, column 'name': found b'\\xff', accepted: text"):
        read_table(tmp_path / "odd.parquet", FORM)


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "things.csv"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        table = read_table(path, FORM)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(len(texts) == len(table) for texts in table.columns.values())


def test_comments_at_the_beginning_keep_the_lines_numbers(read):
    table = read("# a\r\n# b\r\nname,size\r\nada,x\r\n")
    with pytest.raises(InputError, match=r"row 1 \(line 4\), column 'size': found 'x'"):
        table.numbers("size", "a number", 0, 9)


def test_a_folder_without_parts_says_so(tmp_path):
    (tmp_path / "parts.parquet").mkdir()
    with pytest.raises(InputError, match=r"found a folder without \.parquet files"):
        read_table(tmp_path / "parts.parquet", FORM)

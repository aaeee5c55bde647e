"""Reading one table: every number as it stands, every mistake with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.reading import read_csv
from tests.data.reading import Files, inputs


def test_quoted_cells_line_breaks_blank_lines_and_a_byte_order_mark(write: Files) -> None:
    text = '\ufeffu,"no,te",y\n\n1,"two\nlines",a\n 2 ,"say ""hi""",b\n'
    data = FederatedData.from_csv(write("a.csv", text), target="y", categorical=["no,te"], standardize=False)
    assert inputs(data, 0).tolist() == [[1, 0, 1], [2, 1, 0]]
    windows = FederatedData.from_csv(write("b.csv", text.replace("\n", "\r\n")), target="y", categorical=["no,te"])
    assert len(windows) == 1


GOOD = "u,v,y\n1,2,p\n3,4,q\n"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"bad\.csv is empty; a header line"),
        ("1,2,3\n4,5,6\n", {}, r"bad\.csv has no header: its first line is '1,2,3'"),
        ("1,2,p\n4,5,q\n", {}, r"no target column 'y'.*is the header missing"),
        ("u,v,yy\n1,2,p\n", {}, r"bad\.csv has no target column 'y' \(did you mean 'yy'\?\); its columns: u, v, yy"),
        ("u,v,y\n1,2,p\n\n1,2\n", {}, r"bad\.csv, line 4: 2 cells, but the header names 3 columns"),
        ('u,v,y\n1,"2\n",p\n1,2,p,9\n', {}, r"bad\.csv, line 4: 4 cells, but the header names 3"),
        ("u,v,y\n1,2,p\n1,two,p\n", {}, r"line 3, column 'v': 'two' is not a number.*if missing.*`ignore: \[v\]`"),
        ("u,v,y\n\n1,inf,p\n", {}, r"bad\.csv, line 3, column 'v': 'inf' is not a finite number"),
        ('u,v,y\n1,"82,7",p\n1,1.5,q\n', {}, r"line 2, column 'v': '82,7' has a decimal comma, but '1\.5' in line 3"),
        ("u,v,y\n1,red,p\n1,blue,q\n", {}, r"'red' is not a number; declare .*`categorical: \[v\]`, or leave"),
        (b"PAR1....", {}, r"bad\.csv is a Parquet file, not CSV.*called `\.parquet`"),
        (b"PK\x03\x04...", {}, r"bad\.csv is an Excel workbook.*called `\.xlsx`"),
        ("u,v,y\n1,1_000,p\n", {}, r"bad\.csv, line 2, column 'v': '1_000'"),
        ("u,v,y\n1,2,\n", {}, r"bad\.csv, line 2: the target 'y' is missing"),
        ("u,v,y\n1,2,r\n", {"classes": ["p", "q"]}, r"line 2, column 'y': class 'r' is not .* classes given: p, q"),
        ("u,v,y\n", {}, r"bad\.csv has .*no rows"),
        ("u,y\n1,p\n", {}, r"bad\.csv has no column 'v', but .*good\.csv has"),
        ("u,v,w,y\n1,2,3,p\n", {}, r"bad\.csv has a column 'w' that .*good\.csv lacks"),
        ("u,u,y\n1,2,p\n", {}, r"'u' occurs twice"),
        (",u,v,y\n0,1,2,p\n", {}, r"column 1 has no name"),
        (b"u,v,y\n1,2,\xff\n", {"csv": {"encoding": "utf-8"}}, r"bad\.csv is not utf-8 text; give its encoding"),
        (b"u,v,y\n1,2,\0\n", {}, r"bad\.csv is no text: it has zero bytes"),
        ("u,v,y\n1,red,p\n", {"categorical": {"v": ["2", "4", "reed"]}}, r"line 2, column 'v': .*'red' \(did you"),
        ("u,v,y\n1,2,p\n", {"categorical": ["w"]}, r"categorical: 'w' is no column"),
        ("u,v,y\n1,2,p\n", {"categorical": ["y"]}, r"categorical: 'y' is the target"),
        ("u,v,y\n1,2,p\n", {"categorical": "v"}, r"categorical: expected"),
        ("u,v,y\n1,2,p\n", {"task": "ranking"}, r"known: auto, classification, regression"),
        ("u,v,y\n1,2,p\n", {"task": "regression"}, r"good\.csv, line 2, column 'y': 'p' is not a number.*`task: class"),
        ("u,v,y\n1,2,p\n", {"task": "regression", "classes": ["p"]}, r"leave them out"),
        ("u,v,y\n1,2,p\n", {"classes": ["p", "p"]}, r"given twice"),
        ("u,v,y\n1,2,p\n", {"ids": ["a", "a"]}, r"used twice"),
        ("u,v,y\n1,2,p\n", {"ids": ["a"]}, r"1 client ids were given for 2"),
        ("u,v,y\n1e200,2,p\n", {}, r"line 2, column 'u': '1e200'"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_clear_error(
    write: Files, text: str | bytes, options: dict[str, Any], message: str
) -> None:
    paths = [write("good.csv", GOOD), write("bad.csv", text)]
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_csv(paths, target="y", **options)


def test_missing_files_and_unknown_test_labels_are_errors(write: Files, tmp_path: Path) -> None:
    good = write("good.csv", GOOD)
    with pytest.raises(ConfigError, match=r"nowhere\.csv does not exist"):
        FederatedData.from_csv([good, tmp_path / "nowhere.csv"], target="y")
    with pytest.raises(ConfigError, match="is a folder"):
        FederatedData.from_csv([tmp_path], target="y")
    with pytest.raises(ConfigError, match="no training file"):
        FederatedData.from_csv([], target="y")
    with pytest.raises(
        ConfigError, match=r"t\.csv, line 3, column 'y': class 'r' is not among the classes seen in training"
    ):
        FederatedData.from_csv([good], target="y", test=write("t.csv", "u,v,y\n1,2,p\n1,2,r\n"))
    with pytest.raises(ConfigError, match=r"t\.csv has no column 'v'"):
        FederatedData.from_csv([good], target="y", test=write("t.csv", "u,y\n1,p\n"))
    with pytest.raises(ConfigError, match=r"t\.csv has .*no rows"):
        FederatedData.from_csv([good], target="y", test=write("t.csv", "u,v,y\n"))
    odd = write("Klinik Süd.csv", GOOD)
    with pytest.raises(ConfigError, match=r"'Klinik Süd' is not allowed.*\n.*`data\.ids: \[Klinik_Sued\]`"):
        FederatedData.from_csv([odd], target="y")
    assert len(FederatedData.from_csv([odd], target="y", ids=["Klinik_Sud"])) == 1
    with pytest.raises(ConfigError, match="'good' is used twice"):
        FederatedData.from_csv([good, good], target="y")
    with pytest.raises(ConfigError, match="column 'u' has no value in any"):
        FederatedData.from_csv([write("a.csv", "u,y\n,p\nNA,q\n")], target="y")
    with pytest.raises(ConfigError, match="no columns beside the target"):
        FederatedData.from_csv([write("a.csv", "y\np\n")], target="y")
    with pytest.raises(ConfigError, match=r"line 3: the target 'y' is missing"):
        FederatedData.from_csv([write("a.csv", "u,y\n1,0.5\n1,\n")], target="y")


@given(st.lists(st.floats(-3e38, 3e38), min_size=1, max_size=20))
def test_numbers_are_read_exactly(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("exact") / "a.csv"
    path.write_text("u,y\n" + "".join(f"{value!r},p\n" for value in values))
    assert read_csv(path).numbers("u").tolist() == values

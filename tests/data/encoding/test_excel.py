"""Excel workbooks, written by openpyxl and read as pandas reads them."""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from openpyxl import Workbook

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.reading import read_excel
from fedray.data.encoding.table import Reading
from tests.data.reading import Files, inputs, load

ROWS: list[list[Any]] = [
    ["age", "seen", "smoker", "ward", "mixed", "y"],
    [40, datetime(2020, 1, 1, 12), True, "n", 1, "p"],
    [60.5, date(2020, 1, 3), False, None, "2,5", "q"],
    [None, None, None, "s", "n/a", "p"],
]


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    """A workbook of two sheets, the second with the table."""
    book = Workbook()
    assert book.active is not None
    book.active.append(["about"])
    sheet = book.create_sheet("Labor")
    for row in ROWS:
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    return tmp_path / "a.xlsx"


def test_cells_are_those_of_the_sheet(workbook: Path) -> None:
    from fedray.data.encoding.options import Options

    table = read_excel(workbook, Options("y", csv={"sheet": "Labor"}).reading(workbook))
    oracle = pd.read_excel(workbook, sheet_name="Labor")
    assert list(table.columns) == list(oracle.columns)
    np.testing.assert_array_equal(table.numbers("age"), oracle["age"])
    days = (pd.to_datetime(oracle["seen"]) - pd.Timestamp(0)) / pd.Timedelta(days=1)
    np.testing.assert_array_equal(table.numbers("seen"), days)
    assert table.numbers("mixed").tolist()[:2] == [1.0, 2.5]
    assert table.where(1).endswith("a.xlsx, row 3")
    assert table.written == "sheet Labor"


def test_a_workbook_may_stand_beside_text(workbook: Path, write: Files) -> None:
    text = write("b.csv", "age;seen;smoker;ward;mixed;y\n50,5;02.01.2020;ja;n;1,5;p\n")
    options: dict[str, Any] = {"target": "y", "categorical": ["ward"], "standardize": False}
    csv = {"files": {"a": {"sheet": "Labor"}}}
    data = load(name="csv", train=[str(workbook), str(text)], csv=csv, **options)
    assert inputs(data, 1).tolist() == [[50.5, 18263.0, 1.0, 1.0, 0.0, 1.5]]
    assert inputs(data, 0)[0].tolist() == [40.0, 18262.5, 1.0, 1.0, 0.0, 1.0]
    with pytest.raises(ConfigError, match=r"csv\.files: 'c' is none of the files.*; they are a\.xlsx, b\.csv"):
        load(name="csv", train=[str(workbook), str(text)], csv={"files": {"c": {"sheet": "Labor"}}}, **options)


def test_what_is_wrong_is_said(workbook: Path, write: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, **dialect: Any) -> None:
        from fedray.data.encoding.dialect import Dialect

        read_excel(path, Reading(Dialect(**dialect)))

    with pytest.raises(ConfigError, match=r"a\.xlsx has no sheet 'Labour'; its sheets: Sheet, Labor"):
        read(workbook, sheet="Labour")
    with pytest.raises(ConfigError, match=r"b\.xlsx cannot be read as an Excel workbook"):
        read(write("b.xlsx", "u,y\n1,2\n"))
    with pytest.raises(ConfigError, match=r"a\.xlsx has no target column 'y'"):
        FederatedData.from_csv(workbook, target="y")
    empty = workbook.with_name("e.xlsx")
    Workbook().save(empty)
    with pytest.raises(ConfigError, match=r"e\.xlsx is empty; a first row"):
        read(empty)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedray\[excel\]'"):
        read(workbook)

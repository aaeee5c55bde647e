"""Numbers that are far from all that a model was trained on are told of, with their place, and taken as they are."""

from __future__ import annotations

import json

import pytest

from fedray.data import FederatedData
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.far import far_numbers
from fedray.data.encoding.frames import inputs_of, table_of
from tests.data.reading import Files

ROWS = "".join(
    f"{100 + n % 40},{n % 9},{int(n == 7)},{n % 2},p\n{100 + n % 30},{n % 7},0,{n % 2},q\n" for n in range(200)
)


@pytest.fixture
def encoding(write: Files) -> Encoding:
    """Of a hospital; ``rare`` is 1 in one of 400 rows."""
    data = FederatedData.from_csv(write("a.csv", "trestbps,crp,rare,smokes,y\n" + ROWS), target="y")
    return Encoding.from_json(json.loads(json.dumps(data.encoding)))


def test_impossible_numbers_are_told_with_line_column_and_value(
    encoding: Encoding, write: Files, caplog: pytest.LogCaptureFixture
) -> None:
    new = write("new.csv", "id,trestbps,crp,rare,smokes\na,120,3,1,0\nb,14000,,0,1\nc,110,-810,0,0\n")
    inputs_of(table_of(new, encoding), encoding)
    (said,) = caplog.messages
    assert said.startswith(f"{new}: 2 numbers further than 10 standard deviations from the mean of the training rows: ")
    assert "line 3, column 'trestbps': 14000 (mean 11" in said
    assert "; line 4, column 'crp': -810 (mean 3." in said
    caplog.clear()
    inputs_of(table_of({"trestbps": [1e4], "crp": [1], "rare": [1], "smokes": [0]}, encoding), encoding)
    assert "the rows: 1 number further" in caplog.text
    assert "row 1, column 'trestbps': 10000" in caplog.text


def test_after_a_few_they_are_counted(encoding: Encoding) -> None:
    rows = {"trestbps": [1e5] * 30, "crp": [1] * 30, "rare": [0] * 30, "smokes": [1] * 30}
    said = far_numbers(table_of(rows, encoding), encoding)
    assert said.count("row ") == 5
    assert " and 25 more; correct them if they are mistakes" in said


def test_nothing_is_said_of_what_is_near(encoding: Encoding, write: Files) -> None:
    near = {"trestbps": [160, None], "crp": [-1, 20], "rare": [1, 0], "smokes": [1, 1]}
    assert far_numbers(table_of(near, encoding), encoding) == ""
    data = FederatedData.from_csv(write("b.csv", "u,y\n1,p\n2,q\n"), target="y", standardize=False)
    assert data.encoding is not None
    unscaled = Encoding.from_json(data.encoding)
    assert far_numbers(table_of({"u": [1e6]}, unscaled), unscaled) == "", "it has no mean of the column"

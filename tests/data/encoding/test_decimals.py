"""Decimal marks: what a number was is what is read, whoever wrote it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data.encoding.decimals import plain_numbers
from fedray.data.encoding.dialect import Dialect
from fedray.data.encoding.reading import read_csv
from fedray.data.encoding.table import Reading
from tests.data.reading import Files

WAYS = {",": ["", ".", " ", "'", "\u202f"], ".": ["", ",", " ", "\u2019"]}


@given(st.floats(-1e9, 1e9), st.sampled_from([(mark, between) for mark in WAYS for between in WAYS[mark]]))
def test_a_number_survives_its_marks(value: float, marks: tuple[str, str]) -> None:
    decimal, between = marks
    text = f"{value:,.4f}".replace(",", "\0").replace(".", decimal).replace("\0", between)
    (plain,) = plain_numbers(pa.chunked_array([[text]]), decimal, None).to_pylist()
    assert float(plain) == float(f"{value:.4f}")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,5", "1.234"], [1.5, 1234.0]),
        (["1.5", "12"], [1.5, 12.0]),
        (["1.234.567,8", "-0,5"], [1234567.8, -0.5]),
        (["1.234.567", "1.234"], [1234567.0, 1234.0]),
        (["1,234,567", "1,234"], [1234567.0, 1234.0]),
        (["1 234", "5"], [1234.0, 5.0]),
        (["1,5e3", "7"], [1500.0, 7.0]),
    ],
)
def test_cells_of_a_column_tell_its_decimal_mark(write: Files, cells: list[str], expected: list[float]) -> None:
    path = write("a.csv", "u;y\n" + "".join(f"{cell};a\n" for cell in cells))
    assert read_csv(path).numbers("u").tolist() == expected


def test_a_column_that_does_not_tell_is_read_as_its_file_is(write: Files) -> None:
    told = write("a.csv", "u;v;y\n1.234;0,5;a\n2.000;;b\n")
    assert read_csv(told).numbers("u").tolist() == [1234.0, 2000.0]
    assert read_csv(told).written == "delimiter semicolon, decimal comma"
    points = write("b.csv", "u;v;y\n1.234;0.5;a\n")
    assert read_csv(points).numbers("u").tolist() == [1.234]
    silent = write("c.csv", "u;y\n1.234;a\n")
    with pytest.raises(ConfigError, match=r"c\.csv, column 'u': '1\.234' may be a number of thousands .*decimal: ','"):
        read_csv(silent).numbers("u")
    for dialect, expected in (({"decimal": ","}, 1234.0), ({"decimal": "."}, 1.234), ({"thousands": "."}, 1234.0)):
        assert read_csv(silent, Reading(Dialect(**dialect))).numbers("u").tolist() == [expected]  # type: ignore[arg-type]
    assert read_csv(write("d.csv", 'u,y\n"1,234",a\n1.234,b\n0.5,c\n')).numbers("u").tolist() == [1234.0, 1.234, 0.5]


def test_what_is_no_number_of_the_decimal_mark_is_refused(write: Files) -> None:
    path = write("a.csv", "u;y\n1,5;a\n1.23;b\n")
    with pytest.raises(
        ConfigError, match=r"line 3, column 'u': '1\.23' is not a number where the decimal mark is a com"
    ):
        read_csv(path, Reading(Dialect(decimal=","))).numbers("u")
    for cell in ("1,23,4", "12.34.567", "1.2345,6", "<5", "1.5 mg"):
        path = write("b.csv", f"u;y\n0,5;a\n{cell};b\n")
        with pytest.raises(ConfigError, match="line 3, column 'u'"):
            read_csv(path).numbers("u")

"""Numbers as tables show them."""

from __future__ import annotations

import math

import pytest

from fedray.report import Table
from fedray.report.blocks import number


def test_a_column_of_numbers_has_as_many_digits_in_each_line() -> None:
    table = Table(["client", "auc", "loss", "rows"], [["a", 0.5, 12.345, 7], ["b", 0.25, 1.0, 1200], ["c", None, 3, 1]])
    assert table.text() == [["a", "0.5000", "12.35", "7"], ["b", "0.2500", "1.00", "1,200"], ["c", "", "3", "1"]]
    assert table.numeric == [False, True, True, True]


def test_tiny_and_huge_numbers_keep_what_counts() -> None:
    assert [line[1] for line in Table(["x", "y"], [["a", 1e-5], ["b", 0.5]]).text()] == ["1e-05", "0.5000"]
    assert number(1e15) == "1e+15"
    assert number(0.0) == "0.0000"


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_what_is_no_number_is_said(value: float, shown: str) -> None:
    assert Table(["x", "y"], [["a", value], ["b", 0.5]]).text()[0][1] == shown


def test_a_column_with_words_is_one_of_words() -> None:
    assert Table(["x", "y"], [["a", "never drawn"], ["b", 0.5]]).numeric == [False, False]
    assert Table(["x", "y"], []).text() == []

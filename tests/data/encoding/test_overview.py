"""What a report asks of a table: counts and quantiles of many rows, and nothing that is a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.data.encoding.overview import FEWEST, LEVELS, Column, counted_values, described, far_apart, in_bins
from fedray.data.encoding.reading import read_csv
from fedray.data.encoding.table import Table


def table(folder: Path, **columns: list[str]) -> Table:
    lines = [",".join(columns), *(",".join(cells) for cells in zip(*columns.values(), strict=True))]
    path = folder / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_csv(path)


def test_columns_of_each_kind(tmp_path: Path) -> None:
    rows = table(
        tmp_path,
        age=[str(20 + k) for k in range(24)] + ["", "NA"],
        site=["north", "south"] * 12 + ["", "north"],
        code=[str(k % 3) for k in range(26)],
        note=[f"note {k}" for k in range(26)],
        none=[""] * 25 + ["nan"],
    )
    found = described(rows, ["age", "site", "code", "note", "none", "gone"], text=["code"])
    assert found["gone"] == Column("absent", 26)
    assert found["none"] == Column("empty", 26)
    assert found["site"] == Column("text", 1, 2)
    assert found["code"] == Column("text", 0, 3)
    assert found["note"].names_rows
    age = found["age"]
    assert (age.kind, age.missing, age.different) == ("numbers", 2, 24)
    assert age.quantiles == pytest.approx(np.quantile(np.arange(20, 44), LEVELS))


def test_quantiles_of_few_are_told_to_nobody(tmp_path: Path) -> None:
    few = table(tmp_path, age=[str(k) for k in range(FEWEST - 1)], y=["a"] * (FEWEST - 1))
    assert described(few, ["age"])["age"].quantiles is None


@given(st.lists(st.floats(-50, 50), min_size=30, max_size=60, unique=True), st.sampled_from([-999.0, 0.0, 9999.0]))
def test_a_value_far_from_all_others_is_found_if_it_is_repeated(values: list[float], sentinel: float) -> None:
    """Wherever it would be an end; a single one is told to nobody."""
    moved = np.array(values) + (200.0 if sentinel == 0.0 else 0.0)
    found = far_apart(np.concatenate([moved, np.full(6, sentinel)]))
    assert found == (sentinel, 6)
    assert far_apart(np.concatenate([moved, [sentinel]])) is None


def test_a_usual_value_at_the_end_stands_for_nothing() -> None:
    drinks = np.repeat(np.arange(12.0), [400, 50, 40, 30, 20, 10, 5, 4, 3, 2, 1, 1])
    assert far_apart(drinks) is None
    assert far_apart(np.array([0.0] * 50 + [1.0] * 50)) is None


def test_bins_hold_every_value_once(tmp_path: Path) -> None:
    rows = table(tmp_path, a=["1", "2", "2", "5", "", "9"], b=["x"] * 6)
    found = in_bins(rows, {"a": [2.0, 5.0], "b": [0.0], "gone": [1.0]})
    assert found.keys() == {"a"}
    assert found["a"].tolist() == [3, 1, 1]


def test_values_that_are_not_known_are_counted_together(tmp_path: Path) -> None:
    rows = table(tmp_path, sex=["f", "m", "f", "", "u", "x"], code=["1", "01", "1.0", "2", "3", ""])
    found = counted_values(rows, {"sex": ["f", "m", "d"], "code": ["1", "2"], "gone": ["1"]})
    assert found["sex"].tolist() == [2, 1, 0, 2]
    assert found["code"].tolist() == [3, 1, 1]
    assert "gone" not in found

"""Rows of a reference, in their file and in the tables of a page."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest

from benchmarks import rows
from benchmarks.rows import interval, keeping, kept, written


def test_its_examples_are_true() -> None:
    assert doctest.testmod(rows).failed == 0


def test_the_interval_is_students() -> None:
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3.0, 2.776445 * np.std(range(5), ddof=1) / 5**0.5))


def test_a_row_is_in_the_file_before_the_next_one_is_measured(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    assert kept(lines) == kept(None) == []
    seen = []
    for row in keeping(({"seed": seed} for seed in range(3)), lines):
        seen.append(row)
        assert kept(lines) == seen
    assert list(keeping([{"seed": 9}], None)) == [{"seed": 9}]


def test_tables_take_the_place_of_all_that_follow_one_another_and_of_no_other() -> None:
    page = "Text.\n\n| other | x |\n|---|---|\n\nMore.\n\n| a, 1 seed |\n|---|\n\n| b |\n|---|\n\nThe end.\n"
    new = ["| a, 2 seeds |", "|---|", "| 1 |", ""]
    assert written(page, new, "| a, ") == page.replace("| a, 1 seed |\n|---|\n\n| b |\n|---|\n", "\n".join(new))
    assert written(written(page, new, "| a, "), new, "| a, ") == written(page, new, "| a, ")
    with pytest.raises(ValueError, match="no table of the page begins with"):
        written(page, new, "| nowhere")

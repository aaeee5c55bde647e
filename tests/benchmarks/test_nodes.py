"""The model of many nodes: it finds the terms it was made of."""

from __future__ import annotations

import pytest

from benchmarks.nodes import Setting, Terms, table

EXACT = Terms(start=3e-3, call=1e-3, byte=2e-9, error=0.0)


def test_terms_are_found_in_rounds_made_of_them() -> None:
    rows = [
        {"nodes": n, "network": size, "overhead": EXACT.start + EXACT.call * (n - 1) + EXACT.byte * size}
        for n, size in ((1, 0), (1, 0), (2, 10**5), (2, 10**7), (4, 10**6), (4, 10**8))
    ]
    found = Terms.of(rows)
    assert found.start == pytest.approx(EXACT.start)
    assert found.call == pytest.approx(EXACT.call)
    assert found.byte == pytest.approx(EXACT.byte)
    assert found.error < 1e-9


def test_one_node_sends_nothing_and_the_tree_keeps_the_driver_from_reading_all() -> None:
    assert EXACT.overhead(1, 10**6) == EXACT.start
    flat = EXACT.start + EXACT.call * 511 + EXACT.byte * 512 * 8e6
    assert EXACT.overhead(512, 10**6) < flat


def test_a_setting_counts_its_parameters() -> None:
    assert Setting(1, 2).parameters == 4810


def test_tables_are_markdown() -> None:
    assert table(("a", "b"), [(1, "x")]) == ["| a | b |", "| --- | --- |", "| 1 | x |", ""]

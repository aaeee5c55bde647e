"""The table of the algorithms has no hole that it does not explain."""

from __future__ import annotations

import pytest

from tests.laws.table import HOLES, LAWS, ORACLES, exists, rows, table


@pytest.mark.slow  # each program is tried
def test_every_algorithm_has_its_law_its_rest_and_its_oracle_or_says_why_not() -> None:
    found = rows()
    empty = {(row.name, kind) for row in found for kind in ("law", "rest", "oracle") if not getattr(row, kind)}
    assert empty == set(HOLES)
    assert all(HOLES.values())
    # An algorithm reads like its paper.
    assert {row.name: row.lines for row in found if row.lines > 40} == {}
    names = {row.name for row in found}
    assert {*LAWS, *ORACLES} <= names
    assert [place for place in (*(place for _, place in LAWS.values()), *ORACLES.values()) if not exists(place)] == []
    assert table(found).row_count == len(names)

"""A column at all sites: its kind, bins that all sites share, and how far each is from the others."""

from __future__ import annotations

import numpy as np
import pytest

from fedray.data.encoding.overview import LEVELS, Column
from fedray.report.columns import ColumnReport, drifts, edges_of


def test_the_kind_is_what_sites_have() -> None:
    numbers, text, absent = Column("numbers", 1), Column("text", 2), Column("absent", 3)
    assert ColumnReport("a", [numbers, text, absent]).kind == "numbers and text"
    assert ColumnReport("a", [numbers, text, absent]).missing == 6
    assert ColumnReport("a", [text], categories=["x"]).kind == "categories"
    assert ColumnReport("a", [numbers], words="pictures 8 x 8").kind == "pictures 8 x 8"
    assert ColumnReport("a", [absent]).kind == "empty"


def test_bins_are_those_of_all_sites_and_drift_is_of_one_against_the_others() -> None:
    draw = np.random.default_rng(1)
    values = [draw.normal(0, 1, 400), draw.normal(0, 1, 400), draw.normal(3, 1, 400)]
    at = [Column("numbers", 0, 400, tuple(np.quantile(one, LEVELS).tolist())) for one in values]
    edges = edges_of([*at, Column("text", 0)])
    assert edges == sorted(edges)
    assert 5 < len(edges) < 10
    counts = np.stack([np.bincount(np.searchsorted(edges, one), minlength=len(edges) + 1) for one in values])
    found = drifts(counts)
    assert found[2].psi > 1 > found[2].chance
    assert found[0].psi == pytest.approx(found[1].psi, rel=0.3)
    assert edges_of([Column("text", 0)]) == []

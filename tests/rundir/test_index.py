"""The index of rows: a dictionary, and how many rows of each segment are live."""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.places import Places, Row
from fedray.rundir.index import Index

ROWS = st.dictionaries(st.integers(0, 40), st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=6)


def places(rows: dict[int, Row]) -> Places:
    segments = tuple(sorted({row.segment for row in rows.values()} | {"unused"}))
    segment = [segments.index(row.segment) for row in rows.values()]
    columns = (np.array(column, dtype=np.int64) for column in (list(rows), segment, [r.number for r in rows.values()]))
    clients, segment_column, number = columns
    return Places(clients, segments, segment_column, number)


@given(st.sampled_from([0, 1 << 16]), st.lists(ROWS, max_size=12))
def test_an_index_is_a_dictionary(listed: int, rounds: list[dict[int, tuple[int, int]]]) -> None:
    with patch("fedray.rundir.index._LISTED", listed):
        _compare(rounds)


def _compare(rounds: list[dict[int, tuple[int, int]]]) -> None:
    index, expected = Index(), dict[int, Row]()
    for new in rounds:
        rows = {client: Row(f"s{segment}", number) for client, (segment, number) in new.items()}
        index.update(places(rows))
        expected |= rows
        assert index.clients.tolist() == sorted(expected)
        asked = np.arange(45)[::-1]
        assert list(index.of(asked).items()) == sorted(expected.items(), reverse=True)
        assert index.live == Counter(row.segment for row in expected.values())
        some = sorted(index.live)[::2]
        within = index.within(some)
        assert dict(within) == {client: row for client, row in expected.items() if row.segment in some}
        kinds = [(segment, number) for segment, number in within.values()]
        assert kinds == sorted(kinds, key=lambda row: ([name for name, _ in kinds].index(row[0]), row[1]))

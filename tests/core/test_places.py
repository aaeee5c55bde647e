"""Places: a mapping from clients to rows, kept as columns."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.places import Places, Row


@given(st.dictionaries(st.integers(0, 9), st.tuples(st.sampled_from("abc"), st.integers(0, 5))), st.data())
def test_they_are_a_mapping(rows: dict[int, tuple[str, int]], data: st.DataObject) -> None:
    expected = {client: Row(*row) for client, row in rows.items()}
    clients = np.array(list(rows), dtype=np.int64)
    segment = np.array(["abc".index(name) for name, _ in rows.values()], dtype=np.int64)
    places = Places(clients, ("a", "b", "c"), segment, np.array([n for _, n in rows.values()], dtype=np.int64))
    assert dict(places) == expected
    assert places == expected
    assert dict(pickle.loads(pickle.dumps(places))) == expected
    asked = data.draw(st.lists(st.integers(0, 9), unique=True))
    at = places.at(np.array(asked, dtype=np.int64)).tolist()
    assert [None if place < 0 else list(rows)[place] for place in at] == [c if c in rows else None for c in asked]
    some = places.only(np.array(asked, dtype=np.int64))
    assert list(some.items()) == [(client, expected[client]) for client in asked if client in rows]

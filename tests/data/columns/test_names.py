"""Names of clients, and back, without an object for each."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedray.data.columns.names import Names

WORDS = st.text("ab0129.-é", max_size=4)


@given(st.sets(st.text("ab0129.-", min_size=1, max_size=4), min_size=1), st.lists(WORDS))
def test_names_are_found_as_in_a_dictionary(held: set[str], asked: list[str]) -> None:
    ids = sorted(held)
    index = {name: client for client, name in enumerate(ids)}
    names = Names(len(ids), np.array(ids, dtype=np.bytes_))
    assert names.find([*asked, *ids]) == index
    assert names.find(asked) == {name: index[name] for name in asked if name in index}


@given(st.integers(1, 200), st.lists(WORDS))
def test_numbers_are_names_as_they_are_written(count: int, asked: list[str]) -> None:
    index = {str(client): client for client in range(count)}
    assert Names(count).find(asked) == {name: index[name] for name in asked if name in index}

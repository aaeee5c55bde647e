"""Cutting cohorts into blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedray.run.blocks import cut

STEPS = st.lists(st.integers(0, 9), max_size=20)


@given(STEPS, st.integers(1, 7))
def test_every_client_is_in_one_block_and_the_longest_come_first(steps: list[int], size: int) -> None:
    cohort = np.arange(len(steps)) * 3
    blocks = cut(cohort, np.array(steps, dtype=np.int64), size, np.zeros_like(cohort))
    together = [int(client) for block in blocks for client in block]
    assert sorted(together) == cohort.tolist()
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert all(0 < len(block) <= size for block in blocks)
    lengths = [steps[client // 3] for client in together]
    assert lengths == sorted(lengths, reverse=True)
    # Ties stand in the order of the clients, so the cut is one function of cohort and steps.
    assert together == sorted(together, key=lambda client: (-steps[client // 3], client))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=20), st.integers(1, 7))
def test_a_block_stays_within_one_silo(clients: list[tuple[int, int]], size: int) -> None:
    steps, pins = np.array(clients, dtype=np.int64).reshape(-1, 2).T
    blocks = cut(np.arange(len(clients)), steps, size, pins)
    assert sorted(int(client) for block in blocks for client in block) == list(range(len(clients)))
    assert all(len(set(pins[block].tolist())) == 1 for block in blocks)
    first = [int(steps[block[0]]) for block in blocks]
    assert first == sorted(first, reverse=True)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1), st.integers(0, 2)), max_size=20), st.integers(1, 7))
def test_a_block_has_one_rate(clients: list[tuple[int, int, int]], size: int) -> None:
    steps, pins, rates = np.array(clients, dtype=np.int64).reshape(-1, 3).T
    cohort = np.arange(len(clients))
    blocks = cut(cohort, steps, size, pins, rates / 10)
    assert sorted(int(client) for block in blocks for client in block) == cohort.tolist()
    assert all(len(set(zip(pins[block].tolist(), rates[block].tolist(), strict=True))) == 1 for block in blocks)
    same = cut(cohort, steps, size, pins, np.ones(len(clients)))
    assert [block.tolist() for block in same] == [block.tolist() for block in cut(cohort, steps, size, pins)]

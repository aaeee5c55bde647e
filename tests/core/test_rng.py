"""Named randomness: published vectors, independence of who else draws, and no trace in the global generators."""

from __future__ import annotations

import random
from itertools import permutations
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.func import vmap

from fedray.core.rng import Purpose, Stream, digest, integer, numpy_generator, philox, torch_generator

WORD = st.integers(0, 2**32 - 1)

# kat_vectors of Random123 (D. E. Shaw Research), philox4x32 with 10 rounds: counter, key, result.
KNOWN = [
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_vectors(counter: list[int], key: list[int], expected: list[int]) -> None:
    a, b, c, d = (np.array([word], dtype=np.int64) for word in counter)
    assert [int(word[0]) for word in philox((a, b, c, d), (key[0], key[1]))] == expected
    e, f, g, h = (torch.tensor([word]) for word in counter)
    assert [int(word) for word in philox((e, f, g, h), (key[0], key[1]))] == expected


@given(st.lists(st.tuples(WORD, WORD, WORD, WORD), min_size=1, max_size=5), WORD, WORD)
def test_philox_is_the_same_in_numpy_in_torch_and_under_vmap(
    counters: list[tuple[int, int, int, int]], low: int, high: int
) -> None:
    table = np.array(counters, dtype=np.int64)
    in_numpy = np.stack(philox((table[:, 0], table[:, 1], table[:, 2], table[:, 3]), (low, high)), axis=1)
    rows = torch.from_numpy(table)
    in_torch = torch.stack(philox((rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]), (low, high)), dim=1)
    mapped = vmap(lambda row: torch.stack(philox((row[0], row[1], row[2], row[3]), (low, high))))(rows)
    np.testing.assert_array_equal(in_torch.numpy(), in_numpy)
    np.testing.assert_array_equal(mapped.numpy(), in_numpy)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6, unique=True), st.integers(1, 9), st.integers(0, 99))
def test_uniform_draws_of_a_client_do_not_depend_on_the_others(clients: list[int], count: int, turn: int) -> None:
    stream = Stream(1, "dropout", 3)
    keys = torch.tensor(clients)
    together = stream.uniform(keys, torch.full_like(keys, turn), count)
    mapped = vmap(lambda key: stream.uniform(key, torch.full((), turn), count))(keys)
    assert torch.equal(mapped, together)
    for row, client in enumerate(clients):
        alone = stream.uniform(torch.tensor(client), torch.tensor(turn), count + 5)
        assert torch.equal(alone[:count], together[row])


def test_uniform_draws_are_uniform_and_differ_by_turn_round_client_and_purpose() -> None:
    keys, turn = torch.arange(50), torch.zeros(50, dtype=torch.int64)
    base = Stream(1, "dropout", 3).uniform(keys, turn, 200)
    assert base.dtype == torch.float32
    assert float(base.min()) >= 0.0
    assert float(base.max()) < 1.0
    assert stats.kstest(base.numpy().ravel(), "uniform").pvalue > 1e-3
    others = [
        Stream(1, "dropout", 3).uniform(keys, turn + 1, 200),
        Stream(1, "dropout", 3).uniform(keys + 50, turn, 200),
        Stream(1, "dropout", 4).uniform(keys, turn, 200),
        Stream(2, "dropout", 3).uniform(keys, turn, 200),
        Stream(1, "noise", 3).uniform(keys, turn, 200),
    ]
    for other in others:
        # 10,000 pairs: the correlation of independent draws has a standard deviation of 0.01.
        assert abs(np.corrcoef(base.numpy().ravel(), other.numpy().ravel())[0, 1]) < 0.04


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 12)), min_size=1, max_size=6), st.integers(0, 5))
def test_permutations_are_permutations_and_do_not_depend_on_other_rows(rows: list[tuple[int, int]], turn: int) -> None:
    clients = np.array([client for client, _ in rows], dtype=np.int64)
    sizes = np.array([size for _, size in rows], dtype=np.int64)
    stream = Stream(5, "order", 2)
    drawn = stream.permutations(clients, sizes, turn)
    assert drawn.shape == (len(rows), sizes.max())
    for row, (client, size) in enumerate(rows):
        assert sorted(drawn[row, :size].tolist()) == list(range(size))
        alone = stream.permutations(np.array([client]), np.array([size]), turn)
        assert alone[0].tolist() == drawn[row, :size].tolist()


@pytest.mark.parametrize("size", [3, 4])
def test_every_permutation_is_equally_likely(size: int) -> None:
    clients = np.arange(12_000)
    drawn = Stream(8, "order", 1).permutations(clients, np.full_like(clients, size), 0)
    numbers = {order: i for i, order in enumerate(permutations(range(size)))}
    counts = np.bincount([numbers[tuple(row)] for row in drawn.tolist()], minlength=len(numbers))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_permutations_differ_by_turn_and_round() -> None:
    clients, sizes = np.arange(20), np.full(20, 30)
    first = Stream(8, "order", 1).permutations(clients, sizes, 0)
    assert not (first == Stream(8, "order", 1).permutations(clients, sizes, 1)).all(axis=1).any()
    assert not (first == Stream(8, "order", 2).permutations(clients, sizes, 0)).all(axis=1).any()


def test_distinct_names_have_distinct_digests() -> None:
    purposes = get_args(Purpose)
    small = (0, 1, 11, 111)
    names = [(s, p, r, c) for s in (*small, -1, 2**70) for p in purposes for r in small for c in (*small, 2**62)]
    assert len({digest(*name) for name in names}) == len(names)
    assert len({integer(*name) for name in names}) == len(names)


def test_an_unknown_purpose_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown purpose 'lunch'; known: init, cohort"):
        digest(1, "lunch")  # type: ignore[arg-type]


def test_generators_repeat_and_differ_by_name() -> None:
    assert numpy_generator(1, "cohort", 2).random() == numpy_generator(1, "cohort", 2).random()
    assert numpy_generator(1, "cohort", 2).random() != numpy_generator(1, "cohort", 3).random()
    first = torch.rand(3, generator=torch_generator(1, "noise", 2))
    assert torch.equal(first, torch.rand(3, generator=torch_generator(1, "noise", 2)))
    assert not torch.equal(first, torch.rand(3, generator=torch_generator(2, "noise", 2)))


def test_no_draw_touches_the_global_generators() -> None:
    before = (random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state())  # noqa: NPY002
    numpy_generator(1, "cohort").random(5)
    torch.rand(5, generator=torch_generator(1, "noise"))
    Stream(1, "order", 1).permutations(np.arange(3), np.full(3, 4), 0)
    Stream(1, "dropout", 1).uniform(torch.arange(3), torch.zeros(3, dtype=torch.int64), 4)
    after = (random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state())  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_equal(after[1], before[1])
    assert torch.equal(before[2], after[2])

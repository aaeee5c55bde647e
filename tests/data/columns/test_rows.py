"""Opened rows: which example an index is, padding, and bytes."""

from __future__ import annotations

import numpy as np
import torch

from fedray.data import FederatedData
from tests.data.reading import numbered

CPU = torch.device("cpu")


def test_take_gathers_local_indices_of_the_first_clients_of_a_block() -> None:
    data = numbered([3, 2, 4])
    rows = data.rows(np.array([2, 0, 1]))
    x, y = rows.take(np.array([[3, 0], [1, 1]]))
    assert x.shape == (2, 2, 1)
    assert x.squeeze(-1).tolist() == [[8.0, 5.0], [1.0, 1.0]]
    assert y.tolist() == [[2, 2], [1, 1]]
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_padding_never_shows_another_clients_row() -> None:
    data = numbered([2, 2]).with_holdout(0.5, seed=0)
    x, _ = data.rows(np.array([0, 1])).take(np.array([[0, 1, 2, 7], [0, 1, 2, 7]]))
    assert len(set(x[0].flatten().tolist())) == 1
    assert x[0].max() < 2 <= x[1].min()


def test_bytes_are_handed_out_as_unit_floats() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(64, 1, 2, 2)
    data = FederatedData.from_arrays(x, np.arange(64), np.arange(64) // 16, test=(x, np.arange(64)))
    taken, _ = data.rows(np.array([1])).take(np.arange(16)[None])
    expected = torch.from_numpy(x[16:32]).to(torch.float32) / 255
    assert taken.dtype == torch.float32
    assert torch.equal(taken[0], expected)
    assert data.test is not None
    assert torch.equal(data.test.slice(16, 32, CPU)[0], expected)
    held = data.with_holdout(0.25, seed=0).holdout(np.array([0]))[0]
    assert held.dtype == torch.float32
    assert float(held.max()) <= 1.0


# What inputs and targets are taken for


def test_bytes_of_images_are_scaled_and_those_of_tables_are_not() -> None:
    clients = np.array([0, 0, 1])
    for shape, largest, word in (((2, 2), 1.0, "images"), ((4,), 255.0, "table")):
        x = np.zeros((3, *shape), dtype=np.uint8)
        x[0, ..., 0] = 255
        data = FederatedData.from_arrays(x, np.array([0, 1, 0]), clients, test=(x, np.array([0, 1, 0])))
        assert float(data.rows(np.array([0])).take(np.array([[0, 1]]))[0].max()) == largest
        assert data.test is not None
        assert float(data.test.slice(0, 3)[0].max()) == largest
        held = data.with_holdout(0.5, 1)
        assert (
            max(
                float(t.max())
                for t in (held.holdout(np.array([0]))[0], held.rows(np.array([0])).take(np.array([[0]]))[0])
            )
            == largest
        )
        assert [f"bytes of {'a ' if word == 'table' else ''}{word}" in note for note in data.notes] == [True]
        assert held.notes == data.notes
        two = x[:2], np.array([0, 1])
        lazy = FederatedData.from_function({0: two, 1: two}.__getitem__, range(2))
        assert float(lazy.rows(np.array([0])).take(np.array([[0, 1]]))[0].max()) == largest
        assert lazy.notes == data.notes
    assert numbered([2]).notes == ()

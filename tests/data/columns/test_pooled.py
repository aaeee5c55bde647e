"""One client behind the others that has all their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray import FederatedData
from fedray.data.columns.base import ClientData
from fedray.data.columns.pooled import Pooled

SIZES = (3, 1, 4, 2)
X = np.arange(20, dtype="f4").reshape(10, 2)
Y = np.arange(10) % 3
OWNER = np.repeat(np.arange(4), SIZES)


def arrays() -> ClientData:
    return FederatedData.from_arrays(X, Y, OWNER)


def lazy() -> ClientData:
    return FederatedData.from_function(lambda c: (X[int(c) == OWNER], Y[int(c) == OWNER]), ["0", "1", "2", "3"])


@pytest.mark.parametrize("kind", [arrays, lazy])
@given(rows=st.lists(st.integers(0, 14), min_size=1, max_size=9), clients=st.permutations(range(5)))
def test_rows_are_those_of_whose_they_are(kind, rows: list[int], clients: list[int]) -> None:  # type: ignore[no-untyped-def]
    """In any block, also past a client's end, where its last row stands in; the pool has all, client after client."""
    data = Pooled(kind())
    x, y = data.rows(np.array(clients)).take(np.tile(rows, (5, 1)))
    for place, client in enumerate(clients):
        own = np.flatnonzero(client == OWNER) if client < 4 else np.arange(10)
        wanted = own[np.minimum(rows, len(own) - 1)]
        assert torch.equal(x[place], torch.from_numpy(X[wanted]))
        assert torch.equal(y[place], torch.from_numpy(Y[wanted]))


def test_all_else_is_the_clients(tmp_path: Path) -> None:
    held = arrays().with_holdout(0.5, 1)
    for data in (
        Pooled(arrays()).with_holdout(0.5, 1),
        Pooled(held).share(tmp_path),
        Pooled(held).to(torch.device("cpu")),
    ):
        assert data.sizes.tolist() == [*held.sizes, held.sizes.sum()]
        assert data.holdout_sizes.tolist() == [*held.holdout_sizes, 0]
        assert torch.equal(data.holdout(np.array([2]))[0], held.holdout(np.array([2]))[0])
        assert data.label_counts()[-1].tolist() == held.label_counts().sum(axis=0).tolist()
        assert data.fingerprint() == held.fingerprint()
        assert data.nbytes == held.nbytes
    asked = Pooled(FederatedData.from_arrays(X, X[:, :1], OWNER))
    asked.target_sums(np.zeros(1))
    assert asked.members == 4
    assert [one["question"] for one in asked.share(tmp_path).asked] == ["target_sums"]
    named = Pooled(FederatedData.from_arrays(X, Y, np.repeat(["d", "a", "c", "b"], SIZES)))
    assert [named.client_id(i) for i in range(5)] == ["a", "b", "c", "d", "centralized"]
    assert Pooled(arrays()).probe().rows(np.array([4, 0])).take(np.array([[7], [1]]))[0].shape == (2, 1, 2)

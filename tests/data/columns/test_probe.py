"""Made-up rows in the place of ones that cannot be had here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.data import DataSpec, FederatedData
from fedray.data.columns.probe import MadeUp


def nowhere(client: str) -> tuple[np.ndarray, np.ndarray]:
    raise AssertionError(f"{client} was opened")


def made_up(spec: DataSpec) -> MadeUp:
    """Three clients of 1, 2 and 500 rows, none of which can be opened."""
    return MadeUp(FederatedData.from_function(nowhere, ["a", "b", "c"], sizes=[1, 2, 500], spec=spec))


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 600), min_size=1, max_size=4),
)
def test_a_block_gets_the_rows_that_its_clients_get_alone(clients: list[int], rows: list[int]) -> None:
    data = made_up(DataSpec((4,), 3))
    together = data.rows(np.array(clients)).take(np.tile(rows, (len(clients), 1)))
    for position, client in enumerate(clients):
        alone = data.rows(np.array([client])).take(np.array([rows]))
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one[0], other[position])


def test_rows_differ_and_every_class_is_there() -> None:
    x, y = made_up(DataSpec((2, 3), 5)).rows(np.array([2])).take(np.arange(256)[None])
    assert (x.shape, x.dtype) == ((1, 256, 2, 3), torch.float32)
    assert len(x[0].unique(dim=0)) == 256
    assert y.unique().tolist() == list(range(5))
    _, targets = made_up(DataSpec((2,), 3, "regression")).rows(np.array([0])).take(np.arange(2)[None])
    assert (targets.shape, targets.dtype) == ((1, 2, 3), torch.float32)


def test_it_is_for_trials_and_nothing_else() -> None:
    data = made_up(DataSpec((4,), 3))
    assert data.client_id(1) == "b"
    assert data.sizes.tolist() == [1, 2, 500]
    assert data.test is None
    assert not data.holdout_sizes.any()
    for refused in (lambda: data.holdout(np.array([0])), data.label_counts, lambda: data.with_holdout(0.1, 0)):
        with pytest.raises(TypeError, match="can be trained on, and nothing else"):
            refused()


def test_labels_are_those_that_were_counted() -> None:
    data = FederatedData.from_arrays(np.zeros((3, 2)), [0, 1, 1], clients=["a", "a", "b"])
    assert MadeUp(data).label_counts().tolist() == [[1, 1], [0, 1]]

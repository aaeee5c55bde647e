"""The constructors of FederatedData agree with one another."""

from __future__ import annotations

import numpy as np
import torch

from fedray.data import Examples, FederatedData
from fedray.data.partition import IID
from tests.data.reading import column


def test_partition_and_dataset_constructors_agree() -> None:
    x, y = torch.arange(12.0)[:, None], torch.arange(12) % 2
    split = FederatedData.from_partition(x, y, IID(clients=3), seed=7, test=(x, y))

    class Doubled(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return x[index] * 2, int(y[index])

    doubled = FederatedData.from_dataset(Doubled(), IID(clients=3), seed=7, test=Doubled())
    tensors = FederatedData.from_dataset(torch.utils.data.TensorDataset(x, y), IID(clients=3), seed=7)
    for client in range(3):
        np.testing.assert_array_equal(column(doubled, client), 2 * column(split, client))
        np.testing.assert_array_equal(column(tensors, client), column(split, client))
    assert isinstance(doubled.test, Examples)
    assert len(doubled.test) == 12

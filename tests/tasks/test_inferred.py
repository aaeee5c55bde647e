"""The task of data, and of outputs and targets alone."""

from __future__ import annotations

import torch

from fedray.data import DataSpec
from fedray.tasks import inferred, task_of


def test_integers_are_classes_and_floats_numbers() -> None:
    assert task_of(DataSpec((4,), 2, "regression")).name == "regression"
    assert inferred(torch.zeros(2, 4, 3), torch.zeros(2, 3, dtype=torch.int64)).spec.outputs == 4
    assert inferred(torch.zeros(2, 4), torch.zeros(2, 4)).spec.outputs == 4

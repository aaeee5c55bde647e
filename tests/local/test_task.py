"""The local training problem: it goes to workers as it is, and says what was decided about it."""

from __future__ import annotations

from dataclasses import replace

import cloudpickle
import numpy as np
import pytest
import torch

from fedray.data import FederatedData
from fedray.local.task import Precision, Sharing, Stacking, autocast
from tests.helpers import class_problem, linear_problem, local_task, train


def test_it_trains_elsewhere_as_it_does_here() -> None:
    """Its functions are closures: they travel by value."""
    task = local_task(class_problem())
    there = cloudpickle.loads(cloudpickle.dumps(task))
    assert torch.equal(train(there, [0, 1]).parts["delta"], train(task, [0, 1]).parts["delta"])


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_only_bf16_chooses_other_types(precision: Precision, kind: torch.dtype) -> None:
    x = torch.ones(2, 2)
    with autocast(precision, torch.device("cpu")):
        assert (x @ x).dtype == kind
    assert (x @ x).dtype == torch.float32


def test_the_log_is_told_what_an_example_is_and_what_was_decided() -> None:
    task = replace(local_task(class_problem(shape=(1, 8, 8))), stacking=Stacking(3, True, "three at once"))
    assert task.notes == ("an example: 1 x 8 x 8 to 3 classes (classification)", "stacking: three at once")
    shared = replace(task, sharing=Sharing(2, "over two"))
    assert shared.notes[-1] == "devices: over two"
    assert "to 1 target (regression)" in local_task(linear_problem()).notes[0]
    images = FederatedData.from_arrays(np.zeros((4, 2, 2), np.uint8), [0, 1, 0, 1], [0, 0, 1, 1])
    assert replace(task, data=images).notes[1] == "inputs: bytes of images, divided by 255"

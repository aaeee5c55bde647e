"""What the workers of a node folded becomes one: a sum in place, or rows that outlive who handed them over."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.aggregators import Mean, Median
from fedray.cluster.work.fold import NodeFold
from fedray.cluster.work.memory import Buffer

WIDTHS = {"delta": 3, "control": 1}


@given(st.permutations(range(4)))
def test_the_sum_is_exact_whoever_comes_first_and_lies_in_the_first(order: list[int]) -> None:
    fold = NodeFold(Mean(), WIDTHS)
    buffers = [fold.accumulator() for _ in order]
    for number, buffer in enumerate(buffers):
        assert buffer is not None
        buffer.tensors["delta"].fill_(3.0**number)
        buffer.tensors["control"].fill_(2.0**-number)
    given_ = [buffer for number in order if (buffer := buffers[number]) is not None]
    total = fold.total(given_)
    assert total["delta"].tolist() == [40.0] * 3
    assert total["control"].tolist() == [1.875]
    assert total["delta"].data_ptr() == given_[0].tensors["delta"].data_ptr(), "O(P) memory: no copy is made"
    for buffer in given_:
        buffer.close()


def test_where_nothing_was_folded_there_is_nothing() -> None:
    assert NodeFold(Mean(), WIDTHS).total([]) == {}
    assert NodeFold(Median(), WIDTHS).total([]) == {}


def test_rows_are_gathered_as_they_come_and_forgotten_with_the_round() -> None:
    fold = NodeFold(Median(), WIDTHS)
    assert fold.accumulator() is None, "rows are handed over with the answer"
    for value in (1.0, 2.0):
        fold.gather({"delta": np.full((2, 3), value, np.float32), "control": np.full((2, 1), value, np.float32)})
    assert fold.total([])["delta"][:, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
    fold.begin()
    assert fold.total([]) == {}


def test_an_accumulator_is_zeros_in_float64_that_other_processes_see() -> None:
    buffer = NodeFold(Mean(), WIDTHS).accumulator()
    assert isinstance(buffer, Buffer)
    there = buffer.handle.open()
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in there.items()} == {
        "delta": (torch.float64, [0.0] * 3),
        "control": (torch.float64, [0.0]),
    }
    buffer.close()

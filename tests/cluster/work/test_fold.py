"""What the workers of a node folded becomes one: a sum in place, or rows that outlive who handed them over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.aggregators import Mean, Median
from fedray.aggregators.stored import StoredRows
from fedray.cluster.work.fold import NodeFold
from fedray.cluster.work.memory import Buffer
from fedray.cluster.work.rows import Held, RowFile
from fedray.core.messages import BlockUpdate

WIDTHS = {"delta": 3, "control": 1}


@given(st.permutations(range(4)))
def test_the_sum_is_exact_whoever_comes_first_and_lies_in_the_first(order: list[int]) -> None:
    fold = NodeFold(Mean(), WIDTHS)
    buffers = [buffer for _ in order if isinstance(buffer := fold.accumulator(), Buffer)]
    for number, buffer in enumerate(buffers):
        buffer.tensors["delta"].fill_(3.0**number)
        buffer.tensors["control"].fill_(2.0**-number)
        fold.hold(buffer, None)
    given_ = [buffers[number] for number in order]
    total = fold.total(given_)
    assert total["delta"].tolist() == [40.0] * 3
    assert total["control"].tolist() == [1.875]
    assert total["delta"].data_ptr() == given_[0].tensors["delta"].data_ptr(), "O(P) memory: no copy is made"
    for buffer in given_:
        buffer.close()


@pytest.mark.parametrize("sizes", [[1e-4], [1e-4, 1e-4], [1e-4, 1.0], [1.0, 1e-4, 1e-4], [1.0, 1.0]])
def test_sums_that_are_short_with_some_workers_and_wide_with_others_are_one(
    sizes: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedray.aggregators.short.PIECE", 2)
    mean, fold = Mean(), NodeFold(Mean(), WIDTHS)
    expected = {name: torch.zeros(width, dtype=torch.float64) for name, width in WIDTHS.items()}
    buffers = [buffer for _ in sizes if isinstance(buffer := fold.accumulator(), Buffer)]
    one = np.ones(1)
    for buffer, size in zip(buffers, sizes, strict=True):
        there = mean.clear(buffer.handle.open())  # as its worker does, in another process
        rows = {"delta": torch.tensor([[1e-4, 1e-4, size]]), "control": torch.full((1, 1), 1e-4)}
        update = BlockUpdate(1, one.astype(int), rows, {}, one, one, one.astype(int))
        for accumulator in (there, expected):
            mean.add(accumulator, update, float(len(sizes)))
        fold.hold(buffer, mean.form(there))
    total = fold.total(buffers)
    assert total["delta.wide"].tolist() == [False, max(sizes) == 1.0]
    assert total["delta"].data_ptr() == buffers[0].tensors["delta"].data_ptr(), "no copy is made"
    filled = mean.filled(dict(total))
    assert all(torch.equal(filled[name], expected[name]) for name in WIDTHS)
    for buffer in buffers:
        buffer.close()


def test_where_nothing_was_folded_there_is_nothing() -> None:
    assert NodeFold(Mean(), WIDTHS).total([]) == {}
    assert NodeFold(Median(), WIDTHS).total([]) == {}


def rows_of(clients: list[int]) -> dict[str, torch.Tensor]:
    """Rows whose every number is the client's."""
    ids = torch.tensor(clients, dtype=torch.float32)[:, None]
    return {"delta": ids.expand(-1, 3), "control": ids}


def test_rows_come_in_the_order_of_the_clients_outlive_who_wrote_them_and_are_forgotten_with_the_round() -> None:
    fold = NodeFold(Median(), WIDTHS)
    first, second = fold.accumulator(), fold.accumulator()
    assert isinstance(first, RowFile)
    assert isinstance(second, RowFile)
    told = [(first, [7, 2]), (second, [5]), (first, [1]), (second, [])]
    writers = {id(file): file.handle.open() for file in (first, second)}
    for file, clients in told:
        before = writers[id(file)].count
        writers[id(file)].append(rows_of(clients))
        fold.hold(file, Held(before, np.array(clients, dtype=np.int64), 10.0 * np.array(clients)))
    for file in (first, second):
        writers[id(file)].append(rows_of([99]))  # of a worker that dies before it tells of it
        file.close()
    total = fold.total([first, second])
    assert isinstance(total, StoredRows)
    assert total.clients.tolist() == [1, 2, 5, 7]
    assert total.weight.tolist() == [10.0, 20.0, 50.0, 70.0]
    assert total["delta"].tolist() == [[1.0] * 3, [2.0] * 3, [5.0] * 3, [7.0] * 3]
    fold.begin()
    assert fold.total([]) == {}
    for writer in writers.values():
        writer.close()


def test_an_accumulator_is_zeros_in_float64_that_other_processes_see() -> None:
    buffer = NodeFold(Mean(), WIDTHS).accumulator()
    assert isinstance(buffer, Buffer)
    there = buffer.handle.open()
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in there.items()} == {
        "delta": (torch.float64, [0.0] * 3),
        "control": (torch.float64, [0.0]),
    }
    buffer.close()

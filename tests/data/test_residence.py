"""Data lie on a GPU where they fit a part of its memory, and give the same batches where they do not."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from fedray.data.residence import RESIDENT, resident
from tests.helpers import class_problem

META = torch.device("meta")


def test_what_fits_a_part_of_the_memory_lies_there(caplog: pytest.LogCaptureFixture) -> None:
    data = class_problem(test=5).data
    assert data.test is not None
    rows = int(data.sizes.sum())
    assert data.nbytes == (rows + 5) * (6 * 4 + 8), "six float32 inputs and an int64 class each"
    there = resident(data, META, RESIDENT * data.nbytes)
    assert there.test is not None
    assert there.test.x.device == META
    with caplog.at_level(logging.INFO, "fedray"):
        assert resident(data, META, RESIDENT * data.nbytes - 1) is data
    assert "stay in the host's memory" in caplog.text


def test_rows_that_are_not_there_are_brought() -> None:
    data = class_problem().data
    x, y = data.rows(np.arange(2), META).take(np.zeros((2, 3), dtype=np.int64))
    assert (x.device, y.device, x.shape) == (META, META, (2, 3, 6))


@pytest.mark.gpu
def test_batches_by_way_of_pinned_memory_are_the_same() -> None:
    data, gpu = class_problem().data, torch.device("cuda", 0)
    rows = np.arange(6).reshape(2, 3)
    host = data.rows(np.arange(2)).take(rows)
    for there in (data.rows(np.arange(2), gpu), data.to(gpu).rows(np.arange(2), gpu)):
        assert all(torch.equal(a, b.cpu()) for a, b in zip(host, there.take(rows), strict=True))

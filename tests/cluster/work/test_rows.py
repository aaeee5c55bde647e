"""Rows in a file of the group: whatever was told of is there, whoever wrote it is gone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.work.rows import Held, RowFile
from fedray.core.errors import RunFailed
from tests.cluster.work.forks import child, status


def held(first: int, count: int) -> Held:
    return Held(first, np.arange(count), np.ones(count))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 40), st.integers(0, 3), st.data())
def test_what_was_written_is_read_by_rows_and_columns(
    blocks: list[int], width: int, other: int, data: st.DataObject
) -> None:
    file = RowFile({"delta": width, "control": other})
    writer, count = file.handle.open(), sum(blocks)
    draw = np.random.default_rng(count)
    whole = {"delta": draw.random((count, width), dtype="f4"), "control": draw.random((count, other), dtype="f4")}
    for end, size in zip(np.cumsum(blocks).tolist(), blocks, strict=True):
        writer.append({name: torch.from_numpy(part[end - size : end]) for name, part in whole.items()})
    assert writer.count == count
    first = data.draw(st.integers(0, count))
    shelf = file.shelf(held(first, count - first))
    file.close()
    writer.close()
    wanted = np.array(
        data.draw(st.lists(st.integers(0, max(0, count - first - 1)))) if count > first else [], dtype=int
    )
    for name, part in whole.items():
        start = data.draw(st.integers(0, part.shape[1]))
        stop = data.draw(st.integers(start, part.shape[1]))
        np.testing.assert_array_equal(shelf.read(name, wanted, start, stop), part[first:][wanted, start:stop])
    shelf.close()
    shelf.close()


def test_a_round_is_written_over_the_one_before() -> None:
    file = RowFile({"delta": 2})
    writer = file.handle.open()
    for value in (1.0, 2.0):
        writer.rewind()
        writer.append({"delta": torch.full((3, 2), value)})
    shelf = file.shelf(held(0, 3))
    assert set(shelf.read("delta", np.arange(3), 0, 2).ravel().tolist()) == {2.0}
    assert os.fstat(shelf._file.fileno()).st_size == 3 * 2 * 4
    for one in (shelf, writer, file):
        one.close()


def test_they_outlive_the_process_that_wrote_them() -> None:
    file = RowFile({"delta": 3})

    def write_and_die() -> None:
        file.handle.open().append({"delta": torch.arange(6.0).view(2, 3)})
        os._exit(7)

    assert status(child(write_and_die)) == 7
    shelf = file.shelf(held(0, 2))
    assert shelf.read("delta", np.array([1, 0]), 1, 3).tolist() == [[4.0, 5.0], [1.0, 2.0]]
    shelf.close()
    file.close()


def test_the_process_that_reads_and_the_one_that_writes_do_not_grow() -> None:
    """400 rows of 400 kB: the node holds 160 MB, who reads columns of all of them a few."""
    file, width, count = RowFile({"delta": 100_000}), 100_000, 400
    writer, process = file.handle.open(), psutil.Process()
    before = process.memory_info().rss
    for _ in range(count):
        writer.append({"delta": torch.ones(1, width)})
    shelf = file.shelf(held(0, count))
    total = 0.0
    for start in range(0, width, 10_000):
        total += float(shelf.read("delta", np.arange(count), start, start + 10_000).sum(dtype="f8"))
    assert total == width * count
    assert process.memory_info().rss - before < 60e6
    for one in (shelf, writer, file):
        one.close()


def test_where_there_is_no_memory_for_them_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = RowFile({"delta": 3})
    writer = file.handle.open()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        RunFailed, match=r"^no memory for the updates .*: No space left on device; take smaller cohorts"
    ):
        writer.append({"delta": torch.ones(1, 3)})
    writer.close()
    file.close()


def test_a_row_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    file = RowFile({"delta": 3})
    shelf = file.shelf(held(0, 2))
    with pytest.raises(EOFError):
        shelf.read("delta", np.arange(2), 0, 3)
    shelf.close()
    file.close()

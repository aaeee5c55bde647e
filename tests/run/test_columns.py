"""A range of columns as an item of work: what comes of it is the function of these columns alone, told in a report."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.aggregators import Median
from fedray.aggregators.stored import StoredRows
from fedray.cluster.work.rows import FileShelf, Held, RowFile
from fedray.core.errors import RunFailed
from fedray.run.columns import ColumnRange
from fedray.run.worker import Worker
from tests.helpers import class_problem, federation


def stored(count: int, width: int) -> tuple[StoredRows, torch.Tensor]:
    """Rows in a file, in another order than that of the clients, and the rows in that order."""
    rows, clients = torch.rand(count, width), np.arange(count)[::-1].copy()
    file = RowFile({"delta": width})
    writer = file.handle.open()
    writer.append({"delta": rows})
    shelf = file.shelf(Held(0, clients, np.ones(count)))
    writer.close()
    file.close()
    return StoredRows([shelf], {"delta": width}), rows.flip(0)


def test_the_columns_of_all_rows_are_reduced_where_they_can_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    there, rows = stored(5, 9)
    closed: list[FileShelf] = []
    monkeypatch.setattr(FileShelf, "close", lambda self: closed.append(self))
    packed = pickle.dumps((there, Median()._range))
    for index, (start, stop) in enumerate([(0, 4), (4, 9), (3, 3)]):
        report = ColumnRange(index, "delta", start, stop, packed).reduced()
        assert report.index == index
        assert report.found is not None
        assert torch.equal(torch.from_numpy(report.found), rows[:, start:stop].median(dim=0).values)
    assert len(closed) == 3
    assert there.shelves[0] not in closed, "of those that it opened itself"


def test_one_thread_reduces_them_and_what_it_raises_names_the_columns(tmp_path: Path) -> None:
    there, _ = stored(5, 9)
    worker = Worker(federation(class_problem(), tmp_path).job, [torch.device("cpu")])
    torch.set_num_threads(2)
    packed = pickle.dumps((there, _threads))
    assert worker.handle(ColumnRange(0, "delta", 0, 4, packed)).found.tolist() == [1]  # type: ignore[union-attr]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    packed = pickle.dumps((there, _wrong))
    with pytest.raises(RunFailed, match=r"^round 0: the aggregation of delta, columns 4 to 9, failed: .*no such rule"):
        worker.handle(ColumnRange(0, "delta", 4, 9, packed))
    worker.close()
    there.close()


def _threads(pieces: object) -> torch.Tensor:
    return torch.tensor([torch.get_num_threads()])


def _wrong(pieces: object) -> torch.Tensor:
    raise ValueError("no such rule")

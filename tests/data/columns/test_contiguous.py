"""The store: rows by client, sharing, holding out."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from tests.data.reading import column, numbered

CPU = torch.device("cpu")


def test_label_counts_are_those_of_the_training_rows() -> None:
    data = FederatedData.from_arrays(np.zeros((6, 1)), [0, 2, 2, 1, 1, 0], [0, 0, 0, 1, 1, 1])
    assert data.label_counts().tolist() == [[1, 0, 2], [1, 2, 0]]
    regression = FederatedData.from_arrays(np.zeros((2, 1)), [0.5, 1.0], [0, 1])
    with pytest.raises(ConfigError, match="classification"):
        regression.label_counts()


def test_shared_data_is_equal_mapped_and_pickles_as_a_path(tmp_path: Path) -> None:
    test = (np.ones((2, 1), dtype=np.float32), np.array([0, 1]))
    data = numbered([3, 200, 4], test=test, ids=["a", "b", "c"]).with_holdout(0.25, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = data.share(tmp_path)
        pickled = pickle.dumps(shared)
        back = pickle.loads(pickled)
    assert len(pickled) < 300
    assert shared.share(tmp_path) is shared
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert re.search(rf"{tmp_path}/\w+/x\.npy", maps.read_text())
    for copy in (shared, back):
        assert copy.spec == data.spec
        assert copy.sizes.tolist() == data.sizes.tolist()
        assert copy.keys(np.arange(3)).tolist() == data.keys(np.arange(3)).tolist()
        assert copy.client_id(1) == "b"
        for client in range(3):
            np.testing.assert_array_equal(column(copy, client), column(data, client))
        assert torch.equal(copy.holdout(np.arange(3))[0], data.holdout(np.arange(3))[0])
        assert copy.test is not None
        assert torch.equal(copy.test.x, torch.ones(2, 1))
    assert shared.with_holdout(0.0, 0) is shared


def test_shared_columns_are_written_once_and_never_confused(tmp_path: Path) -> None:
    first, again, other = numbered([3, 4]), numbered([3, 4]), numbered([4, 3])
    first.share(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert column(again.share(tmp_path), 1).tolist() == column(again, 1).tolist()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    assert column(other.share(tmp_path), 1).tolist() == column(other, 1).tolist()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_fingerprint_names_the_clients_whose_rows_are_others(tmp_path: Path) -> None:
    x, y, clients = np.arange(9, dtype=np.float32)[:, None], np.arange(9) % 3, np.repeat([0, 1, 2], 3)
    first = FederatedData.from_arrays(x, y, clients).fingerprint()
    assert len(first) == 3
    for rows, targets in ((x + (clients == 1)[:, None], y), (x, np.where(clients == 1, 0, y))):
        other = FederatedData.from_arrays(rows, targets, clients).fingerprint()
        assert [name for name in first if first[name] != other[name]] == ["1"]
    data = FederatedData.from_arrays(x, y, clients, test=(x, y))
    assert data.share(tmp_path).fingerprint() == first, "the test set is not trained on, and sharing changes no row"
    many = FederatedData.from_arrays(np.zeros((500, 1)), np.zeros(500, dtype=np.int64), np.arange(500))
    assert list(many.fingerprint()) == ["all clients"]


def test_writing_to_mapped_rows_does_not_reach_the_file(tmp_path: Path) -> None:
    shared = numbered([3, 4]).share(tmp_path)
    shared._x.fill_(-1.0)
    assert column(numbered([3, 4]).share(tmp_path), 0).tolist() == [0.0, 1.0, 2.0]


def test_a_copy_that_has_no_room_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedray.data.columns.contiguous.np.save", full)
    with pytest.raises(ConfigError, match=f"below {tmp_path}/data: No space left on device; set TMPDIR"):
        numbered([3, 4]).share(tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_million_clients_are_a_few_arrays() -> None:
    n = 1_000_000
    data = FederatedData.from_arrays(np.zeros((n, 1), dtype=np.float32), np.zeros(n, dtype=np.int64), np.arange(n))
    assert len(data) == n
    kept = [value for value in vars(data).values() if isinstance(value, (list, dict, tuple, set)) and value]
    assert kept == []
    arrays = [value for value in vars(data).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) <= 3 * 8 * (n + 1)
    assert len(pickle.dumps(data)) < (4 + 8 + 3 * 8) * (n + 1) + 10_000


def test_cpu_residency_is_the_data_itself() -> None:
    data = numbered([2, 3])
    assert data.to(CPU) is data


@pytest.mark.gpu
def test_resident_columns_give_the_same_batches() -> None:
    device = torch.device("cuda", 0)
    data = numbered([5, 9], test=(np.ones((2, 1), dtype=np.float32), np.array([0, 1]))).with_holdout(0.2, seed=0)
    resident = data.to(device)
    index = np.array([[0, 3], [2, 1]])
    for source in (data, resident):
        x, y = source.rows(np.array([1, 0]), device).take(index)
        assert x.device == y.device == device
        assert torch.equal(x.cpu(), data.rows(np.array([1, 0])).take(index)[0])
    assert torch.equal(resident.holdout(np.arange(2))[0].cpu(), data.holdout(np.arange(2))[0])
    assert resident.label_counts().tolist() == data.label_counts().tolist()
    assert resident.test is not None
    assert resident.test.slice(0, 2, device)[0].device == device


def test_a_file_that_is_mapped_for_reading_is_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.uint8).reshape(3, 2))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = FederatedData.from_arrays(x, [0, 1, 1], [0, 0, 1])
    assert data._x.data_ptr() == x.ctypes.data
    assert data.rows(np.array([0])).take(np.array([[1, 0]]))[0].tolist() == [[[2.0, 3.0], [0.0, 1.0]]]
    assert data.share(tmp_path).label_counts().tolist() == [[1, 1], [0, 1]]


def test_numbers_of_all_clients_are_mapped_where_data_are_shared(tmp_path: Path) -> None:
    shared = numbered([3, 200, 4]).share(tmp_path)
    assert shared.holdout_sizes.tolist() == [0, 0, 0]
    assert not any(array.flags.owndata for array in (shared.sizes, shared._starts, shared.holdout_sizes))
    assert {path.name for path in tmp_path.rglob("*.npy")} == {"x.npy", "y.npy", "sizes.npy", "starts.npy"}

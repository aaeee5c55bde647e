"""The store: rows by client, sharing, holding out."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.data import ClientData, DataSpec, Examples, FederatedData
from fedray.data.partition import IID

CPU = torch.device("cpu")


def numbered(sizes: list[int], **options: object) -> FederatedData:
    """Clients whose inputs are their global row numbers, in shuffled row order; targets are numbers modulo 3."""
    clients = np.repeat(np.arange(len(sizes)), sizes)
    x = np.arange(len(clients), dtype=np.float32)[:, None]
    y = np.arange(len(clients)) % 3
    return FederatedData.from_arrays(x, y, clients, **options)  # type: ignore[arg-type]


def training_rows(data: ClientData, client: int) -> NDArray[np.float32]:
    """The inputs of a client's training rows."""
    x, _ = data.rows(np.array([client])).take(np.arange(data.sizes[client])[None])
    return x[0, :, 0].numpy()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_every_row_is_found_at_its_client(sizes: list[int], random: object) -> None:
    clients = np.repeat(np.arange(len(sizes)), sizes)
    random.shuffle(order := list(range(len(clients))))  # type: ignore[attr-defined]
    x = np.arange(len(clients), dtype=np.float32)[:, None]
    data = FederatedData.from_arrays(x[order], np.zeros(len(clients), dtype=np.int64), clients[order])
    assert data.sizes.tolist() == sizes
    for client in range(len(sizes)):
        kept = x[order][clients[order] == client, 0]
        np.testing.assert_array_equal(training_rows(data, client), kept)


def test_take_gathers_local_indices_of_the_first_clients_of_a_block() -> None:
    data = numbered([3, 2, 4])
    rows = data.rows(np.array([2, 0, 1]))
    x, y = rows.take(np.array([[3, 0], [1, 1]]))
    assert x.shape == (2, 2, 1)
    assert x.squeeze(-1).tolist() == [[8.0, 5.0], [1.0, 1.0]]
    assert y.tolist() == [[2, 2], [1, 1]]
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_padding_never_shows_another_clients_row() -> None:
    data = numbered([2, 2]).with_holdout(0.5, seed=0)
    x, _ = data.rows(np.array([0, 1])).take(np.array([[0, 1, 2, 7], [0, 1, 2, 7]]))
    assert len(set(x[0].flatten().tolist())) == 1
    assert x[0].max() < 2 <= x[1].min()


def test_bytes_are_handed_out_as_unit_floats() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(64, 1, 2, 2)
    data = FederatedData.from_arrays(x, np.arange(64), np.arange(64) // 16, test=(x, np.arange(64)))
    taken, _ = data.rows(np.array([1])).take(np.arange(16)[None])
    expected = torch.from_numpy(x[16:32]).to(torch.float32) / 255
    assert taken.dtype == torch.float32
    assert torch.equal(taken[0], expected)
    assert data.test is not None
    assert torch.equal(data.test.slice(16, 32, CPU)[0], expected)
    held = data.with_holdout(0.25, seed=0).holdout(np.array([0]))[0]
    assert held.dtype == torch.float32
    assert float(held.max()) <= 1.0


def test_specification_is_read_off_the_arrays() -> None:
    tokens = FederatedData.from_arrays([[1, 5], [2, 0]], [0, 3], [0, 1], test=([[7, 1]], [3]))
    assert tokens.spec == DataSpec((2,), 4, "classification", vocabulary=8)
    floats = FederatedData.from_arrays(np.ones((2, 3)), [0.5, 1.5], [0, 1])
    assert floats.spec == DataSpec((3,), 1, "regression")
    assert floats.rows(np.array([0])).take(np.array([[0]]))[1].shape == (1, 1, 1)


def test_names_become_ids_and_keys_do_not_depend_on_the_other_clients() -> None:
    x, y = np.zeros((3, 1)), np.zeros(3, dtype=np.int64)
    data = FederatedData.from_arrays(x, y, np.array(["b", "a", "c"]))
    assert [data.client_id(i) for i in range(3)] == ["a", "b", "c"]
    without = FederatedData.from_arrays(x[1:], y[1:], np.array(["a", "c"]))
    keys = data.keys(np.arange(3))
    assert keys[[0, 2]].tolist() == without.keys(np.arange(2)).tolist()
    assert len(set(keys.tolist())) == 3
    assert keys.min() >= 0
    ordered = FederatedData.from_arrays(x, y, np.array(["b", "a", "c"]), ids=["c", "b", "a"])
    assert [ordered.client_id(i) for i in range(3)] == ["c", "b", "a"]
    unnamed = FederatedData.from_arrays(x, y, np.arange(3))
    assert unnamed.client_id(2) == "2"
    assert unnamed.keys(np.array([2, 0])).tolist() == [2, 0]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.floats(0.01, 0.99), st.integers(0, 5))
def test_holdout_moves_a_share_of_every_client_behind_its_training_rows(
    sizes: list[int], fraction: float, seed: int
) -> None:
    data = numbered(sizes)
    held = data.with_holdout(fraction, seed)
    expected = [min(max(round(size * fraction), 1), size - 1) for size in sizes]
    assert held.holdout_sizes.tolist() == expected
    np.testing.assert_array_equal(held.sizes + held.holdout_sizes, sizes)
    x, y, segment = held.holdout(np.arange(len(sizes)))
    assert len(x) == len(y) == len(segment) == sum(expected)
    for client in range(len(sizes)):
        training, local = training_rows(held, client), x[segment == client, 0].numpy()
        assert (np.diff(training) > 0).all()
        np.testing.assert_array_equal(np.sort(np.concatenate([training, local])), training_rows(data, client))
    assert held.label_counts().sum() == held.sizes.sum()


def test_holdout_is_a_function_of_seed_and_client_id_alone() -> None:
    x, y = np.arange(60, dtype=np.float32)[:, None], np.zeros(60, dtype=np.int64)
    names = np.repeat(["a", "b", "c"], 20)
    full = FederatedData.from_arrays(x, y, names).with_holdout(0.3, seed=4)
    part = FederatedData.from_arrays(x[20:], y[20:], names[20:]).with_holdout(0.3, seed=4)
    other = FederatedData.from_arrays(x, y, names).with_holdout(0.3, seed=5)
    np.testing.assert_array_equal(training_rows(full, 2), training_rows(part, 1))
    assert training_rows(full, 2).tolist() != training_rows(other, 2).tolist()
    assert FederatedData.from_arrays(x, y, names).with_holdout(0.0, seed=4).holdout_sizes.sum() == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_holdout_out_of_range_is_an_error(fraction: float) -> None:
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        numbered([3]).with_holdout(fraction, seed=0)


def test_holdout_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match="held-out rows already"):
        numbered([3]).with_holdout(0.5, seed=0).with_holdout(0.5, seed=0)


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
            np.testing.assert_array_equal(training_rows(copy, client), training_rows(data, client))
        assert torch.equal(copy.holdout(np.arange(3))[0], data.holdout(np.arange(3))[0])
        assert copy.test is not None
        assert torch.equal(copy.test.x, torch.ones(2, 1))
    assert shared.with_holdout(0.0, 0) is shared


def test_shared_columns_are_written_once_and_never_confused(tmp_path: Path) -> None:
    first, again, other = numbered([3, 4]), numbered([3, 4]), numbered([4, 3])
    first.share(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert training_rows(again.share(tmp_path), 1).tolist() == training_rows(again, 1).tolist()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    assert training_rows(other.share(tmp_path), 1).tolist() == training_rows(other, 1).tolist()
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
    assert training_rows(numbered([3, 4]).share(tmp_path), 0).tolist() == [0.0, 1.0, 2.0]


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
        np.testing.assert_array_equal(training_rows(doubled, client), 2 * training_rows(split, client))
        np.testing.assert_array_equal(training_rows(tensors, client), training_rows(split, client))
    assert isinstance(doubled.test, Examples)
    assert len(doubled.test) == 12


X = np.zeros((4, 2))
Y = np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clients": [0, 0, 2, 2]}, "client '1' has no training examples; number them from 0 without gaps"),
        ({"clients": [1, 1, 2, 2]}, "client '0' has no training examples; number them from 0 without gaps"),
        ({"clients": [0, 0, 1, 1], "ids": ["a", "b", "lonely"]}, "client 'lonely' has no training examples"),
        ({"clients": [0, 0, 1, 1], "ids": ["a", "a"]}, "client id 'a' is used twice"),
        ({"clients": [0, 0, 1, 1], "ids": ["a", "b/../c"]}, "'b/../c' is not allowed"),
        ({"clients": [0, 0, 1, 1], "ids": ["a", "x" * 65]}, "is not allowed"),
        ({"clients": [0, 0, 1, 1], "ids": ["a"]}, "1 client ids were given"),
        ({"clients": ["a", "a", "b", "z"], "ids": ["a", "b"]}, "'z', which is not among ids"),
        ({"clients": [0, 0, 1]}, "x has 4 rows but clients has 3"),
        ({"clients": [0, 0, 1, -1]}, "negative numbers"),
        ({"clients": [0, 0, 1, 7_000]}, "number them from 0 without gaps"),
        ({"clients": [0.5, 0, 1, 1]}, "must be numbers or names"),
        ({"clients": [0, 0, 1, 1], "y": Y[:3]}, "x has 4 rows but y has 3"),
        ({"clients": [0, 0, 1, 1], "y": Y - 1}, "negative class"),
        ({"clients": [0, 0, 1, 1], "y": ["a", "b", "a", "b"]}, "number the classes first"),
        ({"clients": [0, 0, 1, 1], "x": X + np.array([[0], [0], [np.nan], [0]])}, "row 2"),
        ({"clients": [0, 0, 1, 1], "x": X + 1e39}, "row 0"),
        ({"clients": [0, 0, 1, 1], "x": X.astype(int) - 1}, "negative"),
        ({"clients": [0, 0, 1, 1], "test": (X, Y + 1)}, "class 2 does not occur"),
        ({"clients": [0, 0, 1, 1], "test": (X[:, :1], Y)}, "test: inputs have shape"),
        ({"clients": [0, 0, 1, 1], "test": X}, "expected a pair"),
        ({"clients": [0, 0, 1, 1], "test": (X[:0], Y[:0])}, "test set has no rows"),
        ({"clients": [0, 0, 1, 1], "spec": DataSpec((2,), 1)}, "class 1 is unknown"),
        ({"clients": [0, 0, 1, 1], "spec": DataSpec((2,), 1, "regression")}, "regression needs"),
        ({"clients": [], "x": X[:0], "y": Y[:0]}, "no rows"),
    ],
)
def test_what_cannot_be_data_is_one_clear_error(arguments: dict[str, object], message: str) -> None:
    given = {"x": X, "y": Y} | arguments
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_arrays(given.pop("x"), given.pop("y"), np.array(given.pop("clients")), **given)  # type: ignore[arg-type]


def test_datasets_that_cannot_be_stacked_are_errors() -> None:
    ragged = [(torch.zeros(2), 0), (torch.zeros(3), 1)]
    with pytest.raises(ConfigError, match="item 1 of the data set"):
        FederatedData.from_dataset(ragged, IID(clients=1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a pair"):
        FederatedData.from_dataset([torch.zeros(2)], IID(clients=1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="map-style"):
        FederatedData.from_dataset(iter(ragged), IID(clients=1))  # type: ignore[arg-type]


# What inputs and targets are taken for


def test_bytes_of_images_are_scaled_and_those_of_tables_are_not() -> None:
    clients = np.array([0, 0, 1])
    for shape, largest, word in (((2, 2), 1.0, "images"), ((4,), 255.0, "table")):
        x = np.zeros((3, *shape), dtype=np.uint8)
        x[0, ..., 0] = 255
        data = FederatedData.from_arrays(x, np.array([0, 1, 0]), clients, test=(x, np.array([0, 1, 0])))
        assert float(data.rows(np.array([0])).take(np.array([[0, 1]]))[0].max()) == largest
        assert data.test is not None
        assert float(data.test.slice(0, 3)[0].max()) == largest
        held = data.with_holdout(0.5, 1)
        assert (
            max(
                float(t.max())
                for t in (held.holdout(np.array([0]))[0], held.rows(np.array([0])).take(np.array([[0]]))[0])
            )
            == largest
        )
        assert [f"bytes of {'a ' if word == 'table' else ''}{word}" in note for note in data.notes] == [True]
        assert held.notes == data.notes
        two = x[:2], np.array([0, 1])
        lazy = FederatedData.from_function({0: two, 1: two}.__getitem__, range(2))
        assert float(lazy.rows(np.array([0])).take(np.array([[0, 1]]))[0].max()) == largest
        assert lazy.notes == data.notes
    assert numbered([2]).notes == ()


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (np.array([0.0, 2.0, 1.0]), "whole numbers from 0 to 2"),
        (np.eye(3)[[0, 2, 1]], "one-hot rows of 3"),
        (np.array([0.5, 2.0, 1.0]), None),
        (np.array([0.0, 250_000.0, 1.0]), None),
        (np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), None),
        (np.array([0, 2, 1]), None),
    ],
)
def test_float_targets_that_look_like_classes_are_named(targets: NDArray[np.float64], said: str | None) -> None:
    x, clients = np.zeros((3, 2), dtype=np.float32), np.array([0, 0, 1])
    data: ClientData = FederatedData.from_arrays(x, targets, clients)
    lazy: ClientData = FederatedData.from_function(lambda c: (x, targets), range(2))
    for one in (data, lazy):
        assert [said in warning for warning in one.warnings] == [True] if said else one.warnings == ()
    if targets.dtype.kind == "f" and targets.ndim == 1:
        known = FederatedData.from_arrays(x, targets, clients, spec=DataSpec((2,), 1, "regression"))
        assert known.warnings == ()

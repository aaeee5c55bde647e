"""Lazy data: the same contract, rows made when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.data import DataSpec, FederatedData
from fedray.data.columns.pooled import Pooled

SIZES = {"a": 3, "b": 5, "c": 8}


def make(client: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A client's rows: inputs name the client and the row."""
    start = 100 * (ord(client) - ord("a"))
    return np.arange(start, start + SIZES[client], dtype=np.float32)[:, None], np.arange(SIZES[client]) % 2


def eager() -> FederatedData:
    """The same data in memory."""
    pairs = [make(client) for client in SIZES]
    names = np.repeat(list(SIZES), list(SIZES.values()))
    return FederatedData.from_arrays(
        np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]), names
    )


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_lazy_data_equals_the_same_data_in_memory(fraction: float) -> None:
    lazy = FederatedData.from_function(make, SIZES).with_holdout(fraction, seed=3)
    full = eager().with_holdout(fraction, seed=3)
    assert lazy.spec == full.spec
    assert lazy.sizes.tolist() == full.sizes.tolist()
    everyone = np.array([2, 0, 1])
    assert lazy.keys(everyone).tolist() == full.keys(everyone).tolist()
    index = np.array([[0, 4], [1, 0]])
    for mine, theirs in zip(lazy.rows(everyone).take(index), full.rows(everyone).take(index), strict=True):
        assert torch.equal(mine, theirs)
    for held, expected in zip(lazy.holdout(everyone), full.holdout(everyone), strict=True):
        np.testing.assert_array_equal(np.asarray(held), np.asarray(expected))
    assert lazy.label_counts().tolist() == full.label_counts().tolist()


def test_function_is_called_only_when_a_block_is_opened() -> None:
    calls: list[Any] = []

    def watched(client: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        calls.append(client)
        return np.full((4, 1), client, dtype=np.float32), np.zeros(4, dtype=np.int64)

    data = FederatedData.from_function(watched, range(1_000_000), sizes=np.full(1_000_000, 4), spec=DataSpec((1,), 2))
    assert calls == []
    assert data.client_id(7) == "7"
    rows = data.rows(np.array([7, 999_999]))
    assert rows.take(np.array([[0], [3]]))[0].flatten().tolist() == [7.0, 999_999.0]
    assert calls == [7, 999_999]
    FederatedData.from_function(watched, range(3))
    assert calls[2:] == [0, 1, 2]


def test_function_is_called_at_the_start_when_a_client_trains_or_is_evaluated_and_after_a_resume(
    tmp_path: Path,
) -> None:
    calls: list[str] = []

    def watched(client: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        calls.append(client)
        return make(client)

    def trained(rounds: int) -> list[str]:
        calls.clear()
        data = FederatedData.from_function(watched, SIZES).with_holdout(0.3, seed=1)
        assert calls == list(SIZES)
        model = fedray.FederatedModel(
            lambda: nn.Linear(1, 2), lambda params: torch.optim.SGD(params, lr=0.001), nn.functional.cross_entropy
        )
        args = fedray.TrainArgs(rounds=rounds, evaluate_clients_every=1)
        there = {"cluster": "inline", "run_dir": tmp_path / "run", "progress": False, "resume": rounds > 1}
        fedray.train(model, data, args, **there)  # type: ignore[arg-type]
        return calls[len(SIZES) :]

    first, more = trained(1), trained(2)
    assert min(first.count(client) for client in SIZES) >= 2
    assert min(more.count(client) for client in SIZES) >= 2


def test_closures_pickle_and_nothing_is_written(tmp_path: Path) -> None:
    shift = 5.0
    data = FederatedData.from_function(lambda name: (make(name)[0] + shift, make(name)[1]), SIZES)
    assert data.share(tmp_path) is data
    assert list(tmp_path.iterdir()) == []
    back = cloudpickle.loads(cloudpickle.dumps(data))
    assert back.rows(np.array([1])).take(np.array([[2]]))[0].item() == 107.0


def test_bytes_and_empty_holdouts_are_decoded_alike() -> None:
    data = FederatedData.from_function(
        lambda size: (np.full((size, 1, 2, 2), 255, dtype=np.uint8), np.zeros(size, dtype=np.int64)), [1, 4]
    ).with_holdout(0.5, seed=0)
    x, y, segment = data.holdout(np.array([0, 1]))
    assert x.dtype == torch.float32
    assert x.unique().tolist() == [1.0]
    assert segment.tolist() == [1, 1]
    assert len(y) == 2
    assert data.holdout(np.array([0]))[0].shape == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("function", "clients", "options", "message"),
    [
        (make, ["a", "a"], {}, "used twice"),
        (make, ["a"], {"sizes": [3, 4]}, "2 sizes were given for 1 clients"),
        (make, ["a", "b"], {"sizes": [3, 4]}, "client 'b' gave 5 examples, 4 were declared"),
        (make, [], {}, "no clients"),
        (lambda _: np.zeros((2, 1)), ["a"], {}, "must return a pair"),
        (lambda _: 1 / 0, ["a"], {}, "^client 'a': the function raised ZeroDivisionError: division by zero$"),
        (lambda c: (np.zeros((int(c), 1)), np.zeros(int(c), dtype=int)), ["2", "0"], {}, "client '0' has no training"),
        (lambda c: (np.zeros((2, int(c))), np.zeros(2, dtype=int)), ["2", "3"], {}, "client '3' has inputs"),
        (make, ["a"], {"spec": DataSpec((1,), 1)}, "client 'a': class 1 is unknown"),
    ],
)
def test_what_cannot_be_lazy_data_is_one_clear_error(
    function: Any, clients: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_function(function, clients, **options)


def own_rows(client: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A client's own test rows; b has none."""
    x, y = make(client)
    count = {"a": 2, "b": 0, "c": 3}[client]
    return -x[:count], y[:count]


def drawn(client: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return np.full((2, 1), torch.rand(1).item()), np.arange(2)


@pytest.mark.parametrize("declared", [None, [2, 0, 3]])
def test_own_test_sets_are_made_when_clients_are_evaluated(declared: list[int] | None) -> None:
    calls: list[str] = []

    def watched(client: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        calls.append(client)
        return own_rows(client)

    data = FederatedData.from_function(make, SIZES, test=watched, test_sizes=declared)
    assert calls == ([] if declared else ["a", "b", "c"])
    calls.clear()
    assert (data.test, data.evaluation_sizes.tolist(), data.unevaluated) == (None, [2, 0, 3], 1)
    x, y, segment = data.evaluation(np.array([2, 1, 0]))
    assert calls == ["c", "a"]  # nobody calls it for none
    assert x.flatten().tolist() == [-200.0, -201.0, -202.0, 0.0, -1.0]
    assert (y.tolist(), segment.tolist()) == ([0, 1, 0, 0, 1], [0, 0, 0, 2, 2])
    assert Pooled(data).evaluation_sizes.tolist() == [2, 0, 3, 0]
    back = cloudpickle.loads(cloudpickle.dumps(data))
    assert torch.equal(back.evaluation(np.array([2, 1, 0]))[0], x)
    # Rows that are held out stand before a test set, as of other data, and leave it as it is.
    held = data.with_holdout(0.4, seed=0)
    assert held.evaluation_sizes.tolist() == held.holdout_sizes.tolist() != [2, 0, 3]
    assert torch.equal(held.own_test(np.array([2, 1, 0]))[0], x)


def test_what_test_rows_draw_is_the_same_at_each_call_and_no_training_row() -> None:
    data = FederatedData.from_function(drawn, ["a", "b"], test=drawn)
    x, _, _ = data.evaluation(np.array([0, 1]))
    assert torch.equal(data.evaluation(np.array([1]))[0], x[2:])
    trained, _ = data.rows(np.array([0, 1])).take(np.array([[0], [0]]))
    assert len({*x.flatten().tolist(), *trained.flatten().tolist()}) == 4


def fails(client: str) -> Any:
    raise KeyError(client)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": fails}, "^client 'a': the function of its test set raised KeyError: 'a'$"),
        (
            {"test": make, "test_sizes": [1, 2, 3]},
            "^test_sizes: the rows that test.client. gives, one whole number, 0 or more, for each of 1 clients",
        ),
        ({"test": make, "test_sizes": [-3]}, "^test_sizes: the rows that"),
        ({"test": make, "test_sizes": [3.5]}, "^test_sizes: the rows that"),
        ({"test": make, "test_sizes": 3}, "^test_sizes: the rows that"),
        ({"test": make("a"), "test_sizes": [3]}, "^test_sizes: the rows that"),
        ({"test": lambda _: (np.zeros((2, 3)), np.zeros(2, dtype=int))}, "^test of client 'a'"),
    ],
)
def test_what_no_own_test_set_can_be_is_one_clear_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_function(make, ["a"], **options).evaluation(np.array([0]))


def test_a_test_set_that_changes_is_noticed() -> None:
    data = FederatedData.from_function(make, ["a"], test=make, test_sizes=[4])
    with pytest.raises(ConfigError, match="test of client 'a' gave 3 examples, 4 were declared"):
        data.evaluation(np.array([0]))


def test_a_client_that_changes_is_noticed() -> None:
    data = FederatedData.from_function(make, ["a"], sizes=[4], spec=DataSpec((1,), 2))
    with pytest.raises(ConfigError, match="client 'a' gave 3 examples, 4 were declared"):
        data.rows(np.array([0]))

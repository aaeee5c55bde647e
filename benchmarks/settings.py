"""The settings of ``benchmarks.personal``: data, model, recipe, and the rows of a table."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fedray
from fedray.data.columns.base import ClientData

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        algorithm: its name, or the section of a config.
        view: the section of a record that judges it, ``clients_<view>``.
        args: what it has of ``TrainArgs`` besides those of its setting.
    """

    algorithm: str | dict[str, Any]
    view: str = "personal"
    args: dict[str, Any] = field(default_factory=dict)


FINETUNED: dict[str, Any] = {"evaluate_finetune": {"epochs": 5}}

PERSONAL = {
    "local only": Row("local_only"),
    "centralized": Row("centralized", "test"),
    "FedAvg": Row("fedavg", "test"),
    "FedAvg, fine-tuned": Row("fedavg", "finetuned", FINETUNED),
    "FedBABU, fine-tuned": Row("fedbabu", "finetuned", FINETUNED),
    "FedPer": Row("fedper"),
    "FedRep": Row("fedrep"),
    "LG-FedAvg": Row("lg-fedavg"),
    "Ditto": Row("ditto"),
    "APFL": Row("apfl"),
    "pFedMe": Row("pfedme"),
    "Per-FedAvg": Row({"name": "perfedavg", "alpha": 0.1}),
    "Per-FedAvg, exact": Row({"name": "perfedavg", "alpha": 0.1, "exact": True}),
    "FedALA": Row("fedala"),
    "Fed-RoD": Row("fedrod"),
    "FedProto": Row("fedproto"),
    "FedAMP": Row("fedamp"),
    "IFCA": Row("ifca"),
}
"""Personal algorithms at their defaults, and what they are compared with.

Per-FedAvg's alpha is the learning rate: the best of 0.01 to 1 on seeds 1000 and 1001 of two classes; one step at its
default, 0.01, hardly leaves the global model.  FedBN has no row, as the models have no norms.
"""


@dataclass(frozen=True)
class Setting:
    """A table: each row is run with the same data, model and recipe.

    Args:
        name: of the table.
        data: clients, of a seed and the folder of shared data.
        model: section of the model.
        rounds: how many.
        cohort: clients of a round, drawn uniformly.
        args: what it has of ``TrainArgs``.
        rows: of the table.
        folder: of the shared data that it needs.
        personal: rows are judged by the mean accuracy over clients, each on its held-out rows; else on the test set.
    """

    name: str
    data: Callable[[int, Path], ClientData | dict[str, Any]]
    model: dict[str, Any]
    rounds: int
    cohort: int
    args: dict[str, Any]
    rows: dict[str, Row]
    folder: str = ""
    personal: bool = True


def digits() -> tuple[NDArray[np.uint8], Ints]:
    """Return the images ``[N, 64]`` and classes ``[N]`` that fedray comes with."""
    with np.load(Path(fedray.__file__).parent / "data" / "tables" / "digits.npz") as held:
        return held["x"].reshape(-1, 64) * 15, held["y"].astype(np.int64)


def idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an ``idx`` file of bytes, as those of MNIST are."""
    raw = gzip.decompress(path.read_bytes())
    ends = 4 + 4 * raw[3]
    return np.frombuffer(raw, np.uint8, offset=ends).reshape(np.frombuffer(raw[4:ends], ">i4"))


def two_classes(labels: Ints, seed: int) -> tuple[Ints, Ints]:
    """Draw 35 to 75 rows of two classes for each of 20 clients; return the rows, and the client of each.

    >>> labels = np.repeat(np.arange(10), 100)
    >>> rows, owner = two_classes(labels, seed=1)
    >>> {len(set(labels[rows[owner == client]])) for client in range(20)}
    {2}
    >>> set(np.bincount(owner).tolist()) <= {35, 45, 55, 65, 75}
    True
    """
    draw, rows = np.random.default_rng(seed), []
    for client in range(20):
        own = np.flatnonzero(np.isin(labels, [client % 10, (client + 3) % 10]))
        rows.append(draw.permutation(own)[: 15 + 10 * int(draw.integers(2, 7))])
    return np.concatenate(rows), np.repeat(np.arange(20), [len(piece) for piece in rows])


def deal_two_classes(labels: Ints, seed: int) -> tuple[Ints, Ints]:
    """Deal all rows to 100 clients, two of ten classes each, and each class to 20 of them.

    >>> labels = np.repeat(np.arange(10), 100)
    >>> rows, owner = deal_two_classes(labels, seed=1)
    >>> sorted(rows) == list(range(1000)), set(np.bincount(owner).tolist())
    (True, {10})
    >>> {len(set(labels[rows[owner == client]])) for client in range(100)}
    {2}
    """
    draw, rows, owner = np.random.default_rng(seed), [], []
    client = np.arange(100)
    pairs = np.stack([client % 10, (client + 1 + client // 10 % 9) % 10])
    for label in range(10):
        takers = draw.permutation(np.flatnonzero((pairs == label).any(axis=0)))
        for taker, piece in zip(
            takers, np.array_split(draw.permutation(np.flatnonzero(labels == label)), 20), strict=True
        ):
            rows.append(piece)
            owner.append(np.full(len(piece), taker))
    return np.concatenate(rows), np.concatenate(owner)


def _digits(seed: int, shared: Path) -> ClientData:
    x, y = digits()
    rows, owner = two_classes(y, seed)
    return fedray.FederatedData.from_arrays(x[rows].astype(np.float32) / 240, y[rows], owner).with_holdout(0.25, seed)


def _dirichlet(seed: int, shared: Path) -> dict[str, Any]:
    partition = {"name": "dirichlet", "clients": 20, "alpha": 0.1}
    return {"name": "digits", "flat": True, "partition": partition, "holdout": 0.25, "test_fraction": 0.0}


def _mnist(seed: int, shared: Path) -> ClientData:
    x, y = (idx(shared / "mnist10k" / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    labels = y.astype(np.int64)
    rows, owner = deal_two_classes(labels, seed)
    pixels = x.reshape(len(x), -1)[rows].astype(np.float32) / 255
    return fedray.FederatedData.from_arrays(pixels, labels[rows], owner).with_holdout(0.25, seed)


def _leaf(seed: int, shared: Path) -> ClientData:
    folder = shared / "leaf_synthetic"
    return fedray.FederatedData.from_leaf(folder / "train", test=folder / "test")


_SGD: dict[str, Any] = {"epochs": 2, "batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}}
_FEDPROX: dict[str, Any] = {"epochs": 20, "batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.01}}
_DROPPED: dict[str, Any] = {"dropout": 0.9, "min_share": 0.0}
_PARTIAL: dict[str, Any] = {"epochs": {"name": "uniform", "low": 1, "high": 20, "clients": 0.9}}

_ALL = (
    Setting("two classes", _digits, {"name": "mlp", "hidden": [32]}, 30, 12, _SGD, PERSONAL),
    Setting("Dirichlet(0.1)", _dirichlet, {"name": "mlp", "hidden": [32]}, 30, 12, _SGD, PERSONAL),
    Setting("MNIST", _mnist, {"name": "mlp", "hidden": [64]}, 100, 10, _SGD, PERSONAL, "mnist10k"),
    Setting(
        "Synthetic(1, 1)",
        _leaf,
        {"name": "logistic"},
        200,
        10,
        _FEDPROX,
        {
            "FedAvg": Row("fedavg"),
            "FedProx, mu 1": Row({"name": "fedprox", "mu": 1.0}),
            "FedAvg, 90 % dropped": Row("fedavg", args=_DROPPED),
            "FedProx, mu 0, partial work": Row({"name": "fedprox", "mu": 0.0}, args=_PARTIAL),
            "FedProx, mu 1, partial work": Row({"name": "fedprox", "mu": 1.0}, args=_PARTIAL),
        },
        "leaf_synthetic",
        personal=False,
    ),
)

SETTINGS = {one.name: one for one in _ALL}
"""The tables, by name."""

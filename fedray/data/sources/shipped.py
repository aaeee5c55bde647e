"""Sources that need no files: the two shipped tables, a synthetic problem, and random tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedray.core.errors import ConfigError
from fedray.core.rng import numpy_generator
from fedray.data.encoding.moments import Sums, federated_moments
from fedray.data.federated import FederatedData
from fedray.data.registry import data_sources
from fedray.data.sources.base import (
    SYNTHETIC_ROUND,
    Source,
    Whole,
    make_partitioner,
    need_fraction,
    partitioned,
    split_test,
)
from fedray.data.spec import DataSpec
from fedray.data.tables import load_table

_MOST_SHIFT = 1e6
"""More than that many deviations of the inputs are a slip of the pen, and their squares soon infinite."""


@data_sources.register("digits")
@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """1,797 real handwritten digits, 1 x 8 x 8 pixels in [0, 1], ten classes (shipped; UCI, as in scikit-learn).

    >>> data = Digits(partition={"name": "dirichlet", "clients": 5, "alpha": 0.5}).load(seed=1)
    >>> len(data), data.sizes.sum().item(), len(data.test), data.spec.shape
    (5, 1438, 359, (1, 8, 8))

    Args:
        partition: the split of rows over clients; default: ``iid`` over 10, also beside a ``seed`` alone.
        test_fraction: share of every class that becomes the central test set, in [0, 1).
        flat: give inputs as 64 features instead of an image.
    """

    partition: dict[str, Any] | None = None
    test_fraction: float = 0.2
    flat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        need_fraction("test_fraction", self.test_fraction)

    def read(self, seed: int) -> FederatedData:
        partitioner = make_partitioner(self.partition or {}, default="iid")
        table = load_table("digits")
        shape = (64,) if self.flat else (1, 8, 8)
        x, y = table["x"].reshape(-1, *shape).astype(np.float32) / 16, table["y"].astype(np.int64)
        train, test = split_test(y, self.test_fraction, seed)
        spec = DataSpec(shape, 10, classes=tuple("0123456789"))
        return partitioned(x[train], y[train], partitioner, seed, spec, (x[test], y[test]) if len(test) else None)


@data_sources.register("breast_cancer")
@dataclass(frozen=True, kw_only=True)
class BreastCancer(Source):
    """569 real tumours with 30 measurements, malignant or benign (shipped; Wisconsin, as in scikit-learn).

    >>> data = BreastCancer(partition={"name": "quantity", "clients": 5}, holdout=0.2).load(seed=1)
    >>> data.spec.classes, data.sizes, data.holdout_sizes
    (('malignant', 'benign'), array([ 27,   9,  22, 256,  51]), array([ 7,  2,  5, 64, 13]))

    Args:
        partition: the split of rows over clients; default: ``iid`` over 10, also beside a ``seed`` alone.
        test_fraction: share of every class that becomes the central test set, in [0, 1).
        standardize: centre and scale the columns by the moments of the training rows.
    """

    partition: dict[str, Any] | None = None
    test_fraction: float = 0.2
    standardize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        need_fraction("test_fraction", self.test_fraction)

    def read(self, seed: int) -> FederatedData:
        partitioner = make_partitioner(self.partition or {}, default="iid")
        table = load_table("breast_cancer")
        x, y = table["x"], table["y"].astype(np.int64)
        train, test = split_test(y, self.test_fraction, seed)
        if self.standardize:
            mean, deviation = federated_moments(lambda center: [Sums.of(x[train], center)], x.shape[1])
            x = (x - mean) / deviation
        spec = DataSpec((x.shape[1],), 2, classes=tuple(str(name) for name in table["classes"]))
        return partitioned(x[train], y[train], partitioner, seed, spec, (x[test], y[test]) if len(test) else None)


MOST_ROWS = 10**9
"""More rows, or numbers in one, than that are a slip of the pen, and their product is a size that an array may have."""


def _check_counts(source: Synthetic | RandomTokens, **least: int) -> None:
    """Raise ConfigError unless each count is at least so many, and neither it nor all rows are too many."""
    counts = {name: getattr(source, name) for name in least}
    for name, count in counts.items():
        if count < least[name]:
            raise ConfigError(f"{name}: must be at least {least[name]}, got {count}")
        if count > MOST_ROWS:
            raise ConfigError(f"{name}: must be at most {MOST_ROWS}, got {count}")
    rows = source.clients * source.examples + source.test
    if rows > MOST_ROWS:
        raise ConfigError(
            f"clients={source.clients}, examples={source.examples}: {rows} rows in all, where {MOST_ROWS} are the most"
        )


@data_sources.register("synthetic")
@dataclass(frozen=True, kw_only=True)
class Synthetic(Whole):
    """Gaussian features labelled by one random linear teacher, with clients that differ by a knob.

    Client c draws inputs ``x = z + h * u_c`` with ``z ~ N(0, I)``, ``u_c ~ N(0, I)``, and labels them
    ``argmax(W x / sqrt(f) + h * b_c)`` with a common teacher ``W_kj ~ N(0, 1)`` and ``b_c ~ N(0, I)``: h shifts both
    the features and the labels of a client.  ``h = 0`` makes all clients alike.

    >>> data = Synthetic(clients=50, examples=4, features=8, classes=3, heterogeneity=1.0).load(seed=1)
    >>> len(data), data.sizes.sum().item(), data.spec.shape, data.spec.outputs
    (50, 200, (8,), 3)

    Args:
        clients: number of clients n.
        examples: training examples of each client.
        features: number of features f.
        classes: number of classes k, at least 2.
        heterogeneity: h, at least 0.
        test: size of the central test set, drawn from the clients in turn, whose own the examples are; 0 for none.
    """

    clients: int = 100
    examples: int = 20
    features: int = 64
    classes: int = 10
    heterogeneity: float = 0.0
    test: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self, clients=1, examples=1, features=1, classes=2, test=0)
        if not 0.0 <= self.heterogeneity <= _MOST_SHIFT:
            raise ConfigError(
                f"heterogeneity: must be at least 0 and at most {_MOST_SHIFT:g}, got {self.heterogeneity}"
            )

    def read(self, seed: int) -> FederatedData:
        generator = numpy_generator(seed, "partition", SYNTHETIC_ROUND)
        teacher = generator.standard_normal((self.features, self.classes), dtype=np.float32) / np.sqrt(self.features)
        shift = generator.standard_normal((self.clients, self.features), dtype=np.float32) * self.heterogeneity
        bias = generator.standard_normal((self.clients, self.classes), dtype=np.float32) * self.heterogeneity
        train = np.repeat(np.arange(self.clients), self.examples)
        owner = np.concatenate([train, np.arange(self.test) % self.clients])
        x = generator.standard_normal((len(owner), self.features), dtype=np.float32)
        x += shift[owner].astype(np.float32)
        y = np.argmax(x @ teacher + bias[owner], axis=1)
        spec = DataSpec((self.features,), self.classes)
        test = (x[len(train) :], y[len(train) :]) if self.test else None
        own = owner[len(train) :] if self.test else None
        return FederatedData.from_arrays(
            x[: len(train)], y[: len(train)], train, test=test, test_clients=own, spec=spec
        )


@data_sources.register("tokens")
@dataclass(frozen=True, kw_only=True)
class RandomTokens(Whole):
    """Random tokens, which teach nothing: for ``--sizes`` of ``fedray plan``, or to try machines with.

    >>> data = RandomTokens(clients=3, examples=4, length=16, vocabulary=100).load(seed=1)
    >>> data.sizes, data.spec.inputs
    (array([4, 4, 4]), '16 tokens of 100')

    Args:
        clients: number of clients.
        examples: sequences of each.
        length: tokens of a sequence.
        vocabulary: number of different tokens, at least 2.
        test: sequences of the central test set; 0 for none.
    """

    clients: int = 8
    examples: int = 64
    length: int = 512
    vocabulary: int = 32_000
    test: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self, clients=1, examples=1, length=2, vocabulary=2, test=0)

    def read(self, seed: int) -> FederatedData:
        generator = numpy_generator(seed, "partition", SYNTHETIC_ROUND)
        count = self.clients * self.examples
        x = generator.integers(self.vocabulary, size=(count + self.test, self.length), dtype=np.int32)
        spec = DataSpec((self.length,), self.vocabulary, vocabulary=self.vocabulary)
        test = (x[count:], x[count:]) if self.test else None
        return FederatedData.from_arrays(
            x[:count], None, np.repeat(np.arange(self.clients), self.examples), test=test, spec=spec
        )

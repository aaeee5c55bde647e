"""Partitioners: they give each row of one data set to a client, as a function of labels and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedray.config.registry import bind_part, made, nearest
from fedray.core.errors import ConfigError, an, listed, one_line
from fedray.core.rng import numpy_generator
from fedray.data.margins import fitted
from fedray.data.registry import partitioners

_ATTEMPTS = 100


class Partitioner(Protocol):
    """The base of partitioners: rules that assign rows to clients.

    >>> from fedray import FederatedData
    >>> class Halves:
    ...     def assign(self, labels, seed):
    ...         return np.arange(len(labels)) * 2 // len(labels)
    >>> halves: Partitioner = Halves()
    >>> FederatedData.from_partition(np.zeros((10, 4)), np.arange(10) % 2, halves).sizes
    array([5, 5])
    """

    def assign(self, labels: NDArray[Any], seed: int) -> NDArray[Any]:
        """Return the client of each row ``[N]``: numbers in [0, n), every one of them used, or names.

        Args:
            labels: class index (or value) of each row, ``[N]``; a ``column`` partitioner takes its column instead.
            seed: the run's seed; the same labels and seed give the same clients.

        Raises:
            ConfigError: a client would get no row.
        """
        ...


Named = str | Mapping[str, Any]


def chosen(partitioner: Partitioner | Named, key: str = "partitioner") -> Partitioner:
    """Return a partitioner that is named as in a config, or check one made in Python.

    >>> chosen({"name": "iid", "clients": 3})
    IID(clients=3)

    Raises:
        ConfigError: naming ``key``; there is no such partitioner, its options are wrong, or the object is none.
    """
    part: Partitioner = made(bind_part(partitioners, partitioner, key))
    if not callable(getattr(part, "assign", None)):
        raise ConfigError(
            f"{key}: expected a partitioner, such as fedray.Dirichlet(clients=10), or the name of one "
            f"({', '.join(partitioners)}); this is {an(type(part).__name__)}"
        )
    return part


def assign_rows(
    partitioner: Partitioner, labels: NDArray[Any], columns: Mapping[str, NDArray[Any]], seed: int
) -> NDArray[Any]:
    """Assign rows by their labels, or by the column that a ``column`` partitioner asks for.

    Raises:
        ConfigError: the source has no such column; a client would get no row.
    """
    name = getattr(partitioner, "column", None)
    if name is None:
        try:
            return partitioner.assign(labels, seed)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"partition: {type(partitioner).__name__} failed: {one_line(error)}") from error
    if name not in columns:
        raise ConfigError(
            f"partition.column: no column {name!r}{nearest(name, columns)}; the data has: {listed(columns)}"
        )
    return partitioner.assign(columns[name], seed)


def _need_rows(clients: int, rows: int, each: int = 1) -> None:
    if clients < 1:
        raise ConfigError(f"partition.clients: must be at least 1, got {clients}")
    if rows < clients * each:
        raise ConfigError(
            f"partition.clients: {rows} rows cannot give {clients} clients at least {each} each; "
            f"use at most {rows // each} clients"
        )


def _classes(labels: NDArray[Any], partitioner: str) -> NDArray[np.int64]:
    if labels.ndim != 1 or labels.dtype.kind == "f":
        raise ConfigError(
            f"partition.name: {partitioner} needs one class per row, got {labels.dtype} of shape {labels.shape}; "
            "iid, quantity and column work for every kind of target"
        )
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _deal(order: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut the rows in ``order`` into consecutive pieces of the given sizes."""
    assigned = np.empty(len(order), dtype=np.int64)
    assigned[order] = np.repeat(np.arange(len(sizes)), sizes)
    return assigned


def _even(rows: int, pieces: int) -> NDArray[np.int64]:
    """Return sizes that differ by at most 1."""
    sizes = np.full(pieces, rows // pieces)
    sizes[: rows % pieces] += 1
    return sizes


@partitioners.register("iid")
@dataclass(frozen=True)
class IID:
    """Rows shuffled and dealt evenly: sizes differ by at most 1.

    >>> np.bincount(IID(clients=3).assign(np.zeros(10), seed=1))
    array([4, 3, 3])

    Args:
        clients: number of clients n, at least 1 and at most the number of rows.
    """

    clients: int = 10

    def assign(self, labels: NDArray[Any], seed: int) -> NDArray[np.int64]:
        rows = len(labels)
        _need_rows(self.clients, rows)
        return _deal(numpy_generator(seed, "partition").permutation(rows), _even(rows, self.clients))


@partitioners.register("dirichlet")
@dataclass(frozen=True)
class Dirichlet:
    """Label skew: the rows of each class are split over clients in proportions drawn from Dirichlet(alpha).

    For every class, ``p ~ Dirichlet(alpha * 1_n)`` and client i gets a share ``p_i`` of the class's rows, cut at the
    rounded cumulative sums.  This is the label-wise form of Yurochkin et al. (arXiv:1905.12022, section 4), the one
    in common use: sizes differ as well as labels.  As in the common implementations the whole draw is repeated until
    every client has ``min_size`` rows; after 100 vain attempts that is an error.  Large alpha tends to equal shares of
    every class, small alpha to one client per class.

    ``balanced`` is the form of Hsu et al. (arXiv:1909.06335) at equal sizes, with the symmetric prior of Acar et al.
    (arXiv:2111.04263): client i draws its mix of the K classes from ``Dirichlet(alpha * 1_K)``, and sizes differ by at
    most 1.  Where a class has fewer rows than the mixes ask for, those who are served late get other classes there;
    here all give way alike: the mixes are scaled to the rows that there are, by iterative proportional fitting.

    >>> labels = np.repeat([0, 1], 50)
    >>> clients = Dirichlet(clients=3, alpha=0.3).assign(labels, seed=1)
    >>> [np.bincount(labels[clients == client], minlength=2).tolist() for client in range(3)]
    [[1, 45], [29, 4], [20, 1]]

    Args:
        clients: number of clients n.
        alpha: concentration, > 0.
        min_size: smallest number of rows of a client, at least 1.
        balanced: equal numbers of rows, to within 1.
    """

    clients: int = 10
    alpha: float = 0.5
    min_size: int = 1
    balanced: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < float("inf"):
            raise ConfigError(f"alpha: must be above 0, got {self.alpha}")
        if self.min_size < 1:
            raise ConfigError(f"min_size: must be at least 1, got {self.min_size}")

    def assign(self, labels: NDArray[Any], seed: int) -> NDArray[np.int64]:
        _need_rows(self.clients, len(labels), self.min_size)
        index = _classes(labels, "dirichlet")
        members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
        generator = numpy_generator(seed, "partition")
        for _ in range(_ATTEMPTS):
            sizes = self._sizes(generator, np.array([len(rows) for rows in members]))
            if sizes.sum(axis=0).min() >= self.min_size:
                assigned = np.empty(len(labels), dtype=np.int64)
                for rows, size in zip(members, sizes, strict=True):
                    assigned[generator.permutation(rows)] = np.repeat(np.arange(self.clients), size)
                return assigned
        raise ConfigError(
            f"partition: all of {_ATTEMPTS} draws of Dirichlet({self.alpha}) left one of {self.clients} clients "
            f"with fewer than {self.min_size} of the {len(labels)} row(s); use a larger alpha or fewer clients"
        )

    def _sizes(self, generator: np.random.Generator, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw the rows of each class ``[K]`` that each client gets, ``[K, n]``."""
        if self.balanced:
            mixes = np.array([self._shares(generator, len(rows)) for _ in range(self.clients)])
            return fitted(mixes.T, rows, _even(int(rows.sum()), self.clients))
        cuts = np.array([np.rint(np.cumsum(self._shares(generator, self.clients)) * count) for count in rows])
        ends = cuts.astype(np.int64)
        sizes = ends.copy()
        sizes[:, 1:] -= ends[:, :-1]
        return sizes

    def _shares(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        shares = generator.dirichlet(np.full(count, self.alpha))
        # A tiny alpha underflows: its limit is one client for the whole class.
        if not np.isfinite(shares).all() or not np.isclose(shares.sum(), 1.0):
            shares = np.zeros(count)
            shares[generator.integers(count)] = 1.0
        return shares


@partitioners.register("shards")
@dataclass(frozen=True)
class Shards:
    """Pathological label skew: rows sorted by label, cut into equal shards, each client dealt k of them at random.

    McMahan et al. (arXiv:1602.05629, section 3), who use k = 2.  There are n * k shards whose sizes differ by at most
    1.  Where every class fills a whole number of shards, a client sees at most k classes.

    >>> labels = np.repeat(np.arange(10), 10)
    >>> clients = Shards(clients=5, shards=2).assign(labels, seed=1)
    >>> [np.unique(labels[clients == client]).tolist() for client in range(5)]
    [[1, 8], [6, 9], [2, 3], [0, 7], [4, 5]]

    Args:
        clients: number of clients n.
        shards: shards of each client, k, at least 1.
    """

    clients: int = 10
    shards: int = 2

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise ConfigError(f"shards: must be at least 1, got {self.shards}")

    def assign(self, labels: NDArray[Any], seed: int) -> NDArray[np.int64]:
        _need_rows(self.clients, len(labels), self.shards)
        index = _classes(labels, "shards")
        generator = numpy_generator(seed, "partition")
        # Shuffled before the stable sort, so that a shard is a random part of its class.
        shuffled = generator.permutation(len(labels))
        order = shuffled[np.argsort(index[shuffled], kind="stable")]
        count = self.clients * self.shards
        owner = generator.permutation(count) % self.clients
        assigned: NDArray[np.int64] = owner[_deal(order, _even(len(labels), count))]
        return assigned


@partitioners.register("quantity")
@dataclass(frozen=True)
class Quantity:
    """Quantity skew: rows are dealt at random, in sizes proportional to draws from a heavy-tailed distribution.

    Client i gets 1 row and a share ``w_i / sum(w)`` of the rest, with ``w_i = exp(sigma * z_i)``, ``z_i ~ N(0, 1)``
    (lognormal), or ``w_i = r_i**-exponent`` with ``r`` a random order of ``1 .. n`` (zipf: a power law of the rank).
    ``sigma = 0`` and ``exponent = 0`` are even sizes.  Remainders go to the largest fractional parts.

    >>> np.bincount(Quantity(clients=4, distribution="zipf").assign(np.zeros(100), seed=1))
    array([47, 16, 13, 24])

    Args:
        clients: number of clients n.
        distribution: ``lognormal`` or ``zipf``.
        sigma: spread of the lognormal, >= 0.
        exponent: exponent of the power law, >= 0.
    """

    clients: int = 10
    distribution: str = "lognormal"
    sigma: float = 1.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if self.distribution not in ("lognormal", "zipf"):
            raise ConfigError(f"distribution: {self.distribution!r} is unknown; known: lognormal, zipf")
        if self.sigma < 0 or self.exponent < 0:
            raise ConfigError(f"sigma and exponent: must be at least 0, got {self.sigma} and {self.exponent}")

    def assign(self, labels: NDArray[Any], seed: int) -> NDArray[np.int64]:
        _need_rows(self.clients, len(labels))
        generator = numpy_generator(seed, "partition")
        if self.distribution == "lognormal":
            logs = self.sigma * generator.standard_normal(self.clients)
        else:
            logs = -self.exponent * np.log(generator.permutation(self.clients) + 1.0)
        weights = np.exp(logs - logs.max())
        shares = (len(labels) - self.clients) * weights / weights.sum()
        sizes = np.floor(shares).astype(np.int64)
        left = len(labels) - self.clients - int(sizes.sum())
        sizes[np.argsort(sizes - shares, kind="stable")[:left]] += 1
        return _deal(generator.permutation(len(labels)), sizes + 1)


@partitioners.register("column")
@dataclass(frozen=True)
class Column:
    """Natural clients: rows with the same value of a column belong to one client, named by the value.

    >>> Column("hospital").assign(np.array(["north", "south", "north"]), seed=1)
    array(['north', 'south', 'north'], dtype='<U5')

    Args:
        column: name of the column in the data source; it is not an input of the model.
    """

    column: str

    def assign(self, labels: NDArray[Any], seed: int) -> NDArray[np.str_]:
        """Return the values ``[N]`` as text; the seed is not used."""
        names = labels.astype(np.str_)
        if (names == "").any():
            row = int(np.argmax(names == ""))
            raise ConfigError(
                f"partition.column: {self.column!r} is missing in row {row + 1}; every row needs its client"
            )
        return names

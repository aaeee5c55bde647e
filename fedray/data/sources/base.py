"""The options that every data source has, and the helpers that sources share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.core.rng import numpy_generator
from fedray.data.columns.base import ClientData
from fedray.data.columns.rows import Examples
from fedray.data.federated import FederatedData
from fedray.data.partition import Partitioner, assign_rows, chosen
from fedray.data.registry import partitioners
from fedray.data.sites import Sites, here
from fedray.data.spec import DataSpec

SPLIT_ROUND = 1
SYNTHETIC_ROUND = 2


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data source.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Coins(Source):
    ...     clients: int = 2
    ...     def read(self, seed):
    ...         sides = numpy_generator(seed, "data").integers(2, size=4 * self.clients)
    ...         return FederatedData.from_arrays(sides[:, None] * 1.0, sides, np.arange(len(sides)) % self.clients)
    >>> Coins(clients=3, holdout=0.25).load(seed=1).sizes
    array([3, 3, 3])

    Args:
        holdout: fraction of each client's rows held out for client-side evaluation, in [0, 1).
    """

    holdout: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.holdout < 1.0:
            raise ConfigError(f"holdout: must be at least 0 and below 1, got {self.holdout}")

    def load(self, seed: int, sites: Callable[[], Sites] = here) -> ClientData:
        """Load the data, with local rows held out if asked for; a function of the files and ``seed``.

        Args:
            seed: the run's seed.
            sites: a function that reaches data that stays where it is; called if there is some.

        Raises:
            ConfigError: files that are missing or wrong, a partition that cannot be.
        """
        seed = split_seed(self, seed)
        return self.read(seed).with_holdout(self.holdout, seed)

    def read(self, seed: int) -> ClientData:
        """Read the data without local held-out rows."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Whole(Source):
    """A source whose clients are what they are, so that of a split there is the seed alone.

    >>> Whole(partition={"seed": 3}).partition
    {'seed': 3}

    Args:
        partition: ``{seed: 1}``: the seed of what is drawn of the data, such as held-out rows; by default the run's.
    """

    partition: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.partition is not None and list(self.partition) != ["seed"]:
            raise ConfigError(
                f"data.partition: these data have their clients, so that only {{seed: 1}} can be said; got "
                f"{self.partition}"
            )


def split_seed(source: object, seed: int) -> int:
    """Return the seed of what is drawn of a source's rows: the test set, who has which, which are held out.

    That is ``partition.seed``, a key that each ``partition`` section may have beside the options of the partitioner, so
    that runs of several seeds have one split; by default the run's.

    Raises:
        ConfigError: it is no whole number.
    """
    partition = getattr(source, "partition", None)
    own = partition.get("seed", seed) if isinstance(partition, Mapping) else seed
    if type(own) is not int:
        raise ConfigError(f"data.partition.seed={own}: it must be a whole number")
    return own


def make_partitioner(node: Mapping[str, Any], default: str | None = None) -> Partitioner:
    """Make the partitioner of a ``partition`` section.

    >>> make_partitioner({"seed": 3}, default="iid")
    IID(clients=10)
    >>> make_partitioner({"clients": 3})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: data.partition.name: say how rows are split, as in {name: iid, clients: 3}; ...

    Args:
        node: the section.
        default: the name where it has nothing but a ``seed``.

    Raises:
        ConfigError: it names no partitioner, or its options are wrong.
    """
    options = {key: value for key, value in node.items() if key != "seed"}
    if not options and default is not None:
        options = {"name": default}
    if "name" not in options:
        like = ", ".join(f"{key}: {value}" for key, value in {"name": "iid", "clients": 10, **node}.items())
        raise ConfigError(
            f"data.partition.name: say how rows are split, as in {{{like}}}; known: {', '.join(sorted(partitioners))}"
        )
    return chosen(options, "data.partition")


def need_fraction(name: str, fraction: float) -> None:
    """Raise ConfigError unless ``fraction`` is in [0, 1)."""
    if not 0.0 <= fraction < 1.0:
        raise ConfigError(f"{name}: must be at least 0 and below 1, got {fraction}")


def split_test(y: NDArray[np.int64], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices of training and test rows, both in order.

    A class gives ``round(fraction * its rows)`` test rows.
    """
    generator = numpy_generator(seed, "partition", SPLIT_ROUND)
    test = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        rows = generator.permutation(np.flatnonzero(y == label))
        test[rows[: round(fraction * len(rows))]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def partitioned(
    x: NDArray[Any],
    y: NDArray[Any],
    partitioner: Partitioner,
    seed: int,
    spec: DataSpec,
    test: Examples | tuple[Any, Any] | None,
    columns: dict[str, NDArray[Any]] | None = None,
) -> FederatedData:
    """Split one data set over clients by labels, or by one of its columns."""
    assigned = assign_rows(partitioner, y, columns or {}, seed)
    return FederatedData.from_arrays(x, y, assigned, test=test, spec=spec)

"""Federated data: the rows of all clients in one contiguous store, found by client offsets.

A client is two numbers (where its rows start, how many there are), so a million clients cost a few arrays and no
Python object each.  A client's rows are its training rows first, then its local held-out rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.data.checks import as_array, check_ids, id_keys
from fedray.data.holdout import held_sizes, training_first
from fedray.data.spec import DataSpec
from fedray.data.store import CPU, Examples, Rows, decode

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from fedray.data.partition import Partitioner
    from fedray.data.sites import Silo

Ids = Sequence[str] | NDArray[np.bytes_]


class FederatedData:
    """The examples of n clients, held contiguously, and an optional central test set.

    Usually made by one of the ``from_...`` constructors.  The constructor itself takes rows that are already in
    client order.

    Args:
        x: inputs ``[N, ...]``, clients one after the other, training rows before held-out rows: float32, int64
            tokens, or uint8 images (kept as bytes, handed out as float32 in [0, 1]).
        y: targets: int64 ``[N]`` (or ``[N, T]``) classes, or float32 ``[N, k]``.
        sizes: training examples of each client, int64 ``[n]``, each at least 1.
        spec: shape and meaning of an example.
        holdout_sizes: local held-out examples of each client, int64 ``[n]``; none by default.
        test: central test set.
        ids: client ids, unique, each matching ``[A-Za-z0-9._-]{1,64}``; none means clients are their numbers.

    Raises:
        ConfigError: an empty client, a bad or duplicate id, no client at all.
    """

    counted = True
    """Whether :meth:`label_counts` need not open every client."""

    warnings: tuple[str, ...] = ()
    """What was said when it was read, for the log of every run on it."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        sizes: Ints,
        spec: DataSpec,
        *,
        holdout_sizes: Ints | None = None,
        test: Examples | None = None,
        ids: Ids | None = None,
    ) -> None:
        self._x, self._y = x, y
        self._describe(sizes, spec, holdout_sizes=holdout_sizes, test=test, ids=ids)
        self._starts = np.concatenate([[0], np.cumsum(self.sizes + self.holdout_sizes)])
        if self._starts[-1] != len(x) or len(x) != len(y):
            raise ValueError(f"{len(x)} inputs and {len(y)} targets for clients of {self._starts[-1]} rows in total")

    def _describe(
        self, sizes: Ints, spec: DataSpec, *, holdout_sizes: Ints | None, test: Examples | None, ids: Ids | None
    ) -> None:
        self.spec = spec
        self.test = test
        self._folder: Path | None = None
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.holdout_sizes = np.zeros_like(self.sizes) if holdout_sizes is None else holdout_sizes
        if len(self.sizes) == 0:
            raise ConfigError("the data has no clients; at least one is needed")
        self._ids = None if ids is None else check_ids(ids, len(self.sizes))
        self._keys: Ints | None = None
        if int(self.sizes.min()) < 1:
            empty = int(np.argmin(self.sizes))
            raise ConfigError(
                f"client {self.client_id(empty)!r} has no training examples; leave it out or give it some"
            )

    def __len__(self) -> int:
        return len(self.sizes)

    def __repr__(self) -> str:
        rows = int(self.sizes.sum())
        return f"{type(self).__name__}({len(self)} clients, {rows} training examples, {self.spec})"

    def client_id(self, index: int) -> str:
        """A client's id: its name (``hospital_a``), or its number where clients are not named."""
        return str(int(index)) if self._ids is None else str(self._ids[index].decode())

    @property
    def folder(self) -> Path | None:
        """The folder that holds its columns, if it pickles as a path to one."""
        return self._folder

    def pin(self, client: int) -> str | None:
        """The silo whose node alone can read the client's rows, if it is pinned to one."""
        return None

    def pins(self, clients: Ints) -> Ints:
        """A number for the silo of each client, equal for clients of the same one."""
        return np.zeros_like(clients)

    @property
    def silos(self) -> Mapping[str, Silo]:
        """By name, the silos that clients are pinned to."""
        return {}

    def probe(self) -> FederatedData:
        """Data of the same sizes that can be trained on here, for trials before a run; rows may be made up."""
        return self

    def keys(self, clients: Ints) -> Ints:
        """Keys for random draws, int64 in [0, 2**63), of the shape of ``clients``.

        The number itself for unnamed clients; else a hash of the id, so that leaving a silo out does not change the
        draws of the others.
        """
        if self._ids is None:
            return clients
        if self._keys is None:
            self._keys = id_keys(self._ids)
        return self._keys[clients]

    def rows(self, clients: Ints, device: torch.device = CPU) -> Rows:
        """Open the training rows of a block of clients ``[C]`` for batches on ``device``."""
        return Rows(self._x, self._y, self._starts[clients], self.sizes[clients], device)

    def holdout(self, clients: Ints) -> tuple[Tensor, Tensor, Ints]:
        """The local held-out examples of some clients.

        Returns:
            Inputs ``[M, ...]``, targets ``[M, ...]`` (on the device of the store) and int64 ``[M]``: for each example
            the position of its client in ``clients``.
        """
        counts = self.holdout_sizes[clients]
        segment = np.repeat(np.arange(len(clients)), counts)
        within = np.arange(len(segment)) - (np.cumsum(counts) - counts)[segment]
        flat = (self._starts[clients] + self.sizes[clients])[segment] + within
        index = torch.from_numpy(flat).to(self._x.device)
        return decode(self._x.index_select(0, index)), self._y.index_select(0, index), segment

    def label_counts(self) -> Ints:
        """Training examples per client and class, int64 ``[n, classes]``.

        Raises:
            ConfigError: the task is regression.
        """
        self._need_classes()
        rows = self.sizes + self.holdout_sizes
        client = np.repeat(np.arange(len(self)), rows)
        training = np.arange(len(client)) - self._starts[client] < self.sizes[client]
        targets = self._y.cpu().numpy().reshape(len(client), -1)[training]
        cells = client[training][:, None] * self.spec.outputs + targets
        counts = np.bincount(cells.reshape(-1), minlength=len(self) * self.spec.outputs)
        return counts.reshape(len(self), self.spec.outputs)

    def _need_classes(self) -> None:
        if self.spec.task != "classification":
            raise ConfigError("label counts need a classification task; this data is for regression")

    def share(self, folder: Path) -> FederatedData:
        """A memory-mapped copy of the data, for all processes of a machine to share.

        The columns are written below ``folder``, in a folder named by their hash (so equal data is written once, and
        concurrent writers do not disturb each other).  A pickle of the copy holds only that path.  Data that is
        mapped already is returned as it is.
        """
        # Imported here, as in the constructors below: those modules build on this one.
        from fedray.data.shared import write

        return self if self._folder is not None else write(self, Path(folder))

    def to(self, device: torch.device) -> FederatedData:
        """The data with its columns and test set resident on ``device``; on the CPU, itself."""
        if torch.device(device) == self._x.device:
            return self
        test = None if self.test is None else self.test.to(device)
        return self._with(self._x.to(device), self._y.to(device), self.sizes, self.holdout_sizes, test)

    def _with(self, x: Tensor, y: Tensor, sizes: Ints, holdout: Ints, test: Examples | None) -> FederatedData:
        data = FederatedData(x, y, sizes, self.spec, holdout_sizes=holdout, test=test, ids=self._ids)
        data.warnings = self.warnings
        return data

    def with_holdout(self, fraction: float, seed: int) -> FederatedData:
        """The data with a random ``fraction`` of every client's rows held out for client-side evaluation.

        How many: see ``holdout.held_sizes``; which: a function of (seed, client id) alone.  All rows keep their order.

        Args:
            fraction: in [0, 1); 0 changes nothing.
            seed: the run's seed.

        Raises:
            ConfigError: fraction out of range, or the data has held-out rows already.
        """
        held = held_sizes(self.sizes, fraction, self.holdout_sizes)
        if not held.any():
            return self
        order = training_first(seed, self.keys(np.arange(len(self))), self.sizes, held)
        index = torch.from_numpy(order).to(self._x.device)
        x, y = self._x.index_select(0, index), self._y.index_select(0, index)
        return self._with(x, y, self.sizes - held, held, self.test)

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        clients: Any,
        *,
        test: Any = None,
        ids: Sequence[str] | None = None,
        spec: DataSpec | None = None,
    ) -> FederatedData:
        """Data from arrays or tensors with one client label per row.

        Args:
            x: inputs ``[N, ...]``: floats, integer tokens, or uint8 images (handed out as float32 in [0, 1]); used
                without a copy where type and order allow.
            y: targets ``[N]`` integer class indices, or floats ``[N]`` or ``[N, k]`` for regression.
            clients: for each row its client: a number in [0, n), or a name.  Rows need not be in order; the rows of
                a client keep theirs.
            test: a pair ``(x, y)`` or :class:`Examples`.
            ids: names of the clients: for numbers, in their order; for names, the order that clients shall have
                (sorted by default).
            spec: shape and meaning of an example; by default read off the arrays.

        Raises:
            ConfigError: lengths that differ, an empty client, bad ids, values that are not finite, a class in the
                test set that training has not.
        """
        from fedray.data.arrays import from_arrays

        return from_arrays(x, y, clients, test=test, ids=ids, spec=spec)

    @classmethod
    def from_partition(
        cls, x: Any, y: Any, partitioner: Partitioner, *, seed: int = 0, test: Any = None, spec: DataSpec | None = None
    ) -> FederatedData:
        """One data set split over clients by a partitioner, a function of labels and ``seed`` (see ``from_arrays``)."""
        from fedray.data.partition import assign_rows

        x, y = as_array(x), as_array(y)
        return cls.from_arrays(x, y, assign_rows(partitioner, y, {}, seed), test=test, spec=spec)

    @classmethod
    def from_dataset(
        cls, dataset: Dataset[Any], partitioner: Partitioner, *, seed: int = 0, test: Any = None
    ) -> FederatedData:
        """A map-style ``torch.utils.data.Dataset`` of ``(x, y)`` pairs, read once, split by a partitioner.

        Transforms are applied once, at reading.  ``test`` may be such a data set too.
        """
        from fedray.data.arrays import stack_dataset

        x, y = stack_dataset(dataset)
        if test is not None and not isinstance(test, (Examples, tuple)):
            test = stack_dataset(test)
        return cls.from_partition(x, y, partitioner, seed=seed, test=test)

    @classmethod
    def from_csv(
        cls,
        paths: str | Path | Sequence[str | Path],
        *,
        target: str,
        test: str | Path | None = None,
        task: Literal["auto", "classification", "regression"] = "auto",
        categorical: Mapping[str, Sequence[Any] | None] | Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        standardize: bool = True,
        ids: Sequence[str] | None = None,
        partitioner: Partitioner | None = None,
        seed: int = 0,
    ) -> FederatedData:
        """One CSV file with a header per client (silo); columns are matched by name.

        Numeric columns are standardised with means and variances from federated sums (see ``moments.Sums``), a
        missing number (empty, NA, NaN, null) becomes the federated mean; categorical columns become one 0/1 input
        per category, all zeros where missing.

        Args:
            paths: the files, one per client.
            target: name of the target column.
            test: a file with the held-out test set, encoded as the training files are.
            task: ``auto`` means classification if ``classes`` is given, the target is text, or it holds at most 20
                different whole numbers; else regression.
            categorical: columns that hold categories, ``{column: [values]}``; with ``[columns]`` or ``{column: None}``
                the categories are the sorted union over the training files.
            classes: class names in the order of their indices; default: the sorted union over the training files.
            standardize: centre numeric columns and scale them to unit (population) variance; a constant column is
                only centred.  Regression targets are never scaled.
            ids: client ids; default: the files' names without suffix.
            partitioner: instead of one client per file, split the rows of all files; a ``column`` partitioner
                takes the clients' names from that column, which is then no input.
            seed: seed of the partitioner.

        Raises:
            ConfigError: with file, line and column, for anything that cannot be read as described.
        """
        from fedray.data.csv_file import read_csv
        from fedray.data.encoding import Options
        from fedray.data.tabular import from_tables

        options = Options(target, task, categorical, classes, standardize)
        tables = [read_csv(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
        held_out = None if test is None else read_csv(test)
        return from_tables(tables, held_out, options, ids=ids, partitioner=partitioner, seed=seed)

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        target: str | None = None,
        test: str | Path | None = None,
        task: Literal["auto", "classification", "regression"] = "auto",
        categorical: Mapping[str, Sequence[Any] | None] | Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        standardize: bool = True,
    ) -> FederatedData:
        """One Parquet or NPZ file per client, named by the client's id, all in one folder.

        A Parquet file is a table, read as ``from_csv`` reads one.  An NPZ file holds arrays ``x`` and ``y``; nothing is
        standardised.  Clients are in the order of their names.

        Args:
            path: the folder, with files of one of the two kinds.
            target: name of the target column of Parquet files.
            test: file of the same kind, outside the folder or in it, with the held-out test set.
            task: for Parquet, as for ``from_csv``.
            categorical: for Parquet, as for ``from_csv``.
            classes: for Parquet, as for ``from_csv``.
            standardize: for Parquet, as for ``from_csv``.

        Raises:
            ConfigError: a missing folder, no file or both kinds in it, files that do not fit together.
        """
        from fedray.data.encoding import Options
        from fedray.data.folder import from_folder

        options = None if target is None else Options(target, task, categorical, classes, standardize)
        return from_folder(Path(path), options, None if test is None else Path(test))

    @classmethod
    def from_leaf(cls, path: str | Path, *, test: str | Path | None = None) -> FederatedData:
        """Data in LEAF's JSON format (Caldas et al., arXiv:1812.01097), one client per user; see ``leaf.from_leaf``."""
        from fedray.data.leaf import from_leaf

        return from_leaf(Path(path), None if test is None else Path(test))

    @classmethod
    def from_function(
        cls,
        function: Callable[[Any], tuple[Any, Any]],
        clients: Iterable[Any],
        *,
        sizes: Sequence[int] | Ints | None = None,
        spec: DataSpec | None = None,
        test: Any = None,
    ) -> FederatedData:
        """Lazy data: ``function(client)`` gives a client's ``(x, y)`` when it is needed, and nothing is kept.

        Unless both ``sizes`` and ``spec`` are given, every client is called once up front to learn them.

        Args:
            function: gives inputs and targets as for ``from_arrays``; the same ones whenever it is called.
            clients: what to call it with: ids as strings, or numbers.  ``range(n)`` means unnamed clients.
            sizes: number of examples of each client.
            spec: shape and meaning of an example.
            test: a pair ``(x, y)`` or :class:`Examples`.

        Raises:
            ConfigError: bad ids, an empty client, values that do not fit; also later, when a client turns out to
                have another size or shape than was said.
        """
        from fedray.data.lazy import from_function

        return from_function(function, clients, sizes=sizes, spec=spec, test=test)


__all__ = ["CPU", "Examples", "FederatedData", "Rows"]

"""The data of n clients, as a run sees it: sizes, keys, and rows that are opened block by block."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.data.columns.checks import counting
from fedray.data.columns.holdout import training_first
from fedray.data.columns.ids import check_ids, id_keys
from fedray.data.columns.inputs import Inputs
from fedray.data.columns.names import Names
from fedray.data.columns.rows import CPU, Examples, Rows
from fedray.data.encoding.moments import Sums
from fedray.data.sites import Silo, note
from fedray.data.spec import DataSpec

Ids = Sequence[str] | NDArray[np.bytes_]

_AT_ONCE = 1 << 16


class ClientData(ABC):
    """The training examples of n clients, what each is evaluated on, and an optional central test set.

    Every kind of data is one of these, wherever its rows lie; ``fedray.FederatedData`` has the constructors.

    >>> from fedray import FederatedData
    >>> data = FederatedData.from_arrays(np.zeros((3, 2)), [0, 1, 1], clients=["north", "north", "south"])
    >>> isinstance(data, ClientData), len(data), data.sizes, data.client_id(1)
    (True, 2, array([2, 1]), 'south')
    >>> data.label_counts()
    array([[1, 1],
           [0, 1]])

    Args:
        sizes: training examples of each client, int64 ``[n]``, each at least 1.
        spec: shape and meaning of an example.
        holdout_sizes: local held-out examples of each client, int64 ``[n]``; none by default.
        test: central test set; it may know whose own its examples are.
        ids: client ids, unique, each matching ``[A-Za-z0-9._-]{1,64}``; none means clients are their numbers.

    Raises:
        ConfigError: an empty client, a bad or duplicate id, no client at all.
    """

    counted = True
    """True where :meth:`label_counts` need not open every client."""

    notes: tuple[str, ...] = ()
    """Notes on how inputs were interpreted, for the log of every run on the data."""

    warnings: tuple[str, ...] = ()
    """Warnings raised while the data was read, for the log of every run on it."""

    encoding: Mapping[str, Any] | None = None
    """The encoding of tables as its inputs and targets, as in ``encoding.json``; None where there were no tables."""

    taken: Mapping[str, Any] | None = None
    """The columns of files of arrays that are its inputs, and what each was taken for; None: there were no such files.

    ``columns`` are their names, in order; ``shapes``, ``ragged`` and ``pictures`` are as in a config.
    Of text, ``text`` is how it was read: ``tokenizer``, ``format``, ``max_length``, and the tokens ``end`` and ``pad``.
    """

    augment: Sequence[Any] | Mapping[str, Sequence[Any]] = ()
    """The changes of the inputs of batches, see :meth:`with_augment`."""

    asked: Sequence[Mapping[str, Any]] = ()
    """The questions that silos, or tables in their place, were asked before the run: :func:`fedray.data.sites.note`."""

    marks: Mapping[str, str] | None = None
    """A hash of each training file, where there are files: see :meth:`fingerprint`."""

    held_by: int | None = None
    """The seed that has chosen the held-out rows of each client; None: they lie behind the training rows as given."""

    def __init__(
        self,
        sizes: Ints,
        spec: DataSpec,
        *,
        holdout_sizes: Ints | None = None,
        test: Examples | None = None,
        ids: Ids | None = None,
    ) -> None:
        self.spec = spec
        self.test = test
        self.sizes: Ints = np.asarray(sizes, dtype=np.int64)
        # One zero for all: there may be very many clients.
        nobody = np.broadcast_to(np.int64(0), self.sizes.shape)
        self.holdout_sizes: Ints = nobody if holdout_sizes is None else holdout_sizes
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

    @property
    def members(self) -> int:
        """The number of clients with rows of their own, which come first; one that has everybody's is none of them."""
        return len(self)

    def __repr__(self) -> str:
        rows = int(self.sizes.sum())
        return f"{type(self).__name__}({len(self)} clients, {rows} training examples, {self.spec})"

    @abstractmethod
    def rows(self, clients: Ints, device: torch.device = CPU) -> Rows:
        """Open the training rows of a block of clients ``[C]`` for batches on ``device``."""

    def stored(self) -> Inputs | None:
        """Return the training inputs of all clients, one after the other, as stored; None: they lie elsewhere."""
        return None

    @abstractmethod
    def holdout(self, clients: Ints) -> tuple[Inputs, Tensor, Ints]:
        """Open the local held-out examples of some clients.

        Returns:
            Inputs ``[M, ...]``, targets ``[M, ...]`` (on the device of the store) and int64 ``[M]``: for each example
            the position of its client in ``clients``.
        """

    def lengths(self, client: int) -> Ints | None:
        """Return the length of each training example of a client, int64 ``[m]``; None: all examples have one."""
        return None

    @cached_property
    def test_sizes(self) -> Ints:
        """The examples of each client's own test set, int64 ``[n]``."""
        if self.test is None:
            return np.broadcast_to(np.int64(0), self.sizes.shape)
        return self.test.sizes(len(self))

    def own_test(self, clients: Ints) -> tuple[Inputs, Tensor, Ints]:
        """Open the own test sets of some clients, who have some, as :meth:`holdout` opens held-out examples."""
        assert self.test is not None
        return self.test.of(clients)

    @property
    def evaluation_sizes(self) -> Ints:
        """The examples that each client is evaluated on, int64 ``[n]``: see :meth:`evaluation`."""
        return self.holdout_sizes if self.holdout_sizes.any() else self.test_sizes

    @property
    def unevaluated(self) -> int:
        """The number of clients that have nothing to be evaluated on, where others have."""
        sizes = self.evaluation_sizes
        return int((sizes == 0).sum()) if sizes.any() else 0

    def evaluation(self, clients: Ints) -> tuple[Inputs, Tensor, Ints]:
        """Open the examples that some clients are evaluated on, as :meth:`holdout` does.

        They are the held-out ones where some were asked for, and else each client's own test set.
        """
        return self.holdout(clients) if self.holdout_sizes.any() else self.own_test(clients)

    @abstractmethod
    def label_counts(self) -> Ints:
        """Count training examples per client and class, int64 ``[n, classes]``.

        Raises:
            ConfigError: the task is regression.
        """

    def targets(self, client: int) -> Tensor:
        """Return the training targets of a client, ``[m, ...]``."""
        return self.rows(np.array([client])).take(np.arange(self.sizes[client])[None])[1][0]

    def target_sums(self, center: NDArray[np.float64]) -> Sequence[Sums]:
        """Sum each client's training targets about ``center`` ``[k]``: counts, sums and sums of squares, ``[k]`` each.

        >>> from fedray import FederatedData
        >>> data = FederatedData.from_arrays(np.zeros((3, 2)), np.array([[1.0], [3.0], [5.0]]), clients=[0, 0, 1])
        >>> [one.total.tolist() for one in data.target_sums(np.zeros(1))]
        [[4.0], [5.0]]

        Args:
            center: one number for each of ``[m, k]`` targets, or one for all values of targets of any rank.
        """

        def target_sums(client: int) -> Sums:
            """Sum the targets of the training rows about zero, then about the mean: count, sum and sum of squares."""
            return Sums.of(self.targets(client).cpu().double().reshape(-1, len(center)).numpy(), center)

        answers = [target_sums(client) for client in range(len(self))]
        self.asked = (*self.asked, note(target_sums, answers))
        return answers

    def positions(self, clients: Ints, ignored: int, unsaid: int = 0) -> Ints:
        """Count the target positions of clients' training examples other than ``ignored``, int64 ``[C]``.

        The first ``unsaid`` positions of an example do not count.

        >>> from fedray import FederatedData
        >>> y = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
        >>> FederatedData.from_arrays(np.zeros((3, 2)), y, [0, 0, 1]).positions(np.arange(2), ignored=0)
        array([3, 3])

        Raises:
            ConfigError: an example has one target, or numbers for targets.
        """
        found = []
        for client in clients.tolist():
            _, y = self.rows(np.array([client])).take(np.arange(self.sizes[client])[None])
            found.append(int(counting(y[0], ignored)[:, unsaid:].sum()))
        return np.array(found, dtype=np.int64)

    @abstractmethod
    def with_holdout(self, fraction: float, seed: int) -> ClientData:
        """Hold out a random ``fraction`` of every client's rows for client-side evaluation.

        ``holdout.held_sizes`` says how many; which ones, (seed, client id) alone decides.  All rows keep their order.

        Args:
            fraction: in [0, 1); 0 changes nothing.
            seed: the run's seed.

        Raises:
            ConfigError: fraction out of range, or the data has held-out rows already.
        """

    def order(self, client: int) -> Ints:
        """Return the places that a client's rows had before some were held out, its training rows first, int64 ``[m]``.

        >>> from fedray import FederatedData
        >>> data = FederatedData.from_arrays(np.arange(5.0)[:, None], [0, 1, 0, 1, 0], clients=["a"] * 5)
        >>> held = data.with_holdout(0.4, seed=1)
        >>> held.rows(np.array([0])).take(np.arange(3)[None])[0].flatten().tolist(), held.order(0).tolist()
        ([0.0, 2.0, 4.0], [0, 2, 4, 1, 3])
        """
        held = np.array([self.holdout_sizes[client]])
        total = np.array([self.sizes[client]]) + held
        if self.held_by is None:
            return np.arange(int(total[0]))
        return training_first(self.held_by, self.keys(np.array([client])), total, held)

    def with_augment(self, augment: Sequence[Any] | Mapping[str, Sequence[Any]]) -> Self:
        """Return the same data, the inputs of whose batches are changed by parts, one after the other, on the device.

        >>> from fedray import FederatedData
        >>> data = FederatedData.from_arrays(np.zeros((3, 1, 8, 8)), [0, 1, 1], clients=[0, 0, 1])
        >>> len(data.with_augment(["flip", {"name": "crop", "padding": 2}, "normalize"]).augment)
        3

        Args:
            augment: the parts, made in Python or named as in a config; see ``fedray list augmentations``.  Of data with
                several columns of inputs such a list for each that is changed, by its name: ``{"image": ["flip"]}``;
                or a list of :class:`fedray.parts.ColumnsAugmentation`, which change them together.
        """
        data = copy.copy(self)
        data.augment = augment
        return data

    @property
    def ids(self) -> NDArray[np.bytes_] | None:
        """The names of the clients, ``[n]``; None: they are their numbers."""
        return self._ids

    @property
    def names(self) -> Names:
        """The names of the clients, and the clients of names."""
        return Names(len(self), self.ids)

    def client_id(self, index: int) -> str:
        """Return a client's id: its name (``hospital_a``), or its number where clients are not named."""
        return str(int(index)) if self._ids is None else str(self._ids[index].decode())

    def keys(self, clients: Ints) -> Ints:
        """Return keys for random draws, int64 in [0, 2**63), of the shape of ``clients``.

        A key is the number of an unnamed client, and else a hash of the id, so that leaving a silo out does not change
        the draws of the others.
        """
        if self._ids is None:
            return clients
        if self._keys is None:
            self._keys = id_keys(self._ids)
        return self._keys[clients]

    @property
    def folder(self) -> Path | None:
        """The folder that holds its columns, if it pickles as a path to one."""
        return None

    def share(self, folder: Path) -> ClientData:
        """Return data that all processes of a machine share, with columns below ``folder``, where there are any."""
        return self

    @property
    def has_lengths(self) -> bool:
        """True where it is known that rows have different lengths, and each batch is padded to its own longest."""
        return False

    @property
    def nbytes(self) -> int:
        """The bytes of what it holds in memory, on each device that it is resident on."""
        return 0

    def to(self, device: torch.device) -> ClientData:
        """Return the data with what it holds in memory resident on ``device``."""
        return self

    def probe(self) -> ClientData:
        """Return data of the same sizes that can be trained on here, for trials before a run; rows may be made up."""
        return self

    @property
    def silos(self) -> Mapping[str, Silo]:
        """By name, the silos that clients are pinned to."""
        return {}

    def pieces(self) -> Iterator[Ints]:
        """Yield all clients in order, so many at once that columns of numbers about them take little memory."""
        for start in range(0, len(self), _AT_ONCE):
            yield np.arange(start, min(start + _AT_ONCE, len(self)))

    @cached_property
    def keys_sha256(self) -> str:
        """A hash of the keys of all clients, in their order."""
        hasher = hashlib.sha256()
        for piece in self.pieces():
            hasher.update(self.keys(piece).astype("<i8").tobytes())
        return hasher.hexdigest()

    def pin(self, client: int) -> str | None:
        """Return the silo whose node alone can read the client's rows, if it is pinned to one."""
        return None

    def pins(self, clients: Ints) -> Ints:
        """Return a number for the silo of each client, equal for clients of the same one."""
        return np.zeros_like(clients)

    def fingerprint(self) -> Mapping[str, str]:
        """Return what tells these training examples from others: hashes by the name of a client, a file, or a part.

        Of rows that are made when they are needed, it knows the clients and their sizes.
        """
        if self.marks is not None:
            return self.marks
        clients = hashlib.blake2b(digest_size=16)
        for piece in self.pieces():
            clients.update(self.keys(piece).astype("<i8").tobytes())
        for piece in self.pieces():
            clients.update((self.sizes[piece] + self.holdout_sizes[piece]).astype("<i8").tobytes())
        return {"sizes of the clients": clients.hexdigest()}

    def _need_classes(self) -> None:
        if self.spec.task != "classification":
            raise ConfigError("label counts need a classification task; this data is for regression")

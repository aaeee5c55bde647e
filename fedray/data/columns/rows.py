"""Stored rows, handed out: sets of examples, and the opened rows of a block of clients."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.data.columns.checks import as_array, as_examples, check_fits, tensor, tensors
from fedray.data.columns.inputs import InputColumns, Inputs, like, parts
from fedray.data.columns.ragged import Ragged, dense, upon
from fedray.data.spec import DataSpec

CPU = torch.device("cpu")


def decode(x: Inputs) -> Any:
    """Return model inputs ``[N, ...]`` of stored ones.

    Bytes become float32, those of images in [0, 1]; sequences of different lengths are padded; all else stays.
    """
    if isinstance(x, InputColumns):
        return x.map(decode)
    x = dense(x)
    if x.dtype != torch.uint8:
        return x
    return x.to(torch.float32).div_(255) if x.dim() > 2 else x.to(torch.float32)


def unlike(x: Inputs) -> list[Ragged]:
    """Return the columns of inputs of which each batch is padded to its own longest sequence."""
    return [one for one in parts(x) if isinstance(one, Ragged) and one.multiple is not None]


def reading(x: Inputs | NDArray[Any]) -> tuple[str, ...]:
    """Say what stored inputs ``[N, ...]`` of bytes, and of several columns, are taken for.

    >>> reading(torch.zeros(5, 28, 28, dtype=torch.uint8))
    ('inputs: bytes of images, divided by 255',)
    >>> reading(np.zeros((5, 784), dtype=np.uint8))
    ('inputs: bytes of a table, taken as they are; images, which are divided by 255, have more axes',)
    """
    if isinstance(x, InputColumns):
        placed = all(name.isdigit() for name in x)
        kinds = [f"{name} ({_kind(one)})" for name, one in x.columns.items()]
        called = "by place" if placed else "by name"
        bytes_ = (f"column {name}: {note}" for name, one in x.columns.items() for note in reading(one))
        return (f"inputs: columns {', '.join(kinds)}; the model is called with them {called}", *bytes_)
    if isinstance(x, Ragged) and x.values is not None:
        to = f"{x.length:,}" if x.multiple is None else f"multiples of {x.multiple:,} by the longest of each batch,"
        return (
            f"inputs: sequences of up to {x.longest:,} values, padded to {to} with {x.pad or 0}",
            *reading(x.values[:0, None]),
        )
    if x.dtype not in (torch.uint8, np.uint8):
        return ()
    if x.ndim > 2:
        return ("inputs: bytes of images, divided by 255",)
    return ("inputs: bytes of a table, taken as they are; images, which are divided by 255, have more axes",)


def _kind(x: Any) -> str:
    return {"int64": "tokens", "uint8": "bytes"}.get(str(x.dtype).removeprefix("torch."), "numbers")


class Examples:
    """A plain set of examples, such as the held-out test set.

    >>> test = Examples(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0]), clients=np.array([1, -1, 1]))
    >>> len(test), test.sizes(2)
    (3, array([0, 2]))
    >>> x, y, whose = test.of(np.array([1]))
    >>> x.flatten(), y, whose
    (tensor([1., 3.]), tensor([0, 0]), array([0, 0]))

    Args:
        x: inputs ``[N, ...]``: float32, int64 tokens, or uint8 (images in [0, 1]; tables as they are); or columns.
        y: targets: int64 ``[N, ...]`` classes or float32 ``[N, ...]``; classes may be :class:`Ragged`, as inputs may.
        clients: for each example the number of the client whose own it is, int64 ``[N]``; -1: it is nobody's.
    """

    def __init__(self, x: Inputs, y: Tensor, clients: Ints | None = None) -> None:
        self.x = x
        self.y = upon(y, parts(x))
        self.clients = clients

    def __len__(self) -> int:
        return len(self.x)

    def slice(self, start: int, stop: int, device: torch.device = CPU) -> tuple[Inputs, Tensor]:
        """Return rows ``start`` to ``stop`` (exclusive) as model inputs and targets on ``device``."""
        x, y = self.x[start:stop], self.y[start:stop]
        return decode(x.to(device)), dense(y.to(device))

    def to(self, device: torch.device) -> Examples:
        """Return the same examples resident on ``device``."""
        return Examples(self.x.to(device), self.y.to(device), self.clients)

    @cached_property
    def _by_client(self) -> tuple[Ints, Ints]:
        """The places of the examples in the order of their clients, and those clients."""
        clients = np.full(len(self), -1) if self.clients is None else self.clients
        order = np.argsort(clients, kind="stable")
        return order, clients[order]

    def sizes(self, count: int) -> Ints:
        """Return the number of examples that are each client's own, int64 ``[count]``."""
        return np.bincount(self._by_client[1] + 1, minlength=count + 1)[1:].astype(np.int64)

    def of(self, clients: Ints) -> tuple[Inputs, Tensor, Ints]:
        """Return the examples that are the own ones of some clients, in their order.

        Returns:
            Model inputs ``[M, ...]``, targets ``[M, ...]`` (where the examples lie) and int64 ``[M]``: for each example
            the position of its client in ``clients``.
        """
        order, owners = self._by_client
        first, last = (np.searchsorted(owners, clients, side) for side in ("left", "right"))
        counts = last - first
        segment = np.repeat(np.arange(len(clients)), counts)
        within = np.arange(len(segment)) - (np.cumsum(counts) - counts)[segment]
        index = torch.from_numpy(order[first[segment] + within]).to(self.y.device)
        return decode(self.x.index_select(0, index)), dense(self.y.index_select(0, index)), segment


def nobodys(test: Examples | None) -> tuple[str, ...]:
    """Say how many examples of a test set are no client's own, where others are."""
    owners = None if test is None else test.clients
    if owners is None or not (count := int((owners < 0).sum())) or count == len(owners):
        return ()
    return (f"test: {count:,} of {len(owners):,} examples are no client's own",)


class Rows:
    """The opened training rows of a block of C clients.

    Args:
        x: inputs of the store, ``[N, ...]``, or columns of them.
        y: targets of the store, ``[N, ...]``.
        starts: row of the store where each client starts, int64 ``[C]``.
        sizes: training examples of each client, int64 ``[C]``.
        device: the device of the result of :meth:`take`.
    """

    __slots__ = ("_device", "_last", "_remote", "_resident", "_starts", "_x", "_y")

    def __init__(
        self, x: Inputs, y: Tensor, starts: NDArray[np.int64], sizes: NDArray[np.int64], device: torch.device
    ) -> None:
        self._x, self._y = x, y
        self._starts = starts[:, None]
        self._last = (starts + sizes - 1)[:, None]
        self._device = device
        self._resident = y.device == device or (y.device.type == device.type and device.index is None)
        self._remote = y.device.type != "cpu"

    def of(self, places: NDArray[np.int64]) -> Rows:
        """Return the rows of the clients at these places of the block, in their order."""
        starts = self._starts[places, 0]
        return Rows(self._x, self._y, starts, self._last[places, 0] + 1 - starts, self._device)

    def take(self, rows: NDArray[np.int64]) -> tuple[Inputs, Tensor]:
        """Gather examples of the first A clients of the block.

        Args:
            rows: local example indices ``[A, B]``, ``A <= C``, each ``>= 0``.  An index at or past a client's size is
                padding: it yields the client's last training row, never a row of another client.

        Returns:
            Inputs ``[A, B, ...]`` and targets ``[A, B, ...]`` on the device.
        """
        count = len(rows)
        return self._at(np.minimum(rows + self._starts[:count], self._last[:count]))

    def pick(self, clients: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[Inputs, Tensor]:
        """Gather examples of any clients, as :meth:`take` does.

        Args:
            clients: places of clients in the block ``[A, B]``.
            rows: local example indices ``[A, B]``, each of an example that there is.
        """
        return self._at(self._starts[clients, 0] + rows)

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the lengths ``[A, B]`` of the examples that :meth:`take` gathers, None where all are padded to one."""
        count = len(rows)
        return self._measured(np.minimum(rows + self._starts[:count], self._last[:count]))

    def picked_lengths(self, clients: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the lengths ``[A, B]`` of the examples that :meth:`pick` gathers, as :meth:`lengths` does."""
        return self._measured(self._starts[clients, 0] + rows)

    def _measured(self, flat: NDArray[np.int64]) -> NDArray[np.int64] | None:
        columns = unlike(self._x)
        if not columns:
            return None
        index = torch.from_numpy(flat.reshape(-1)).to(columns[0].device)
        ends = [one.offsets.index_select(0, index + 1) - one.offsets.index_select(0, index) for one in columns]
        longest: NDArray[np.int64] = torch.stack(ends).amax(dim=0).cpu().numpy()
        return longest.reshape(flat.shape)

    def _at(self, flat: NDArray[np.int64]) -> tuple[Inputs, Tensor]:
        """Gather these rows of the store, ``[A, B]``."""
        count, width = flat.shape
        index = torch.from_numpy(flat.reshape(-1))
        if self._remote:
            index = index.to(self._y.device, non_blocking=True)

        def placed(store: Any) -> Tensor:
            found = self._padded(store, index) if isinstance(store, Ragged) else self._gathered(store, index)
            if found.dtype == torch.uint8:
                found = decode(found)
            return found.view(count, width, *found.shape[1:])

        x = self._x.map(placed) if isinstance(self._x, InputColumns) else placed(self._x)
        return x, placed(self._y)

    def _padded(self, store: Ragged, index: Tensor) -> Tensor:
        found = store.padded(index)
        return found if self._resident else found.to(self._device)

    def _gathered(self, store: Tensor, index: Tensor) -> Tensor:
        if self._resident:
            return store.index_select(0, index)
        # A GPU copies from pinned memory by itself, while the host goes on.
        pinned = self._device.type == "cuda" and not self._remote
        rows = torch.empty((len(index), *store.shape[1:]), dtype=store.dtype, device=store.device, pin_memory=pinned)
        return torch.index_select(store, 0, index, out=rows).to(self._device, non_blocking=pinned)


def make_examples(test: Any, spec: DataSpec, where: str = "test") -> Examples | None:
    """Check a test set, given as None, a pair ``(x, y)`` or :class:`Examples`, against ``spec``."""
    if test is None or isinstance(test, Examples):
        if test is not None:
            check_fits(like(test.x, as_array), as_array(test.y), spec, where)
        return test
    if not isinstance(test, tuple) or len(test) != 2:
        raise ConfigError(f"{where}: expected a pair (x, y), got {type(test).__name__}")
    x, y = as_examples(*test, where=where)
    if len(x) == 0:
        raise ConfigError(f"{where}: the test set has no rows; leave it out or give it some")
    check_fits(x, y, spec, where)
    return Examples(tensors(x), tensor(y))

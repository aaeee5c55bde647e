"""Data that a function makes, one client at a time, when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.draws import name_draws, put_back
from fedray.core.errors import ConfigError, one_line
from fedray.data.columns.base import ClientData
from fedray.data.columns.checks import (
    as_examples,
    check_fits,
    doubts,
    infer_spec,
    same_shapes,
    tensor,
    tensors,
    widened,
)
from fedray.data.columns.holdout import held_sizes
from fedray.data.columns.ids import id_keys
from fedray.data.columns.inputs import InputColumns, Inputs, joined
from fedray.data.columns.ragged import dense
from fedray.data.columns.rows import CPU, Rows, decode, make_examples, reading
from fedray.data.spec import DataSpec


class LazyData(ClientData):
    """Clients whose rows are made by a function whenever their block is opened, and kept only as long as the block.

    Args:
        function: called with an element of ``clients``, gives ``(x, y)``.
        clients: the values that it is called with.
        totals: examples of each client, held-out ones included, int64 ``[n]``.
        held: held-out examples of each client, int64 ``[n]``.
        seed: decides which examples are held out.
        spec, test: as for :class:`ClientData`.
        own: a function as ``function``, for the own test set of a client; None: nobody has one from it.
        test_sizes: examples of each client's own test set, int64 ``[n]``, where there is ``own``.
        counts: the result of ``label_counts``, if it is known; else all clients are opened when it is first asked.
    """

    def __init__(
        self,
        function: Callable[[Any], tuple[Any, Any]],
        clients: Sequence[Any],
        totals: NDArray[np.int64],
        spec: DataSpec,
        *,
        held: NDArray[np.int64] | None = None,
        seed: int = 0,
        test: Any = None,
        own: Callable[[Any], tuple[Any, Any]] | None = None,
        test_sizes: NDArray[np.int64] | None = None,
        counts: NDArray[np.int64] | None = None,
    ) -> None:
        ids = None if isinstance(clients, range) else [str(client) for client in clients]
        sizes = totals if held is None else totals - held
        super().__init__(sizes, spec, holdout_sizes=held, test=make_examples(test, spec), ids=ids)
        self._function = function
        self._clients = clients
        self._own = own
        if test_sizes is not None:
            self.test_sizes = test_sizes
        self.held_by = None if held is None else seed
        self._counts, self.counted = counts, counts is not None

    def _load(self, client: int) -> tuple[Inputs, Tensor]:
        """Call the function for a client's rows, and put the training rows first."""
        x, y = _call(self._function, self._clients[client], self.client_id(client))
        total = int(self.sizes[client] + self.holdout_sizes[client])
        where = f"client {self.client_id(client)!r}"
        if len(x) != total:
            raise ConfigError(f"{where} gave {len(x)} examples, {total} were declared")
        check_fits(x, y, self.spec, where)
        if self.holdout_sizes[client]:
            order = self.order(client)
            x, y = x[order], y[order]
        return decode(tensors(x)), dense(tensor(y))

    def rows(self, clients: NDArray[np.int64], device: torch.device = CPU) -> Rows:
        with put_back():
            loaded = [self._load(int(client)) for client in clients]
        totals = self.sizes[clients] + self.holdout_sizes[clients]
        x, y = (joined([pair[side] for pair in loaded]).to(device) for side in (0, 1))
        return Rows(x, y, np.cumsum(totals) - totals, self.sizes[clients], device)

    def holdout(self, clients: NDArray[np.int64]) -> tuple[Inputs, Tensor, NDArray[np.int64]]:
        return self._together(clients, self.holdout_sizes[clients], self._held)

    def _held(self, client: int) -> tuple[Inputs, Tensor]:
        x, y = self._load(client)
        # Copies, so that only held-out rows are in memory together.
        return x[int(self.sizes[client]) :].clone(), y[int(self.sizes[client]) :].clone()

    def own_test(self, clients: NDArray[np.int64]) -> tuple[Inputs, Tensor, NDArray[np.int64]]:
        if self._own is None:
            return super().own_test(clients)
        return self._together(clients, self.test_sizes[clients], self._tested)

    def _tested(self, client: int) -> tuple[Inputs, Tensor]:
        assert self._own is not None
        name, size = self.client_id(client), int(self.test_sizes[client])
        x, y = _call(self._own, self._clients[client], name, "evaluate")
        if len(x) != size:
            raise ConfigError(f"test of client {name!r} gave {len(x)} examples, {size} were declared")
        check_fits(x, y, self.spec, f"test of client {name!r}")
        return decode(tensors(x)), dense(tensor(y))

    def _together(
        self, clients: NDArray[np.int64], sizes: NDArray[np.int64], load: Callable[[int], tuple[Inputs, Tensor]]
    ) -> tuple[Inputs, Tensor, NDArray[np.int64]]:
        """Return so many examples of each client, one after the other, and of each the position of its client."""
        with put_back():
            kept = [self._none(), *(load(int(client)) for client in clients[sizes > 0])]
        return joined([x for x, _ in kept]), torch.cat([y for _, y in kept]), np.repeat(np.arange(len(clients)), sizes)

    def _none(self) -> tuple[Inputs, Tensor]:
        spec = self.spec
        x: Inputs = _empty(spec.shape, spec.vocabulary > 0)
        if spec.columns:
            x = InputColumns({one.name: _empty(one.shape, one.vocabulary > 0) for one in spec.columns})
        if spec.task == "classification":
            return x, torch.empty(0, dtype=torch.int64)
        return x, torch.empty((0, *spec.target_shape), dtype=torch.float32)

    def label_counts(self) -> NDArray[np.int64]:
        self._need_classes()
        if self._counts is None:
            with put_back():
                self._counts, self.counted = np.stack([self._count(client) for client in range(len(self))]), True
        return self._counts

    def _count(self, client: int) -> NDArray[np.int64]:
        y = self._load(client)[1][: int(self.sizes[client])]
        return np.bincount(y.numpy().reshape(-1), minlength=self.spec.outputs)

    def with_holdout(self, fraction: float, seed: int) -> ClientData:
        held = held_sizes(self.sizes, fraction, self.holdout_sizes)
        if not held.any():
            return self
        data = LazyData(
            self._function,
            self._clients,
            self.sizes,
            self.spec,
            held=held,
            seed=seed,
            test=self.test,
            own=self._own,
            test_sizes=self.test_sizes,
        )
        data.augment = self.augment
        return data


def _empty(shape: tuple[int, ...], tokens: bool) -> Tensor:
    return torch.empty((0, *shape), dtype=torch.int64 if tokens else torch.float32)


def _call(
    function: Callable[[Any], Any], client: Any, name: str, purpose: Literal["data", "evaluate"] = "data"
) -> tuple[Any, NDArray[Any]]:
    # Inside ``put_back``: what a function draws is the same whenever it is called, and of a test set it is other.
    name_draws(0, purpose, client=int(id_keys(np.array([name.encode()]))[0]))
    made = function(client)
    if not isinstance(made, tuple) or len(made) != 2:
        raise ConfigError(f"client {name!r}: the function must return a pair (x, y), got {type(made).__name__}")
    return as_examples(*made, where=f"client {name!r}:")


@put_back()
def from_function(
    function: Callable[[Any], tuple[Any, Any]],
    clients: Iterable[Any],
    *,
    sizes: Sequence[int] | NDArray[np.int64] | None = None,
    spec: DataSpec | None = None,
    test: Any = None,
    test_sizes: Sequence[int] | NDArray[np.int64] | None = None,
) -> LazyData:
    """Make lazy data; see ``FederatedData.from_function``."""
    unnamed = isinstance(clients, range) and clients == range(len(clients))
    listed: Sequence[Any] = range(len(clients)) if unnamed and isinstance(clients, range) else list(clients)
    if sizes is not None and len(sizes) != len(listed):
        raise ConfigError(f"{len(sizes)} sizes were given for {len(listed)} clients")
    if test_sizes is not None and not (callable(test) and _are_sizes(test_sizes, len(listed))):
        each = f"one whole number, 0 or more, for each of {len(listed)} clients"
        raise ConfigError(f"test_sizes: the rows that test(client) gives, {each}")
    notes: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    if sizes is None or spec is None:
        found, counted = spec, np.zeros(len(listed), dtype=np.int64)
        for number, client, x, y in _called(function, listed, "data"):
            counted[number], notes = len(x), reading(x)
            if spec is not None:
                check_fits(x, y, spec, f"client {client!r}")
            elif len(x):
                found = _widen(found, x, y, client)
                said = said or doubts(y)
        if found is None:
            raise ConfigError("the data has no clients with examples")
        if sizes is not None and not np.array_equal(counted, sizes):
            wrong = int(np.argmax(counted != np.asarray(sizes)))
            raise ConfigError(
                f"client {str(listed[wrong])!r} gave {counted[wrong]} examples, {sizes[wrong]} were declared"
            )
        sizes, spec = counted, found
    if callable(test):
        if test_sizes is None:
            test_sizes = [len(x) for _, _, x, _ in _called(test, listed, "evaluate")]
        tests: dict[str, Any] = {"own": test, "test_sizes": np.asarray(test_sizes, dtype=np.int64)}
    else:
        tests = {"test": test}
    data = LazyData(function, listed, np.asarray(sizes, dtype=np.int64), spec, **tests)
    data.notes, data.warnings = notes, said
    return data


def _are_sizes(sizes: Any, count: int) -> bool:
    numbers = np.asarray(sizes)
    return numbers.shape == (count,) and numbers.dtype.kind in "iu" and bool((numbers >= 0).all())


def _called(
    function: Callable[[Any], Any], clients: Sequence[Any], purpose: Literal["data", "evaluate"]
) -> Iterator[tuple[int, str, Any, NDArray[Any]]]:
    """Call a function for all clients, and yield the number, the name and the rows of each."""
    for number, client in enumerate(clients):
        try:
            x, y = _call(function, client, str(client), purpose)
        except ConfigError:
            raise
        except Exception as error:
            what = "the function" if purpose == "data" else "the function of its test set"
            raise ConfigError(f"client {str(client)!r}: {what} raised {one_line(error)}") from error
        yield number, str(client), x, y


def _widen(spec: DataSpec | None, x: Any, y: NDArray[Any], client: str) -> DataSpec:
    found = infer_spec(x, y)
    if spec is None:
        return found
    if not same_shapes(x, spec) or (found.task, found.target) != (spec.task, spec.target):
        raise ConfigError(
            f"client {client!r} has inputs {found.inputs} for {found.targets}, others have {spec.inputs} for "
            f"{spec.targets}"
        )
    return replace(widened(spec, found), outputs=max(spec.outputs, found.outputs))

"""Made-up rows in the place of ones that cannot be had here, to try a model on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.rng import numpy_generator
from fedray.data.columns.base import ClientData
from fedray.data.columns.inputs import InputColumns, Inputs
from fedray.data.columns.rows import CPU, Rows
from fedray.data.sites import Silo
from fedray.data.spec import DataSpec

_POOL = 256


def drawn(spec: DataSpec, count: int, generator: torch.Generator) -> Inputs:
    """Return ``count`` random inputs of a shape.

    >>> from fedray.data.spec import Column
    >>> drawn(DataSpec((), 2, columns=(Column("a", (3,)), Column("b", (5,), 40))), 2, torch.Generator())["b"].shape
    torch.Size([2, 5])
    """

    def one(shape: tuple[int, ...], vocabulary: int) -> Tensor:
        if vocabulary:
            return torch.randint(vocabulary, (count, *shape), generator=generator)
        return torch.randn(count, *shape, generator=generator)

    if spec.columns:
        return InputColumns({column.name: one(column.shape, column.vocabulary) for column in spec.columns})
    return one(spec.shape, spec.vocabulary)


class MadeUp(ClientData):
    """Clients as those of ``like``, whose training rows are drawn from a few random ones; the same at each call.

    It can be trained on, and nothing else: it has no held-out rows and no test set.  Labels are those of
    ``like``, where it has counted them.

    Args:
        like: any data with features for inputs.
    """

    def __init__(self, like: ClientData) -> None:
        spec = like.spec
        generator = numpy_generator(0, "partition")
        x = torch.from_numpy(generator.standard_normal((_POOL, *spec.shape)).astype(np.float32))
        if spec.task == "classification":
            y = torch.from_numpy(generator.integers(0, spec.outputs, _POOL))
        else:
            y = torch.from_numpy(generator.standard_normal((_POOL, *spec.target_shape)).astype(np.float32))
        self._x, self._y, self._like = x, y, like
        super().__init__(like.sizes, spec, ids=like._ids)

    @property
    def silos(self) -> Mapping[str, Silo]:
        return self._like.silos

    def pin(self, client: int) -> str | None:
        return self._like.pin(client)

    def pins(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._like.pins(clients)

    def rows(self, clients: NDArray[np.int64], device: torch.device = CPU) -> Rows:
        return _Repeated(self._x, self._y, clients, device)

    def holdout(self, clients: NDArray[np.int64]) -> tuple[Inputs, Tensor, NDArray[np.int64]]:
        raise TypeError("made-up rows can be trained on, and nothing else")

    def label_counts(self) -> NDArray[np.int64]:
        if not self._like.counted:
            raise TypeError("made-up rows can be trained on, and nothing else")
        return self._like.label_counts()

    def with_holdout(self, fraction: float, seed: int) -> ClientData:
        raise TypeError("made-up rows can be trained on, and nothing else")


class _Repeated(Rows):
    """A pool of rows, again and again; each client begins elsewhere in it."""

    __slots__ = ("_shift",)

    def __init__(self, x: Tensor, y: Tensor, clients: NDArray[np.int64], device: torch.device) -> None:
        super().__init__(x, y, np.zeros_like(clients), np.full_like(clients, _POOL), device)
        self._shift = 17 * clients[:, None]

    def take(self, rows: NDArray[np.int64]) -> tuple[Inputs, Tensor]:
        return super().take((rows + self._shift[: len(rows)]) % _POOL)

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        return super().lengths((rows + self._shift[: len(rows)]) % _POOL)

    def pick(self, clients: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[Inputs, Tensor]:
        return super().pick(clients, (rows + self._shift[clients, 0]) % _POOL)

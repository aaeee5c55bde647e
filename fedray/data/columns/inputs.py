"""The inputs of examples: one tensor, or several columns of them, by name or by place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedray.data.columns.ragged import Ragged, concatenated


class InputColumns:
    """Several columns of inputs, which belong together row by row.

    What is done to rows is done to each column: indices, ``to``, ``flatten``, ``clone`` and the like.  A column is
    found by its name; those of a tuple are named ``"0"``, ``"1"`` and so on, and a model is called with them by place.

    >>> x = InputColumns({"ids": torch.arange(6).view(3, 2), "age": torch.tensor([[0.1], [0.2], [0.3]])})
    >>> len(x), x["age"].shape, x[1:]["ids"]
    (3, torch.Size([3, 1]), tensor([[2, 3],
            [4, 5]]))
    >>> call(lambda ids, age: ids.sum(dim=1) + age[:, 0], x)
    tensor([1.1000, 5.2000, 9.3000])

    Args:
        columns: the columns by name, each ``[N, ...]``: tensors, or arrays where they are read.
    """

    __slots__ = ("columns",)

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = dict(columns)

    def __repr__(self) -> str:
        return f"InputColumns({', '.join(f'{name}: {tuple(one.shape)}' for name, one in self.columns.items())})"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: Any) -> Any:
        return self.columns[key] if isinstance(key, str) else self.map(lambda one: one[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def map(self, change: Callable[[Any], Any]) -> InputColumns:
        """Return them with each column changed."""
        return InputColumns({name: change(one) for name, one in self.columns.items()})

    @property
    def device(self) -> torch.device:
        """The device on which they lie."""
        found: torch.device = next(iter(self.columns.values())).device
        return found

    @property
    def nbytes(self) -> int:
        """Their bytes."""
        return sum(int(one.nbytes) for one in self.columns.values())

    def numel(self) -> int:
        """Return their numbers, of all columns together."""
        return sum(int(one.numel()) for one in self.columns.values())

    def to(self, *args: Any, **kwargs: Any) -> InputColumns:
        """Return them on another device."""
        return self.map(lambda one: one.to(*args, **kwargs))

    def clone(self) -> InputColumns:
        """Return a copy."""
        return self.map(lambda one: one.clone())

    def detach(self) -> InputColumns:
        """Return them without a graph."""
        return self.map(lambda one: one.detach())

    def flatten(self, start: int, end: int) -> InputColumns:
        """Return them with some axes made one."""
        return self.map(lambda one: one.flatten(start, end))

    def index_select(self, dim: int, index: Tensor) -> InputColumns:
        """Return the rows at some places."""
        return self.map(lambda one: one.index_select(dim, index))


Inputs = Any
"""Inputs ``[N, ...]``: a tensor, or :class:`InputColumns`.

Who does to rows what both can do need not know which; a type that names both would ask everybody.
"""


def parts(x: Any) -> list[Any]:
    """Return the columns of inputs, in order; of one tensor or array itself.

    >>> len(parts(torch.zeros(3))), len(parts(InputColumns({"a": torch.zeros(3), "b": torch.zeros(3)})))
    (1, 2)
    """
    return list(x.columns.values()) if isinstance(x, InputColumns) else [x]


def named(x: Any) -> dict[str, Any]:
    """Return the columns of inputs with words for them: ``x`` of one alone, else ``x['name']``, or ``x[0]``.

    >>> list(named(InputColumns({"0": torch.zeros(3), "1": torch.zeros(3)}))), list(named(torch.zeros(3)))
    (['x[0]', 'x[1]'], ['x'])
    """
    if not isinstance(x, InputColumns):
        return {"x": x}
    return {f"x[{name}]" if name.isdigit() else f"x[{name!r}]": one for name, one in x.columns.items()}


def like(x: Any, change: Callable[[Any], Any]) -> Any:
    """Return inputs with each column, or the one tensor, changed."""
    return x.map(change) if isinstance(x, InputColumns) else change(x)


def plain(x: Inputs) -> Tensor | dict[str, Tensor]:
    """Return inputs as ``vmap`` takes them."""
    return x.columns if isinstance(x, InputColumns) else x


def arguments(x: Tensor | Mapping[str, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Return plain inputs as what a module is called with: one or several by place, or by name.

    >>> arguments({"0": torch.zeros(1)}), arguments({"a": torch.zeros(1)})
    (((tensor([0.]),), {}), ((), {'a': tensor([0.])}))
    """
    if isinstance(x, Tensor):
        return (x,), {}
    placed = tuple(one for name, one in x.items() if name.isdigit())
    return placed, {name: one for name, one in x.items() if not name.isdigit()}


def call(module: nn.Module | Callable[..., Any], x: Inputs) -> Any:
    """Call a module with inputs: ``module(x)``, ``module(*columns)`` or ``module(**columns)``."""
    if isinstance(x, Tensor):
        return module(x)
    placed, by_name = arguments(x.columns)
    return module(*placed, **by_name)


def shapes(x: Any) -> str:
    """Return the shapes of inputs in words.

    >>> shapes(torch.zeros(2, 3)), shapes(InputColumns({"a": torch.zeros(2, 3), "b": torch.zeros(2)}))
    ('(2, 3)', 'a (2, 3), b (2,)')
    """
    if not isinstance(x, InputColumns):
        return str(tuple(x.shape))
    return ", ".join(f"{name} {tuple(one.shape)}" for name, one in x.columns.items())


def joined(pieces: list[Any]) -> Any:
    """Return inputs of several pieces, tensors or arrays, one after the other."""
    first = pieces[0]
    if isinstance(first, InputColumns):
        return InputColumns({name: joined([piece[name] for piece in pieces]) for name in first})
    if len(pieces) == 1:
        return first
    if isinstance(first, Ragged):
        return concatenated(pieces)
    return torch.cat(pieces) if isinstance(first, Tensor) else np.concatenate(pieces)

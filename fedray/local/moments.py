"""The state of client optimizers that is kept from fit to fit and from round to round: rows of the client store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from fedray.core.errors import ConfigError, one_line
from fedray.core.layout import Layout
from fedray.core.regions import Entry
from fedray.local.leading import LeadingRows
from fedray.optim import OptimizerFn

_ALONE = torch.zeros(1, dtype=torch.int64)
"""The place of a client that is alone."""


@dataclass(frozen=True)
class Moments:
    """The columns of a client's kept optimizer state: tensors of ``[D]``, then numbers and a flag for each parameter.

    A flag is 1 where the optimizer had moved the parameter: where it is 0, it begins afresh.

    >>> layout = Layout.of(torch.nn.Linear(2, 1))
    >>> kept = moments_of(torch.optim.Adam, layout)
    >>> kept.tensors, kept.numbers, kept.width
    (('exp_avg', 'exp_avg_sq'), ('step',), 10)

    Args:
        entries: the parameters, in the order of the vector.
        tensors: names of what has the shape of a parameter.
        numbers: names of what is a plain number: a count up to 2**24, or a float32.
        as_tensor: those of the numbers that the optimizer holds as a tensor.
    """

    entries: tuple[Entry, ...]
    tensors: tuple[str, ...]
    numbers: tuple[str, ...]
    as_tensor: frozenset[str]

    @property
    def trained(self) -> int:
        """The number of values in all parameters, D."""
        return self.entries[-1].stop

    @property
    def width(self) -> int:
        """The length of a row."""
        return len(self.tensors) * self.trained + (len(self.numbers) + 1) * len(self.entries)

    def _number(self, which: int, entry: int) -> int:
        return len(self.tensors) * self.trained + which * len(self.entries) + entry

    def alike(self, rows: Tensor) -> list[Tensor]:
        """Return the places of the ``rows`` ``[C, W]`` with the same numbers and flags, those of each such group."""
        numbers = rows[:, self._number(0, 0) :].cpu().numpy()
        _, group = np.unique(numbers, axis=0, return_inverse=True)
        return [torch.from_numpy(np.flatnonzero(group == each)).to(rows.device) for each in range(group.max() + 1)]

    def load(self, rows: Tensor, entry: Entry, shape: Sequence[int]) -> dict[str, Any]:
        """Return the optimizer's state of a parameter from ``rows`` ``[n, W]`` of the same numbers and flags.

        Args:
            rows: those of clients whose optimizers step as one.
            entry: the parameter.
            shape: of what holds that parameter of all of them, row by row.

        Returns:
            Its state; empty where it begins afresh.
        """
        place = self.entries.index(entry)
        if not rows[0, self._number(len(self.numbers), place)]:
            return {}
        found: dict[str, Any] = {}
        for number, name in enumerate(self.tensors):
            first = number * self.trained
            found[name] = rows[:, first + entry.start : first + entry.stop].reshape(*shape).clone()
        for number, name in enumerate(self.numbers):
            value = rows[0, self._number(number, place)]
            found[name] = value.cpu().clone() if name in self.as_tensor else value.item()
        return found

    def save(self, rows: Tensor, places: Tensor, entry: Entry, state: Mapping[str, Any]) -> None:
        """Write the optimizer's state of a parameter into the ``rows`` at some places; before its first step is none.

        The state holds that of all of them, as :meth:`load` gives it.
        """
        place = self.entries.index(entry)
        if not all(name in state for name in (*self.tensors, *self.numbers)):
            return
        for number, name in enumerate(self.tensors):
            first = number * self.trained
            rows[places, first + entry.start : first + entry.stop] = state[name].reshape(len(places), -1)
        for number, name in enumerate(self.numbers):
            rows[places, self._number(number, place)] = float(state[name])
        rows[places, self._number(len(self.numbers), place)] = 1.0


def moments_of(optimizer_fn: OptimizerFn, layout: Layout) -> Moments:
    """Return the columns of what an optimizer remembers of a model's parameters, found by two steps on zeros.

    Raises:
        ConfigError: it remembers something that is neither of the shape of a parameter nor a plain number.
    """
    params = [torch.zeros(entry.shape, requires_grad=True) for entry in layout.parameters]
    try:
        optimizer = optimizer_fn(params)
        for _ in range(2):
            for param in params:
                param.grad = torch.full_like(param, 0.5)
            optimizer.step()
    except Exception as error:
        raise ConfigError(f"local.keep_optimizer: the optimizer takes no plain step: {one_line(error)}") from error
    tensors: dict[str, None] = {}
    numbers: dict[str, bool] = {}
    for entry, param in zip(layout.parameters, params, strict=True):
        # Of a parameter of one number alone its state does not tell which is a moment and which a count.
        for name, value in optimizer.state.get(param, {}).items() if param.dim() else ():
            if isinstance(value, Tensor) and value.dim() and (value.shape, value.dtype) == (param.shape, torch.float32):
                tensors[name] = None
            elif isinstance(value, Tensor) and value.dim() == 0 and not value.is_complex():
                numbers[name] = True
            elif isinstance(value, int | float):
                numbers[name] = False
            elif value is not None:
                what = f"{list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
                raise ConfigError(
                    f"local.keep_optimizer: {type(optimizer).__name__} remembers {name!r} of {entry.name}, which is "
                    f"{what}: neither float32 of the parameter's shape {list(entry.shape)} nor a plain number; "
                    "take another optimizer, or set local.keep_optimizer=false"
                )
    if not tensors and not numbers:
        raise ConfigError(
            f"local.keep_optimizer: {type(optimizer).__name__} remembers nothing that could be kept; "
            "give it a momentum, or set local.keep_optimizer=false"
        )
    as_tensor = frozenset(name for name, held in numbers.items() if held)
    return Moments(tuple(layout.parameters), tuple(tensors), tuple(numbers), as_tensor)


def rows_of(kept: Tensor | None, moments: Moments | None, place: int) -> Tensor | None:
    """Return the kept state of the optimizers of a fit, ``[C, W]``, a view; None: there is none.

    Args:
        kept: of all fits of a round, ``[C, K]``.
        moments: the columns of that of one fit.
        place: 0 of the clients' own models, k of the k-th fit of other ones.

    Raises:
        RuntimeError: there were fewer fits in the trial before the run.
    """
    if kept is None or moments is None:
        return None
    width = moments.width
    if (place + 1) * width > kept.shape[1]:
        raise RuntimeError(
            f"local.keep_optimizer: fit number {place} of other models than the clients' own, "
            f"{kept.shape[1] // width - 1} in the trial before the run: fit as many in every round"
        )
    return kept[:, place * width : (place + 1) * width]


@dataclass(frozen=True, eq=False)
class Kept:
    """The kept state of the clients of a fit.

    Args:
        moments: its columns.
        rows: a row for each client, ``[C, W]``, to be changed in place.
    """

    moments: Moments
    rows: Tensor

    def enter(
        self, optimizer: Optimizer, params: Sequence[Tensor], entries: Sequence[Entry], places: Tensor = _ALONE
    ) -> None:
        """Give an optimizer what it remembers of the parameters of clients whose numbers are the same."""
        rows = self.rows[places]
        for param, entry in zip(params, entries, strict=True):
            if state := self.moments.load(rows, entry, param.shape):
                optimizer.state[param].update(state)

    def leave(
        self, optimizer: Optimizer, params: Sequence[Tensor], entries: Sequence[Entry], places: Tensor = _ALONE
    ) -> None:
        """Keep what an optimizer remembers of their parameters."""
        for param, entry in zip(params, entries, strict=True):
            self.moments.save(self.rows, places, entry, optimizer.state.get(param, {}))


class KeptRows(LeadingRows):
    """An optimizer over the leading rows of a matrix in which clients remember what is their own.

    They differ in how many steps they have taken, and may begin afresh: those who are alike in that step as one.  Their
    rows are taken out of the matrix for a step and put back, as they need not stand next to one another.

    >>> layout, matrix = Layout.of(torch.nn.Linear(2, 1)), torch.zeros(2, 3)
    >>> moments = moments_of(lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.5), layout)
    >>> kept = Kept(moments, torch.zeros(2, moments.width))
    >>> kept.rows[1] = torch.tensor([2.0, 2.0, 2.0, 1.0, 1.0])  # a momentum of 2
    >>> rows = KeptRows(lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.5), matrix, layout, None, kept)
    >>> rows.step(rows.columns(torch.ones(2, 3)))
    >>> matrix[:, 0]
    tensor([-1., -2.])
    """

    def __init__(
        self,
        optimizer_fn: OptimizerFn,
        matrix: Tensor,
        layout: Layout,
        only: Sequence[Entry] | None,
        kept: Kept,
    ) -> None:
        self._entries = tuple(layout.parameters if only is None else only)
        super().__init__(optimizer_fn, matrix, layout, True, only)
        self._kept = kept
        columns = self.columns(matrix)
        self._alike = [(places, [column[places] for column in columns]) for places in kept.moments.alike(kept.rows)]
        self._optimizer = optimizer_fn([piece for _, pieces in self._alike for piece in pieces])
        self.group = self._optimizer.param_groups[0]
        if "foreach" in self.group:
            self.group["foreach"] = True
        for places, pieces in self._alike:
            kept.enter(self._optimizer, pieces, self._entries, places)

    def columns(self, matrix: Tensor) -> list[Tensor]:
        """Return the columns of a matrix ``[A, D]`` that move, parameter by parameter."""
        return [matrix.detach()[:, entry.start : entry.stop] for entry in self._entries]

    def keep(self, count: int) -> None:
        """Let go of all rows but the first ``count``."""
        self._look_at(self.whole[:count])
        still = []
        for places, pieces in self._alike:
            # They stand in order.
            left = int((places < count).sum())
            if left < len(places):
                self._kept.leave(self._optimizer, pieces, self._entries, places)
                shorter = [piece[:left] for piece in pieces]
                self.take_over(pieces, shorter, left)
                places, pieces = places[:left], shorter
            if left:
                still.append((places, pieces))
        self._alike = still
        self.group["params"] = [piece for _, pieces in still for piece in pieces]

    def step(self, grads: Sequence[Tensor]) -> None:
        """Take a step along the gradients of :meth:`columns`."""
        columns = self.columns(self.whole)
        for places, pieces in self._alike:
            for piece, column, grad in zip(pieces, columns, grads, strict=True):
                piece.copy_(column[places])
                piece.grad = grad[places]
        self._optimizer.step()
        for places, pieces in self._alike:
            for piece, column in zip(pieces, columns, strict=True):
                column[places] = piece

    def leave(self) -> None:
        """Keep what is remembered of each row."""
        for places, pieces in self._alike:
            self._kept.leave(self._optimizer, pieces, self._entries, places)

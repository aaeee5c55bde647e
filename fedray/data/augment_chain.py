"""The changes of a run's inputs, one after the other, on the device: of one tensor, of single columns, or of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from fedray.config.binding import nearest
from fedray.config.registry import Imported, bind_part, dump, made
from fedray.core.errors import ConfigError, listed
from fedray.core.rng import Stream
from fedray.data.augment import Augmentation, ColumnsAugmentation, augmentations
from fedray.data.columns.base import ClientData
from fedray.data.columns.inputs import InputColumns, Inputs
from fedray.data.columns.inputs import parts as parts_of
from fedray.data.columns.rows import Rows
from fedray.data.spec import DataSpec

Told = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]] | None
"""The parts that are always done, as a run tells of them in its ``inputs.json``; None: it did not."""


@dataclass(frozen=True)
class OfColumn:
    """A change of one of several columns of inputs.

    Args:
        column: its name; the number of its place where columns have no names.
        part: the change.
    """

    column: str
    part: Any

    @property
    def always(self) -> bool:
        """True for what is done in evaluations, too."""
        return bool(self.part.always)


@dataclass(frozen=True)
class Augment:
    """The changes of the inputs of a run, one after the other.

    >>> from fedray.data.augment import Flip, Normalize
    >>> chain = Augment((Flip(), Normalize([1.0], [2.0])))
    >>> chain.fixed(torch.tensor([[[1.0, 5.0]]]))  # in evaluations: without what is random
    tensor([[[0., 2.]]])
    >>> chain = Augment((OfColumn("age", Normalize([50.0], [10.0])),))
    >>> chain.fixed(InputColumns({"age": torch.tensor([[60.0]]), "ids": torch.tensor([[7]])}))["age"]
    tensor([[1.]])

    Args:
        parts: in their order.
    """

    parts: tuple[Augmentation | OfColumn, ...] = ()

    def training(self, x: Inputs, keys: Tensor, seed: int, round: int, step: int) -> Inputs:
        """Return the inputs of a training batch, ``[A, B, ...]``, by draws named by (seed, round, client, step).

        Args:
            x: inputs ``[A, B, ...]``, or columns of them.
            keys: the keys of the clients, int64 ``[A]``.
            seed: names the draws.
            round: round number.
            step: of the fit.
        """
        flat = x.flatten(0, 1)
        counts = [_draws(part, flat) for part in self.parts]
        drawn = torch.zeros(len(flat), 0, device=flat.device)
        if total := sum(counts):
            stream = Stream(seed, "augment", round)
            drawn = stream.uniform(keys, torch.full_like(keys, step), parts_of(x)[0].shape[1] * total).view(-1, total)
        for part, u in zip(self.parts, drawn.split(counts, dim=1), strict=True):
            flat = _changed(part, flat, u)
        return _unflattened(flat, x)

    def fixed(self, x: Inputs) -> Inputs:
        """Return inputs ``[n, ...]``, or columns of them, as evaluations see them."""
        for part in self.parts:
            if part.always:
                x = _changed(part, x, torch.zeros(len(x), 0, device=x.device))
        return x

    def seen(self, x: Inputs) -> Inputs:
        """Return inputs ``[C, B, ...]``, or columns of them, as evaluations see them."""
        return _unflattened(self.fixed(x.flatten(0, 1)), x)

    @property
    def told(self) -> Any:
        """The changes that a user of the model must make, too, as sections of a config."""
        return sections([part for part in self.parts if part.always])

    @property
    def words(self) -> str:
        """The names of the changes, for the head of the log."""
        return ", ".join(map(_word, self.parts))


def _draws(part: Augmentation | OfColumn, x: Inputs) -> int:
    """Return the numbers that a part draws for each of inputs ``[n, ...]``."""
    if isinstance(part, OfColumn):
        return int(part.part.draws(tuple(x[part.column].shape[1:])))
    if isinstance(x, InputColumns):
        return part.draws(cast(Any, {name: tuple(one.shape[1:]) for name, one in x.columns.items()}))
    return part.draws(tuple(x.shape[1:]))


def _changed(part: Augmentation | OfColumn, x: Inputs, u: Tensor) -> Inputs:
    if isinstance(part, OfColumn):
        return InputColumns({**x.columns, part.column: part.part(x[part.column], u)})
    if not isinstance(x, InputColumns):
        return part(x, u)
    found = part(cast(Any, dict(x.columns)), u)
    if not isinstance(found, Mapping) or found.keys() != x.columns.keys():
        got = listed(found) if isinstance(found, Mapping) else type(found).__name__
        raise ConfigError(f"data.augment: {_word(part)} must return the columns {listed(x.columns)}, got {got}")
    return InputColumns({name: found[name] for name in x.columns})


def _unflattened(flat: Inputs, like: Inputs) -> Inputs:
    """Return inputs ``[A * B, ...]`` as they were before they were flattened."""
    if isinstance(flat, InputColumns):
        return InputColumns({name: one.view(like[name].shape) for name, one in flat.columns.items()})
    return flat.view(like.shape)


def _word(part: Any) -> str:
    if isinstance(part, OfColumn):
        return f"{part.column}: {_word(part.part)}"
    return str(getattr(part, "name", type(part).__name__))


def chosen(nodes: Any) -> tuple[Any, ...]:
    """Return the parts that a config names, or that were made in Python.

    >>> [part.column for part in chosen({"image": ["flip", "crop"], "age": ["normalize"]})]
    ['image', 'image', 'age']

    Args:
        nodes: a list of parts; or for each of several columns of inputs, by its name, such a list.

    Raises:
        ConfigError: it is neither, or one is no augmentation.
    """
    if isinstance(nodes, Mapping):
        return tuple(
            OfColumn(str(name), part) for name, own in nodes.items() for part in _bound(own, f"data.augment.{name}")
        )
    return _bound(nodes, "data.augment")


def _bound(nodes: Any, key: str) -> tuple[Any, ...]:
    if isinstance(nodes, str | Mapping) or not isinstance(nodes, Sequence):
        raise ConfigError(
            f"{key}: a list is needed, such as [flip, {{name: crop, padding: 4}}], or one for each of several columns "
            f"of inputs, such as {{image: [flip]}}; got {nodes!r}"
        )
    return tuple(
        node if isinstance(node, Imported | OfColumn) else bind_part(augmentations, node, f"{key}[{i}]")
        for i, node in enumerate(nodes)
    )


def sections(parts: Sequence[Any]) -> Any:
    """Return parts as :func:`chosen` takes them from a config: a list, or one for each column."""
    if not any(isinstance(part, OfColumn) for part in parts):
        return [dump(part) for part in parts]
    found: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        found.setdefault(part.column, []).append(dump(part.part))
    return found


def fit(data: ClientData, told: Told = None) -> Augment:
    """Return the changes of the inputs of some data, with the numbers that are learnt from them.

    Args:
        data: the clients' data.
        told: those that are always made, as a run that goes on has told of them; default: they are learnt.

    Raises:
        ConfigError: a part cannot work on them.
    """
    parts, found = chosen(data.augment), []
    before = iter([one for own in told.values() for one in own] if isinstance(told, Mapping) else told or ())
    places: dict[str, int] = {}
    for given in parts:
        column = given.column if isinstance(given, OfColumn) else ""
        key = f"data.augment{f'.{column}' if column else ''}[{places.setdefault(column, 0)}]"
        places[column] += 1
        part: Augmentation = made(given.part if isinstance(given, OfColumn) else given)
        try:
            seen, spec = _of(data, column, part)
            part.check(spec)
            learnt = next(before, None) if part.always else None
            part = part.fitted(seen) if learnt is None else part.again(learnt, seen)
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from None
        found.append(OfColumn(column, part) if column else part)
    return Augment(tuple(found))


def _of(data: ClientData, column: str, part: Augmentation) -> tuple[ClientData, DataSpec]:
    """Return the data that a part is fitted to, and what it is to know of their examples.

    Raises:
        ValueError: it cannot work on such inputs.
    """
    spec = data.spec
    if isinstance(part, ColumnsAugmentation):
        if column or not spec.columns:
            raise ValueError("it changes several columns of inputs together: give it in a list, and inputs as columns")
        return data, spec
    if not column:
        if spec.columns:
            raise ValueError(
                f"inputs are several columns; say which it changes, as in {{{spec.columns[0].name}: "
                "[flip]}, or give a fedray.parts.ColumnsAugmentation, which changes them together"
            )
        if spec.vocabulary:
            raise ValueError("inputs are tokens, which have no values to change")
        return data, spec
    known = {one.name: one for one in spec.columns}
    if column not in known:
        have = f"they are {listed(known)}" if known else "inputs are one tensor; give a list without names"
        raise ValueError(f"there is no column {column!r}{nearest(column, known)}; {have}")
    if known[column].vocabulary:
        raise ValueError("the column holds tokens, which have no values to change")
    alone = replace(spec, shape=known[column].shape, vocabulary=0, columns=())
    return cast(ClientData, _OneColumn(data, column, alone)), alone


class _OneColumn:
    """Data with one of their columns as inputs."""

    def __init__(self, data: ClientData, column: str, spec: DataSpec) -> None:
        self._data, self._column, self.spec = data, column, spec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def __len__(self) -> int:
        return len(self._data)

    def rows(self, clients: Any) -> Any:
        """Return the rows of clients, with that column alone."""
        return _OneColumnRows(self._data.rows(clients), self._column)


@dataclass(frozen=True)
class _OneColumnRows:
    rows: Rows
    column: str

    def take(self, index: Any) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets at some places."""
        x, y = self.rows.take(index)
        return x[self.column], y

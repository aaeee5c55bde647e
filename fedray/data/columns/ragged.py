"""Sequences of different lengths: one flat array and offsets, padded where a batch is taken."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.data.columns.small import at, is_small

_AT_ONCE = 1 << 22
"""Values of which larger ones are made at once."""


class Ragged:
    """Sequences of different lengths, one behind the other, which are padded to one length where a batch is taken.

    It is the length of the longest one of the data, training and test, or the one given; longer sequences are cut to
    it.  So it depends on no batch and on no other client: a run gives the bits of the same run on arrays that were
    padded before, and keeps in memory what there is.

    >>> words = Ragged.of([[5, 3, 8], [4]], mask="attention_mask")
    >>> words.values, words.offsets, words.shape
    (array([5, 3, 8, 4]), array([0, 3, 4]), (2, 3))
    >>> words.dense()
    array([[5, 3, 8],
           [4, 0, 0]])
    >>> from fedray import FederatedData
    >>> data = FederatedData.from_arrays({"input_ids": words}, [0, 1], clients=["a", "b"])
    >>> data.rows(np.array([1])).take(np.array([[0]]))[0]["attention_mask"]  # the model is called with it, too
    tensor([[[1, 0, 0]]])

    Args:
        values: of all sequences, ``[M, ...]``; uint16 and int32 are held as such, and handed out as int64.
        offsets: the place at which each sequence begins, and that at which the last one ends, ``[N + 1]``: 0 to M.
        pad: the value behind a sequence, 0 by default; for targets the number behind the last class, which counts in no
            loss and no metric of ``token_classification`` and ``causal_lm``.
        length: the values of a padded sequence, at least 1; None: those of the longest.
        multiple: each batch is padded to its own longest sequence alone, up to the next multiple of this number, as
            where 8 spares work on short ones; what a model makes of a sequence must not depend on what stands behind
            it, but for rounding.  None: all are padded to ``length``.
        mask: the column that is 1 where there are values and 0 where there is padding, int64 ``[B, T]``; None: none.
        lengths: the column that has the lengths, int64 ``[B]``; None: none.

    Raises:
        ConfigError: offsets that are none of these values.
    """

    __slots__ = ("fixed", "known", "length", "lengths", "mask", "multiple", "offsets", "pad", "values")

    values: Any
    offsets: Any
    known: Any
    pad: float | None
    length: int
    multiple: int | None

    def __init__(
        self,
        values: Any,
        offsets: Any,
        *,
        pad: float | None = None,
        length: int | None = None,
        multiple: int | None = None,
        mask: str | None = None,
        lengths: str | None = None,
    ) -> None:
        values, offsets = (one.detach().cpu() if isinstance(one, Tensor) else one for one in (values, offsets))
        self.values, self.offsets = np.asarray(values), np.asarray(offsets)
        ends = self.offsets
        if self.values.ndim == 0 or ends.ndim != 1 or not len(ends) or ends.dtype.kind not in "iu":
            raise ConfigError(
                "ragged: values [M, ...] and offsets [N + 1] of whole numbers are needed; these are "
                f"{self.values.dtype} {self.values.shape} and {ends.dtype} {ends.shape}"
            )
        self.offsets = ends = ends.astype(np.int64)
        if ends[0] != 0 or ends[-1] != len(self.values) or (np.diff(ends) < 0).any():
            raise ConfigError(
                f"ragged: offsets must rise from 0 to the number of values, {len(self.values)}; they go from {ends[0]} "
                f"to {ends[-1]}" + (", and fall between" if (np.diff(ends) < 0).any() else "")
            )
        if length is not None and (type(length) is not int or length < 1):
            raise ConfigError(f"ragged: length={length}: a whole number from 1 is needed")
        if multiple is not None and (type(multiple) is not int or multiple < 1):
            raise ConfigError(f"ragged: multiple={multiple}: a whole number from 1 is needed")
        self.multiple = multiple
        self.pad, self.mask, self.lengths, self.fixed, self.known = pad, mask, lengths, length is not None, None
        self.length = length or self.longest
        if self.longest > self.length:
            self._cut()

    @classmethod
    def of(cls, sequences: Iterable[Any], **options: Any) -> Self:
        """Return ragged sequences of a list of them, ``[T, ...]`` each; options are those of the class."""
        rows = [np.asarray(one.detach().cpu() if isinstance(one, Tensor) else one) for one in sequences]
        full = [row for row in rows if len(row)]
        if not full:
            raise ConfigError("ragged: there is no sequence with a value")
        return cls(np.concatenate(full), np.cumsum([0, *map(len, rows)]), **options)

    def __repr__(self) -> str:
        return f"Ragged({len(self)} sequences of up to {self.length})"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: Any) -> Ragged:
        count = len(self)
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(count)
            stop = max(start, stop)
            ends = self.offsets[start : stop + 1]
            first, last = int(ends[0]), int(ends[-1])
            return self._with(ends - ends[0], lambda one: one[first:last])
        place: Any
        if isinstance(self.offsets, Tensor):
            place = torch.arange(count, device=self.device)[rows]
        else:
            place = np.arange(count)[rows.cpu().numpy() if isinstance(rows, Tensor) else rows]
        return self.index_select(0, place)

    def index_select(self, dim: int, index: Any) -> Ragged:
        """Return the sequences at some places."""
        starts, counts = self.offsets[:-1][index], (self.offsets[1:] - self.offsets[:-1])[index]
        if isinstance(counts, Tensor):
            ends: Any = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            flat: Any = torch.arange(int(ends[-1]), device=self.device)
            flat = flat + torch.repeat_interleave(starts - ends[:-1], counts)
        else:
            ends = np.concatenate([[0], np.cumsum(counts)])
            flat = np.arange(int(ends[-1])) + np.repeat(starts - ends[:-1], counts)
        return self._with(ends, lambda one: at(one, flat))

    def _with(self, offsets: Any, change: Callable[[Any], Any]) -> Ragged:
        """Return them with other offsets, and with what is there of each value changed."""
        values, known = (None if one is None else change(one) for one in (self.values, self.known))
        return self.changed(values=values, offsets=offsets, known=known)

    def only(self, known: Any, pad: float) -> Ragged:
        """Return targets that are these values where ``known``, and ``pad`` in the place of all others.

        They are on the memory of the values.

        >>> Ragged.of([[5, 3], [4]]).only(np.array([False, True, True]), pad=9).dense()
        array([[9, 3],
               [4, 9]])

        Args:
            known: True for values that are targets, bool ``[M]``.
            pad: the target in the place of others, and behind a sequence.
        """
        return self.changed(known=known, pad=pad, mask=None, lengths=None)

    def _cut(self) -> None:
        counts = np.diff(self.offsets)
        kept = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], counts) < self.length
        self.values = self.values[kept]
        self.offsets = np.concatenate([[0], np.cumsum(np.minimum(counts, self.length))])

    @property
    def longest(self) -> int:
        """The number of values of the longest sequence, at least 1."""
        return max(1, int((self.offsets[1:] - self.offsets[:-1]).max())) if len(self) else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sequences once they are padded, ``(N, T, ...)``."""
        return (len(self), self.length, *(() if self.values is None else self.values.shape[1:]))

    @property
    def ndim(self) -> int:
        """The number of axes of :attr:`shape`."""
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """The type of a value as it is handed out."""
        if self.values is not None and not self._small:
            return self.values.dtype
        return torch.int64 if isinstance(self.offsets, Tensor) else np.dtype(np.int64)

    @property
    def _small(self) -> bool:
        return self.values is not None and is_small(self.values.dtype)

    @property
    def device(self) -> torch.device:
        """The device on which they lie."""
        found: torch.device = self.offsets.device
        return found

    @property
    def size(self) -> int:
        """The number of values, without padding."""
        return int(self.offsets[-1]) if self.values is None else int(np.prod(self.values.shape))

    @property
    def nbytes(self) -> int:
        """Their bytes, without padding; of targets that are values of others, what they have beside these."""
        if self.known is not None:
            return int(self.known.nbytes)
        return int(self.offsets.nbytes) + (0 if self.values is None else int(self.values.nbytes))

    def numel(self) -> int:
        """Return the number of values, without padding."""
        return self.size

    def max(self) -> Any:
        """Return the largest value."""
        if self.values is None:
            return 1
        # Of small types torch knows no maximum.
        return self.values.cpu().numpy().max() if isinstance(self.values, Tensor) else self.values.max()

    def to(self, device: Any, **kwargs: Any) -> Ragged:
        """Return them on another device."""
        return self._with(self.offsets.to(device, **kwargs), lambda one: one.to(device, **kwargs))

    def clone(self) -> Ragged:
        """Return a copy."""
        return self._with(self.offsets.clone(), lambda one: one.clone())

    def tensors(self) -> Ragged:
        """Return them as tensors, on the memory of the arrays where that can be."""

        def one(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array if array.flags.writeable else array.copy())

        return self._with(one(self.offsets), one)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what they are, by the ends of the names of their files; of others' values, which of them count."""
        if self.known is not None:
            return {"_known": np.asarray(self.known.cpu())}
        parts = {"": self.values, "_offsets": self.offsets}
        return {end: np.asarray(one.cpu()) for end, one in parts.items() if one is not None}

    def words(self) -> dict[str, Any]:
        """Return the rest of what they are, for JSON."""
        return {"pad": self.pad, "length": self.length, "values": self.values is not None, "multiple": self.multiple}

    @classmethod
    def mapped(
        cls, values: Tensor | None, offsets: Tensor, words: dict[str, Any], known: Tensor | None = None
    ) -> Ragged:
        """Return them from what :meth:`arrays` and :meth:`words` have given."""
        found = object.__new__(cls)
        found.values, found.offsets, found.mask, found.lengths, found.fixed = values, offsets, None, None, True
        found.known = known
        found.pad, found.length = words["pad"], words["length"]
        found.multiple = words["multiple"]
        return found

    def changed(self, **fields: Any) -> Ragged:
        """Return the same sequences with other fields."""
        found = copy.copy(self)
        for name, value in fields.items():
            setattr(found, name, value)
        return found

    def present(self) -> Ragged:
        """Return what is 1 for each value and 0 for padding."""
        return self.changed(values=None, known=None, pad=0, mask=None, lengths=None)

    def counts(self) -> Any:
        """Return the length of each sequence, int64 ``[N]``."""
        return self.offsets[1:] - self.offsets[:-1]

    def padded(self, index: Tensor) -> Tensor:
        """Return the sequences at some places ``[n]`` as ``[n, T, ...]``, T as ``length`` or ``multiple`` says."""
        starts, ends = self.offsets.index_select(0, index), self.offsets.index_select(0, index + 1)
        length = self.length
        if self.multiple is not None and len(index):
            most = max(1, int((ends - starts).max()))
            length = min(length, -(-most // self.multiple) * self.multiple)
        place = torch.arange(length, device=index.device)
        there: Tensor = place < (ends - starts)[:, None]
        if self.values is None:
            return there.long()
        if not len(self.values):
            return torch.full(
                (len(index), length, *self.shape[2:]), self.pad or 0, dtype=self.dtype, device=index.device
            )
        # What is padding takes the first value, as any that there is would do, and is then overwritten.
        flat = torch.where(there, starts[:, None] + place, 0).view(-1)
        found: Tensor = at(self.values, flat).view(len(index), length, *self.shape[2:])
        found = found.long() if self._small else found
        if self.known is not None:
            there = there & self.known.index_select(0, flat).view(there.shape)
        padding = ~there.view(*there.shape, *[1] * (found.dim() - 2))
        return found.masked_fill_(padding, self.pad or 0)

    def pieces(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Yield values ``start`` to ``stop`` as they are handed out, some at once; at least a piece, of none."""
        values, known = (one.cpu().numpy() if isinstance(one, Tensor) else one for one in (self.values, self.known))
        for first in range(start, max(stop, start + 1), _AT_ONCE):
            place = slice(first, min(stop, first + _AT_ONCE))
            found = values[place].astype(np.int64) if self._small else values[place]
            yield found if known is None else np.where(known[place], found, int(self.pad or 0))

    def dense(self) -> Any:
        """Return all of them, padded, ``[N, T, ...]``."""
        if isinstance(self.offsets, Tensor):
            return self.padded(torch.arange(len(self), device=self.device))
        return self.tensors().dense().numpy()


def upon(targets: Any, inputs: Sequence[Any]) -> Any:
    """Return targets that are values of inputs on the memory of these, and others as they are.

    Args:
        targets: the targets, whose sequences are those of the inputs.
        inputs: the columns of inputs; the values are those of the first that has sequences.
    """
    if not isinstance(targets, Ragged) or targets.known is None:
        return targets
    own = next(one for one in inputs if isinstance(one, Ragged) and one.values is not None)
    return targets.changed(values=own.values, offsets=own.offsets)


def dense(x: Any) -> Any:
    """Return sequences of different lengths padded, and anything else as it is.

    >>> dense(Ragged.of([[1.5], [2.0, 3.0]])), dense(np.zeros(2))
    (array([[1.5, 0. ],
           [2. , 3. ]]), array([0., 0.]))
    """
    return x.dense() if isinstance(x, Ragged) else x


def level(*columns: Any) -> tuple[Any, ...]:
    """Return columns, of which those of different lengths are padded to one: the length given, or the longest.

    >>> [one.length for one in level(Ragged.of([[1]]), Ragged.of([[1, 2, 3], [4]]))]
    [3, 3]
    """
    found = [one for one in columns if isinstance(one, Ragged)]
    given = [one.length for one in found if one.fixed]
    length = given[0] if given else max((one.length for one in found), default=0)
    return tuple(
        one.changed(length=length) if isinstance(one, Ragged) and not one.fixed and one.longest <= length else one
        for one in columns
    )


def alongside(targets: Ragged, columns: Sequence[Any]) -> Ragged:
    """Return targets as long as the column of inputs whose values they are targets of, if there is one."""
    for one in columns:
        if not isinstance(one, Ragged) or one.values is None or targets.known is not None:
            continue
        length = targets.length if targets.fixed else one.length
        if np.array_equal(np.minimum(targets.counts(), length), one.counts()):
            found = Ragged(targets.values, targets.offsets, pad=targets.pad, length=length, multiple=one.multiple)
            return found.changed(fixed=targets.fixed or one.fixed)
    return targets


def concatenated(pieces: Sequence[Ragged]) -> Ragged:
    """Return the sequences of several pieces, tensors or arrays, one after the other."""
    leveled = level(*pieces)
    first: Ragged = leveled[0]
    counts = [one.counts() for one in leveled]
    join: Any = torch.cat if isinstance(first.offsets, Tensor) else np.concatenate
    zero: Any = torch.zeros(1, dtype=torch.int64) if isinstance(first.offsets, Tensor) else np.zeros(1, dtype=np.int64)
    values, known = (
        None if getattr(first, name) is None else join([getattr(one, name) for one in leveled])
        for name in ("values", "known")
    )
    return first.changed(values=values, known=known, offsets=join([zero, *counts]).cumsum(0))

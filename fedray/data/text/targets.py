"""Targets of texts: classes, or numbers, in columns of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, listed
from fedray.data.columns.checks import LABEL_LIMIT
from fedray.data.spec import Column, DataSpec
from fedray.data.text.options import TextOptions

Said = Mapping[str, NDArray[np.str_]]
"""Columns of rows, as text ``[N]``."""

_TRUTHS = {"True": 1.0, "False": 0.0}
"""Booleans of JSON and Parquet, as text."""


@dataclass(frozen=True)
class Targets:
    """The targets of texts, from columns of their rows.

    >>> options = TextOptions("bytes", target="mood")
    >>> found = Targets.learnt(options, {"mood": np.array(["sad", "glad", "sad"])})
    >>> found.classes, found.of({"mood": np.array(["sad"])}, "test")
    (('glad', 'sad'), array([1]))

    Args:
        columns: the columns.
        classes: the names of classes, in the order of their numbers; None: targets are numbers.
    """

    columns: tuple[str, ...]
    classes: tuple[str, ...] | None

    @classmethod
    def learnt(cls, options: TextOptions, said: Said) -> Targets:
        """Return the targets that training rows have.

        One column is classes where the options name them, where it has text, or at most 20 different whole numbers, as
        the target of a table is.

        Args:
            options: the options of text, which name a target.
            said: its columns, of all training rows.
        """
        columns = options.targets
        if options.classes is not None:
            return cls(columns, tuple(map(str, options.classes)))
        if options.task == "regression" or len(columns) > 1:
            return cls(columns, None)
        names = sorted(set(said[columns[0]].tolist()))
        numbers = [_number(name) for name in names]
        known = [number for number in numbers if number is not None]
        whole = len(known) == len(names) and all(number.is_integer() for number in known)
        if whole:
            names = sorted(names, key=float)
        if options.task == "auto" and len(known) == len(names) and not (whole and len(names) <= LABEL_LIMIT):
            return cls(columns, None)
        return cls(columns, tuple(names))

    def of(self, said: Said, where: str) -> NDArray[np.int64] | NDArray[np.float32]:
        """Return the targets of rows: int64 ``[N]``, the numbers of classes, or float32 ``[N, k]``.

        Args:
            said: their columns.
            where: the rows, for errors.

        Raises:
            ConfigError: a class that is unknown, or a number that is none.
        """
        if self.classes is None:
            return np.stack([_numbers(said[name], name, where) for name in self.columns], axis=1)
        found, place = np.unique(said[self.columns[0]], return_inverse=True)
        numbers = {name: number for number, name in enumerate(self.classes)}
        for name in found.tolist():
            if name not in numbers:
                raise ConfigError(
                    f"{where}: {name!r} of column {self.columns[0]!r} is no class{nearest(name, self.classes)}; those "
                    f"are {listed(self.classes)}; data.classes names others"
                )
        return np.array([numbers[name] for name in found.tolist()], dtype=np.int64)[place]

    def spec(self, inputs: tuple[Column, ...]) -> DataSpec:
        """Return the specification of examples with some inputs."""
        if self.classes is not None:
            return DataSpec((), len(self.classes), classes=self.classes, columns=inputs)
        # Several may be questions of yes or no, of which predictions tell the names.
        names = self.columns if len(self.columns) > 1 else ()
        return DataSpec((), len(self.columns), "regression", classes=names, columns=inputs)


def _number(word: str) -> float | None:
    """Return the number that a text is, None where it is none."""
    try:
        found = float(word)
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def _numbers(words: NDArray[np.str_], column: str, where: str) -> NDArray[np.float32]:
    found, place = np.unique(words, return_inverse=True)
    numbers = []
    for word in found.tolist():
        number = _TRUTHS[word] if word in _TRUTHS else _number(word)
        if number is None:
            raise ConfigError(f"{where}: {word!r:.40} of column {column!r} is no number, which its targets are")
        numbers.append(number)
    return np.array(numbers, dtype=np.float32)[place]


def joined(pieces: Sequence[Said], columns: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """Return columns of several files, one behind the other."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in columns}

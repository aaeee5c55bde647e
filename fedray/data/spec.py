"""The shape and the meaning of an example: all that a model must know of its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedray.core.errors import counted

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Column:
    """One of several columns of inputs.

    Args:
        name: its name; the number of its place where columns have no names.
        shape: its shape for one example.
        vocabulary: number of distinct tokens of an int64 column, else 0.
    """

    name: str
    shape: tuple[int, ...]
    vocabulary: int = 0

    @property
    def words(self) -> str:
        """Its name and shape, for the log."""
        return f"{self.name} {_shape(self.shape, self.vocabulary)}"


def _shape(shape: tuple[int, ...], vocabulary: int) -> str:
    return (" x ".join(map(str, shape)) or "1") + (f" tokens of {vocabulary:,}" if vocabulary else "")


@dataclass(frozen=True)
class DataSpec:
    """Shape and meaning of one example.

    >>> from fedray.parts import models
    >>> spec = DataSpec(shape=(30,), outputs=2, classes=("benign", "malignant"))
    >>> sum(p.numel() for p in models["logistic"]().build(spec).parameters())  # 2 x 30 weights, 2 biases
    62

    Args:
        shape: shape of one input without the batch axis: ``(30,)`` features, ``(3, 32, 32)`` image, ``(80,)`` tokens.
        outputs: number of classes, or of regression targets; 0: there are no targets.
        task: ``classification`` (integer targets, cross-entropy) or ``regression`` (float targets, squared error).
        classes: class names in the order of their indices; empty if unnamed, and for a target of regression; of several
            of these their names, where they are known.
        vocabulary: number of distinct tokens when inputs are int64 token sequences, else 0.
        columns: the columns of inputs, where there are several; ``shape`` and ``vocabulary`` say nothing then.
        target: the shape of one regression target; empty: ``(outputs,)``.
        padding: the target that stands behind the last one of a sequence; None: all have one length.
    """

    shape: tuple[int, ...]
    outputs: int
    task: Task = "classification"
    classes: tuple[str, ...] = ()
    vocabulary: int = 0
    columns: tuple[Column, ...] = ()
    target: tuple[int, ...] = ()
    padding: int | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> DataSpec:
        """Return one of its fields, as ``dataclasses.asdict`` and JSON leave them."""
        told = fields.get("columns", ())
        columns = tuple(Column(one["name"], tuple(one["shape"]), one["vocabulary"]) for one in told)
        tuples = {name: tuple(fields.get(name, ())) for name in ("shape", "classes", "target")}
        return cls(**{**fields, **tuples, "columns": columns})

    @property
    def tokens(self) -> Column | None:
        """The column of tokens: the only one, or that called ``input_ids``; None: there is none.

        >>> DataSpec((8,), 40, vocabulary=40).tokens
        Column(name='input_ids', shape=(8,), vocabulary=40)
        """
        if self.columns:
            return next((one for one in self.columns if one.name == "input_ids" and one.vocabulary), None)
        return Column("input_ids", self.shape, self.vocabulary) if self.vocabulary else None

    @property
    def target_shape(self) -> tuple[int, ...]:
        """The shape of one target of numbers."""
        return self.target or (self.outputs,)

    @property
    def inputs(self) -> str:
        """The shape of the inputs of an example, in words.

        >>> DataSpec((3, 32, 32), 10).inputs, DataSpec((), 2, columns=(Column("a", (8,)), Column("b", (5,), 40))).inputs
        ('3 x 32 x 32', 'a 8, b 5 tokens of 40')
        """
        if self.columns:
            return ", ".join(column.words for column in self.columns)
        return _shape(self.shape, self.vocabulary)

    @property
    def targets(self) -> str:
        """The targets of an example, in words.

        >>> DataSpec((4,), 3).targets, DataSpec((4,), 64, "regression", target=(8, 8)).targets
        ('3 classes (classification)', '8 x 8 targets (regression)')
        >>> DataSpec((4,), 1, "regression").targets
        '1 target (regression)'
        """
        if self.task == "classification":
            return f"{self.outputs:,} classes ({self.task})"
        if not self.outputs:
            return "no target"
        if self.target:
            return f"{_shape(self.target, 0)} targets ({self.task})"
        return f"{counted(self.outputs, 'target')} ({self.task})"

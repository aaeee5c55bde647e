"""The shape and the meaning of an example: all that a model must know of its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class DataSpec:
    """Shape and meaning of one example.

    >>> from fedray.parts import models
    >>> spec = DataSpec(shape=(30,), outputs=2, classes=("benign", "malignant"))
    >>> sum(p.numel() for p in models["logistic"]().build(spec).parameters())  # 2 x 30 weights, 2 biases
    62

    Args:
        shape: shape of one input without the batch axis: ``(30,)`` features, ``(3, 32, 32)`` image, ``(80,)`` tokens.
        outputs: number of classes, or of regression targets.
        task: ``classification`` (integer targets, cross-entropy) or ``regression`` (float targets, squared error).
        classes: class names in the order of their indices; empty if unnamed or for regression.
        vocabulary: number of distinct tokens when inputs are int64 token sequences, else 0.
    """

    shape: tuple[int, ...]
    outputs: int
    task: Task = "classification"
    classes: tuple[str, ...] = ()
    vocabulary: int = 0

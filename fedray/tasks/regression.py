"""Numbers: of any shape, one output for each target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedray.tasks.base import Task


@dataclass(frozen=True)
class Regression(Task):
    """Numbers of any shape: float outputs and targets ``[B, ...]``, one output for each target.

    >>> Regression().kind, Regression().usual
    ('numbers', ('mse',))
    """

    name: ClassVar[str] = "regression"
    usual: ClassVar[tuple[str, ...]] = ("mse",)

"""Whole numbers in types that are no larger than they must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_SMALL = (np.dtype(np.uint16), np.dtype(np.int32))
"""The types in which whole numbers are held, and from which batches make int64."""


def smallest(count: int) -> np.dtype[Any]:
    """Return the smallest type that holds the numbers below ``count`` and is handed out as int64.

    >>> smallest(50_257), smallest(128_256)
    (dtype('uint16'), dtype('int32'))
    """
    return next((kind for kind in _SMALL if count - 1 <= np.iinfo(kind).max), np.dtype(np.int64))


def at(values: Any, places: Any) -> Any:
    """Return values ``[M, ...]`` at some places ``[n]``, both arrays or both tensors."""
    if not isinstance(values, Tensor):
        return values[places]
    if values.dtype != torch.uint16:
        return values.index_select(0, places)
    # Of which torch gathers none.
    return values.view(torch.int16).index_select(0, places).view(torch.uint16)


def is_small(kind: Any) -> bool:
    """Tell if a type, of arrays or of tensors, is one of which batches make int64.

    >>> is_small(torch.uint16), is_small(np.dtype(np.int32)), is_small(torch.uint8)
    (True, True, False)
    """
    return str(kind).removeprefix("torch.") in ("uint16", "int32")

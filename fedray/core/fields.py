"""The fields of what is kept of a client: a vector under each name, of a length and a type of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
"""The types that a field may have."""


@dataclass(frozen=True)
class Field:
    """A field: the length and the type of a vector.

    >>> field = Field.of(torch.tensor([[1, -2], [3, 4]]))
    >>> field, str(field), field.nbytes
    (Field(width=2, dtype=torch.int64), '[2] int64', 16)
    >>> field.tensor(as_bytes(torch.tensor([[1, -2]])))
    tensor([[ 1, -2]])

    Args:
        width: its length.
        dtype: one of ``DTYPES``.
    """

    width: int
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, rows: Tensor) -> Field:
        """Return the field that has these rows ``[C, k]``."""
        return cls(rows.shape[1], rows.dtype)

    @property
    def nbytes(self) -> int:
        """The length of a row in bytes."""
        return self.width * self.dtype.itemsize

    def __str__(self) -> str:
        return f"[{self.width}] {str(self.dtype).removeprefix('torch.')}"

    def tensor(self, rows: Bytes) -> Tensor:
        """Return rows ``[C, nbytes]``, in one piece, as a tensor ``[C, width]`` in the same memory."""
        if self.dtype == torch.float32:  # calls of numpy take a third of those of torch
            return torch.from_numpy(rows.reshape(-1).view(np.float32).reshape(len(rows), self.width))
        return torch.from_numpy(rows.reshape(-1)).view(self.dtype).view(len(rows), self.width)


Fields = Mapping[str, Field]


def floats(widths: Mapping[str, int]) -> dict[str, Field]:
    """Return fields of float32.

    >>> floats({"model": 3})
    {'model': Field(width=3, dtype=torch.float32)}
    """
    return {name: Field(width) for name, width in widths.items()}


def as_bytes(rows: Tensor) -> Bytes:
    """Return rows ``[C, k]`` as bytes ``[C, nbytes]``: a view, where each of them lies in one piece on the CPU."""
    if rows.dtype == torch.float32 and rows.stride(1) == 1:
        found: Bytes = rows.numpy(force=True).view(np.uint8)
        return found
    rows = rows.detach().cpu()
    if rows.stride(1) != 1:
        # Not contiguous(), for which a single column is in one piece whatever its stride.
        rows = rows.clone(memory_format=torch.contiguous_format)
    return rows.view(torch.uint8).numpy()

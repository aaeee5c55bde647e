"""Small types of whole numbers: which one holds what, and what is taken from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedray.data.columns.small import at, is_small, smallest


@pytest.mark.parametrize(
    ("count", "kind"), [(2, "uint16"), (2**16, "uint16"), (2**16 + 1, "int32"), (2**31, "int32"), (2**31 + 1, "int64")]
)
def test_the_smallest_type_holds_the_largest_number(count: int, kind: str) -> None:
    assert smallest(count) == kind
    assert int(np.array([count - 1]).astype(smallest(count))[0]) == count - 1


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "int64", "float32"])
def test_values_are_taken_from_arrays_and_tensors_alike(kind: str) -> None:
    values, places = np.array([[1, 2], [60_000 % 251, 4], [5, 6]], dtype=kind), np.array([2, 0, 2])
    if kind == "uint16":
        values[1, 0] = 65_535
    found = at(torch.from_numpy(values), torch.from_numpy(places))
    assert str(found.dtype) == f"torch.{kind}"
    assert np.array_equal(found.numpy(), at(values, places))
    assert at(values, np.array([1]))[0, 0] == values[1, 0]
    assert is_small(found.dtype) == (kind in ("uint16", "int32"))

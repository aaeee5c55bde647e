"""Fields: rows of any type as bytes, and back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.fields import DTYPES, Field, as_bytes

FIELDS = st.builds(Field, st.integers(0, 5), st.sampled_from(DTYPES))


@given(FIELDS, st.integers(0, 4), st.data())
def test_any_bits_come_back(field: Field, count: int, data: st.DataObject) -> None:
    """NaN of any kind, infinities, and what no other type could hold."""
    size, limit = count * field.nbytes, 1 if field.dtype == torch.bool else 255
    drawn = data.draw(st.lists(st.integers(0, limit), min_size=size, max_size=size))
    rows = np.array(drawn, dtype=np.uint8).reshape(count, field.nbytes)
    tensor = field.tensor(rows)
    assert (tensor.shape, tensor.dtype) == ((count, field.width), field.dtype)
    assert Field.of(tensor) == field == pickle.loads(pickle.dumps(field))
    assert (as_bytes(tensor) == rows).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_may_lie_anyhow(dtype: torch.dtype) -> None:
    whole = torch.arange(24).reshape(4, 6).to(dtype)
    for rows in (whole[:, 2:5], whole.t(), whole[:, ::2], whole[:1].expand(3, -1), whole[::2], whole.t()[:, :1]):
        assert torch.equal(Field.of(rows).tensor(np.ascontiguousarray(as_bytes(rows))), rows)
    assert as_bytes(whole[:, 2:5]).base is not None  # no copy

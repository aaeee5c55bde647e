"""No test here may leave a shared buffer open: the next one that counts them would be blamed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.nodes import our_buffers


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    before = len(our_buffers())
    yield
    assert len(our_buffers()) == before

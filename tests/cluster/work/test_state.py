"""Memory of rows that processes share is one memory, and takes what was written to it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from fedray.cluster.work import state
from fedray.cluster.work.state import StateBuffer
from fedray.core.errors import RunFailed


def test_who_opens_it_writes_what_the_owner_reads() -> None:
    buffer = StateBuffer([3, 0], 5)
    opened = pickle.loads(pickle.dumps(buffer.handle)).open()
    opened.write(np.array([4, 1]), [np.full((2, 3), 7, np.uint8), np.zeros((2, 0), np.uint8)])
    found = np.empty((3, 3), np.uint8)
    buffer.memory.read(np.array([0, 1, 4]), [found, np.empty((3, 0), np.uint8)])
    assert found.tolist() == [[0, 0, 0], [7, 7, 7], [7, 7, 7]]
    buffer.close()


def test_there_is_room_for_all_clients_and_three_cohorts_up_to_a_limit() -> None:
    assert StateBuffer.of([], 5) is None
    assert StateBuffer.of([0], 5) is None
    few, many = StateBuffer.of([8, 4], 5), StateBuffer.of([1 << 10], 1 << 20)
    assert few is not None
    assert many is not None
    assert (few.memory.most, many.memory.most) == (20, 512 << 10)
    assert Path(many.handle.buffer.path).stat().st_blocks * 512 < 1 << 20, "what nobody writes to takes no memory"


def test_without_room_for_it_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> tuple[int, str]:
        raise RunFailed("no shared memory")

    monkeypatch.setattr("fedray.cluster.work.memory.anonymous_file", full)
    assert StateBuffer.of([8], 5) is None
    monkeypatch.setattr(state, "LIMIT", 7)
    assert StateBuffer.of([8], 5) is None

"""Rows go to the places that were given, or, where these are too few, to a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.core.fields import Field
from fedray.rundir.held_rows import MEMORY, RowMemory
from fedray.rundir.state_rows import StateRows

FIELDS = {"control": Field(2), "count": Field(1, torch.int64)}
CLIENTS = np.array([7, 4])
STATE = {"control": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "count": torch.tensor([[5], [6]])}
CPU = torch.device("cpu")


@pytest.fixture
def memory() -> RowMemory:
    return RowMemory.of([8, 8], 5 * 16)


@pytest.mark.parametrize(("room", "segment"), [([3, 1], MEMORY), ([3, 1, 0], MEMORY), ([3], ".rows"), ([], ".rows")])
def test_rows_are_where_there_is_room_for_all_of_them(
    tmp_path: Path, memory: RowMemory, room: list[int], segment: str
) -> None:
    rows = StateRows(tmp_path, FIELDS, memory)
    places = rows.write(1, CLIENTS, STATE, np.array(room, dtype=np.int64))
    assert [name.endswith(segment) for name in places.segments] == [True]
    assert places.number.tolist() == (room[:2] if segment == MEMORY else [0, 1])
    assert len(list(tmp_path.iterdir())) == (segment != MEMORY)
    found, known = StateRows(tmp_path, FIELDS, memory).read(np.array([4, 5, 7]), places, CPU)
    assert known.tolist() == [True, False, True]
    assert found["control"].tolist() == [[3.0, 4.0], [0.0, 0.0], [1.0, 2.0]]
    assert found["count"].tolist() == [[6], [0], [5]]


def test_who_does_not_share_the_memory_writes_to_a_file_whatever_room_was_given(tmp_path: Path) -> None:
    places = StateRows(tmp_path, FIELDS).write(1, CLIENTS, STATE, np.array([3, 1]))
    assert places.segments != (MEMORY,)
    found, _ = StateRows(tmp_path, FIELDS).read(CLIENTS, places, CPU)
    assert torch.equal(found["control"], STATE["control"])

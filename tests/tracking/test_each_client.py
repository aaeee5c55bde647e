"""Numbers and confusion matrices of single clients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedray.core.record import RoundRecord
from fedray.rundir.client_table import ClientRows, ClientTable, part_of
from fedray.tracking import each_client
from fedray.tracking.each_client import matrices, numbers

CLASSES = ["no", "yes"]
COUNTS = np.array([[[8, 1], [0, 5]], [[2, 0], [3, 3]], [[0, 0], [0, 0]]])
TABLE = {"classes": CLASSES, "counts": COUNTS.sum(axis=0).tolist()}
WHERE = ("test_each_client", "test_each_client/personal")
RECORD = RoundRecord(4, tables={"clients_test": {"confusion": TABLE}, "clients_personal": {"confusion": TABLE}})


def part(folder: Path) -> pa.Table:
    cells: list[Any] = [
        [
            {"true": CLASSES[true], "predicted": CLASSES[guess], "count": int(count)}
            for (true, guess), count in np.ndenumerate(own)
            if count
        ]
        or None
        for own in COUNTS
    ]
    everybody = np.arange(3)
    values = {"loss": np.array([0.25, 0.5, np.nan])}
    of = {"confusion": cells}
    rows = [ClientRows(view, everybody, everybody, values, cells=of) for view in ("global", "personal")]
    train = ClientRows("train", everybody, everybody, values)
    ClientTable(folder / "clients", ["ann", "bob", "cem"].__getitem__).write(4, [*rows, train])
    found = part_of(folder, 4)
    assert found is not None
    return found


def test_evaluations_of_clients_are_told_and_their_training_is_not(tmp_path: Path) -> None:
    found = numbers(part(tmp_path))
    assert list(found) == [f"{where}/loss/{name}" for where in WHERE for name in ("ann", "bob", "cem")]
    assert found["test_each_client/loss/bob"][0] == 0.5
    assert math.isnan(found["test_each_client/loss/cem"][0])
    assert "Each client's own model" in found["test_each_client/personal/loss/ann"][1]()


def test_matrices_are_those_of_the_table_for_clients_that_have_some(tmp_path: Path) -> None:
    found = dict(matrices(part(tmp_path), RECORD))
    assert list(found) == [f"{where}/confusion/{name}" for where in WHERE for name in ("ann", "bob")]
    assert found["test_each_client/confusion/bob"].counts.tolist() == COUNTS[1].tolist()


def test_there_are_no_more_clients_and_classes_than_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = part(tmp_path)
    monkeypatch.setattr(each_client, "MOST_CLIENTS", 2)
    assert [name.rpartition("/")[2] for name in numbers(there)] == ["ann", "cem"] * 2
    monkeypatch.setattr(each_client, "MOST_CLASSES", 1)
    assert not dict(matrices(there, RECORD))

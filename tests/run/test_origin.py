"""What is said of a checkpoint's origin where a run goes on."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.run.origin import changes, compare, origin
from fedray.sampling import AvailabilityTrace, Full, Sampler

HERE = {"cpu": "AVX2", "gpu": "none"}


def data(shift: float = 0.0, clients: int = 3) -> FederatedData:
    """A few clients, of which the second has rows of its own."""
    owner = np.repeat(np.arange(clients), 2)
    x = np.arange(2 * clients, dtype=np.float32)[:, None] + shift * (owner == 1)[:, None]
    return FederatedData.from_arrays(x, np.arange(2 * clients) % 2, owner)


def test_nothing_is_said_of_what_is_as_it_was() -> None:
    saved = json.loads(json.dumps(origin(data(), HERE, Full())))
    assert list(compare(saved, data(), HERE, Full())) == []


def test_other_rows_clients_and_hardware_are_named() -> None:
    saved = json.loads(json.dumps(origin(data(), HERE, Full())))
    (level, words), (_, hardware) = compare(saved, data(shift=0.5, clients=4), {**HERE, "cpu": "AVX512"}, Full())
    assert level == logging.WARNING
    assert "not those of the checkpoint (changed: 1; new: 3)" in words
    assert "written on other hardware or versions" in hardware


def encoded(mean: float, **other: Any) -> dict[str, Any]:
    """An encoding of the first format."""
    column = {"name": "age", "mean": mean, "deviation": 1.0, "fill": mean}
    meaning: dict[str, Any] = {"target": "y", "task": "regression", "classes": None, "standardize": True, "ignore": []}
    return {"format": 1, **meaning, "columns": [column], **other}


def test_another_encoding_is_refused() -> None:
    tables = data()
    tables.encoding = encoded(40.0)
    saved = json.loads(json.dumps(origin(tables, HERE, Full())))
    assert list(compare(saved, tables, HERE, Full())) == []
    tables.encoding = encoded(40.0, format=2, csv={"delimiter": ";"}, files={"a.csv": "delimiter semicolon"})
    assert list(compare(saved, tables, HERE, Full())) == []
    for others in (encoded(40.5), encoded(40.0, missing={"age": [0]}), None):
        tables.encoding = others
        with pytest.raises(ConfigError, match="encoded otherwise"):
            list(compare(saved, tables, HERE, Full()))


def test_long_lists_end_after_ten() -> None:
    words = changes({str(number): "a" for number in range(30)}, {})
    assert words == "gone: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more"


def test_another_file_of_who_is_available_is_told_where_a_run_goes_on(tmp_path: Path) -> None:
    """One that was written anew with the same content is not."""
    file = tmp_path / "trace.csv"

    def trace(text: str) -> Sampler:
        file.write_text("round,client\n" + text)
        return AvailabilityTrace(str(file)).prepare(data())

    saved = json.loads(json.dumps(origin(data(), HERE, trace("1,0\n1,2\n2,1\n"))))
    assert list(compare(saved, data(), HERE, trace("1,2\n2,1\n1,0\n"))) == []
    ((level, words),) = compare(saved, data(), HERE, trace("1,0\n1,2\n2,1\n3,1\n"))
    assert level == logging.WARNING
    assert words.startswith("what cohorts are drawn by, such as the file of sampler.name=trace, is not what it was")
    assert list(compare(saved, data(), HERE, Full())) == []  # of which the changed config tells
    del saved["cohorts"]
    assert list(compare(saved, data(), HERE, trace("1,0\n"))) == []

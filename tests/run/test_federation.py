"""The clients of a run are read as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.run.federation import Federation
from fedray.rundir.names import FEDERATION


@pytest.mark.parametrize("clients", [[0, 0, 1], ["a", "hospital.b", "hospital.b"]])
def test_it_is_read_as_it_was_written(clients: list[object], tmp_path: Path) -> None:
    data = FederatedData.from_arrays(np.zeros((3, 2)), [0, 1, 0], clients)
    Federation.of(data).write(tmp_path)
    found = Federation.read(tmp_path)
    assert found is not None
    assert found.sizes.tolist() == data.sizes.tolist()
    assert (found.ids is None) == (data.ids is None)
    if data.ids is not None and found.ids is not None:
        assert found.ids.tolist() == data.ids.tolist()


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    assert Federation.read(tmp_path) is None
    (tmp_path / FEDERATION).write_bytes(b"\x00")
    with pytest.raises(ConfigError, match=r"federation\.safetensors: cannot be read"):
        Federation.read(tmp_path)

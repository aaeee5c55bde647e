"""What a run brings to another node's disk: there as long as one of its teams is, and gone with the last."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedray.cluster.work.payload import Payload
from fedray.rundir import scratch

UNPACK = """
import contextlib, pickle, sys
holding = contextlib.ExitStack()
pickle.load(sys.stdin.buffer).unpack(holding)
print("unpacked", flush=True)
sys.stdin.buffer.read()
"""


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    """A job, as good as none, and its data."""
    data = {"x.npy": np.arange(9, dtype=np.uint8)}
    return Payload(pickle.dumps(None), str(tmp_path / "fedray-data-abc" / "hash"), data)


@pytest.mark.slow
def test_a_second_team_holds_what_a_killed_one_left(tmp_path: Path, payload: Payload) -> None:
    file = tmp_path / "fedray-data-abc" / "hash" / "x.npy"
    with subprocess.Popen([sys.executable, "-c", UNPACK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(pickle.dumps(payload))
        first.stdin.flush()
        assert first.stdout.readline() == b"unpacked\n"
        first.send_signal(signal.SIGKILL)
    made = file.stat().st_ino
    with contextlib.ExitStack() as second:
        payload.unpack(second)
        os.utime(file.parent.parent, (0, 0))
        scratch.sweep(tmp_path)
        assert file.read_bytes() == bytes(range(9))
        assert file.stat().st_ino == made, "it is not written again"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_users_own_is_left_as_it_was(tmp_path: Path, payload: Payload) -> None:
    (own := tmp_path / "own").mkdir()
    (own / "thesis").touch()
    brought = Payload(payload.job, str(own / "hash"), payload.files)
    with contextlib.ExitStack() as first:
        brought.unpack(first)
        with contextlib.ExitStack() as second:
            brought.unpack(second)
        assert (own / "hash" / "x.npy").read_bytes() == bytes(range(9))
    assert [path.name for path in own.iterdir()] == ["thesis"]

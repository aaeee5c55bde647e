"""Scratch folders: gone at the end, and swept when their owner was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fedray import scratch

OWNER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from fedray.scratch import scratch
with scratch() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_private_and_ends_with_its_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch.scratch() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owners_folder_is_swept_and_a_living_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner, owner.stdin, owner.stdout:
        folder = Path(owner.stdout.readline().strip())
        os.utime(folder, (0, 0))
        scratch.sweep(tmp_path)
        assert folder.is_dir(), "its owner lives"
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        scratch.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_being_made_is_left(tmp_path: Path) -> None:
    (tmp_path / "fedray-data-new").mkdir()
    scratch.sweep(tmp_path)
    assert (tmp_path / "fedray-data-new").is_dir()

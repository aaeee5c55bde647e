"""Scratch folders: gone at the end, and swept when their owner was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fedray.rundir import scratch

OWNER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from fedray.rundir.scratch import scratch
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


def test_it_ends_with_its_context_also_where_others_still_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with contextlib.ExitStack() as other:
        with scratch.scratch() as folder:
            other.enter_context(scratch.held(folder))
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_being_made_is_left(tmp_path: Path) -> None:
    (tmp_path / "fedray-data-new").mkdir()
    scratch.sweep(tmp_path)
    assert (tmp_path / "fedray-data-new").is_dir()


def test_of_two_that_hold_a_folder_the_last_one_deletes_it(tmp_path: Path) -> None:
    folder = tmp_path / "fedray-data-shared"
    with scratch.held(folder):
        with scratch.held(folder):
            (folder / "data").touch()
        assert (folder / "data").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("swept", [False, True])
def test_who_waits_for_a_folder_that_is_being_deleted_gets_a_new_one(
    swept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lock = tmp_path / "fedray-data-shared", fcntl.flock
    (folder / "half").mkdir(parents=True)
    os.utime(folder, (0, 0))

    def late(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        if swept:
            os.utime(folder, (0, 0))
            scratch.sweep(tmp_path)
        else:
            with scratch.held(folder):
                pass
        assert not folder.exists()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch.held(folder):
        assert [path.name for path in folder.iterdir()] == ["owner"]
        os.utime(folder, (0, 0))
        scratch.sweep(tmp_path)
        assert folder.is_dir(), "it is the new one that is held"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_while_one_of_its_name_is_swept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, delete = tmp_path / "fedray-data-shared", shutil.rmtree
    folder.mkdir()
    os.utime(folder, (0, 0))
    with contextlib.ExitStack() as holding:

        def slow(doomed: Path, **options: Any) -> None:
            monkeypatch.setattr(shutil, "rmtree", delete)
            holding.enter_context(scratch.held(folder))
            (folder / "data").touch()
            delete(doomed, **options)

        monkeypatch.setattr(shutil, "rmtree", slow)
        scratch.sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
        assert (folder / "data").exists()
    assert list(tmp_path.iterdir()) == []

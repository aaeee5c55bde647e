"""Checkpoints are whole or absent, whatever fails while they are written and whatever happens to them afterwards."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.core.errors import ConfigError
from fedray.rundir import checkpoint, tensor_files
from fedray.rundir.checkpoint import Checkpoint, CheckpointError

CALLS = ["fsync", "rename", "mkdir", "open"]
FILES = ["tensors-00001-of-00002.safetensors", "tensors-00002-of-00002.safetensors", "state.json", "manifest.json"]


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of five numbers is in two files, the second of which has another tensor."""
    monkeypatch.setattr(tensor_files, "LARGEST", 12)


def in_files(round: int, request: pytest.FixtureRequest) -> None:
    """Tensors of the new round 3 are in several files, those of a round that is written again are in one."""
    if round == 3:
        request.getfixturevalue("several")


def of_round(round: int, value: float | None = None) -> Checkpoint:
    filled = torch.full((5,), float(round) if value is None else value)
    return Checkpoint(round, {"model": filled, "rule.step": torch.tensor(3.0)}, {"pending": {"round": round}})


def same(found: Checkpoint | None, expected: Checkpoint) -> bool:
    assert found is not None
    assert found.tensors.keys() == expected.tensors.keys()
    equal = all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())
    return found.round == expected.round and equal and found.state["pending"] == expected.state["pending"]


class Killed(BaseException):
    """The process ends here: nothing catches it."""


class Faults:
    """Lets the first calls of a system function pass, then fails one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, passing: int, error: BaseException) -> None:
        self._left, self._error, self.happened = passing, error, False
        self._real: Callable[..., Any] = getattr(os, call)
        monkeypatch.setattr(os, call, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.happened and self._left == 0:
            self.happened = True
            raise self._error
        self._left -= 1
        return self._real(*args, **kwargs)


def faults(folder: Path, action: Callable[[Path], None], error: BaseException) -> Iterator[Path]:
    """Run ``action`` once for every system call in it that can fail; yield each time what is left on disk."""
    for call in CALLS:
        for passing in range(100):
            place = folder / f"{call}-{passing}"
            place.mkdir()
            for round in (1, 2):
                checkpoint.write(place, of_round(round), keep=3)
            with pytest.MonkeyPatch.context() as patch:
                fault = Faults(patch, call, passing, error)
                try:
                    action(place)
                except (CheckpointError, Killed):
                    assert fault.happened
            if not fault.happened:
                break
            yield place


def test_round_trip(tmp_path: Path) -> None:
    tensors = {
        "model": torch.randn(7),
        "rule.m": torch.tensor([float("nan"), -0.0, float("inf")]),
        "rule.step": torch.tensor(5.0),
        "clients.client": torch.tensor([1, 2, 9]),
        "clients.row": torch.zeros(0, dtype=torch.int64),
    }
    state = {"pending": {"round": 3, "train": {"loss": 0.5}}, "segments": ["a.f32"], "machine": {"cpu": "x"}}
    checkpoint.write(tmp_path, Checkpoint(3, tensors, state), keep=1)
    found = checkpoint.read(tmp_path, 3)
    assert found.round == 3
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert found.tensors[name].numpy().tobytes() == tensor.numpy().tobytes()
    assert {name: found.state[name] for name in state} == state
    names = {path.name for path in checkpoint.folder_of(tmp_path, 3).iterdir()}
    assert names == {"tensors.safetensors", "state.json", "manifest.json"}


def test_a_record_that_goes_on_has_its_metrics_in_their_order(tmp_path: Path) -> None:
    record = {"round": 3, "test": {"loss": 0.5, "sensitivity": 0.9, "accuracy": 0.8}}  # the first stands for all
    checkpoint.write(tmp_path, Checkpoint(3, {"model": torch.zeros(2)}, {"pending": record}), keep=1)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert list(found.state["pending"]["test"]) == ["loss", "sensitivity", "accuracy"]


def test_the_newest_are_kept_by_round_not_by_time(tmp_path: Path) -> None:
    for round in (9, 10, 100, 8):
        checkpoint.write(tmp_path, of_round(round), keep=4)
    assert checkpoint.rounds_in(tmp_path) == [100, 10, 9, 8]
    checkpoint.write(tmp_path, of_round(11), keep=2)
    assert checkpoint.rounds_in(tmp_path) == [100, 11]
    assert same(checkpoint.newest(tmp_path), of_round(100))


@pytest.mark.parametrize("torn", [True, False], ids=["torn", "flipped"])
@pytest.mark.parametrize("name", FILES)
def test_the_only_one_stays_until_the_next_is_read_back_whole(
    name: str, torn: bool, tmp_path: Path, several: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def lying(file: int) -> None:
        real(file)
        path = Path(f"/proc/self/fd/{file}").readlink()
        if path.name == name:
            data = path.read_bytes()
            path.write_bytes(data[:-1] if torn else data[:-1] + bytes([data[-1] ^ 1]))

    checkpoint.write(tmp_path, of_round(1), keep=1)
    monkeypatch.setattr(os, "fsync", lying)
    with pytest.raises(CheckpointError, match="round 2 could not be written: what is read back is not what was"):
        checkpoint.write(tmp_path, of_round(2), keep=1)
    monkeypatch.setattr(os, "fsync", real)
    assert [path.name for path in tmp_path.iterdir()] == ["round-00000001"]
    assert same(checkpoint.newest(tmp_path), of_round(1))
    checkpoint.write(tmp_path, of_round(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["round-00000002"]


def test_none_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "missing") is None


@pytest.mark.parametrize("round", [2, 3], ids=["again", "new"])
def test_a_full_disk_leaves_every_earlier_checkpoint_whole(
    round: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    in_files(round, request)
    full = OSError(errno.ENOSPC, "No space left on device")
    tried = 0
    for place in faults(tmp_path, lambda place: checkpoint.write(place, of_round(round, 7.0), keep=3), full):
        tried += 1
        for old in (1, 2):
            found = checkpoint.read(place, old)
            assert same(found, of_round(old)) or (old == round and same(found, of_round(old, 7.0)))
        # Once there is space again, it is written, and nothing of the failure is left.
        checkpoint.write(place, of_round(round, 7.0), keep=3)
        assert same(checkpoint.newest(place), of_round(round, 7.0))
        assert {path.name for path in place.iterdir()} == {f"round-{r:08d}" for r in {1, 2, round}}
    assert tried >= 8


def test_the_error_says_which_round_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Faults(monkeypatch, "fsync", 0, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(CheckpointError, match=r"checkpoint of round 4 could not be written: .*No space left"):
        checkpoint.write(tmp_path, of_round(4), keep=1)
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("round", [2, 3], ids=["again", "new"])
def test_a_process_that_is_killed_leaves_the_old_or_the_new(
    round: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    in_files(round, request)
    for place in faults(tmp_path, lambda place: checkpoint.write(place, of_round(round, 7.0), keep=3), Killed()):
        found = checkpoint.newest(place)
        assert (
            same(found, of_round(2)) or same(found, of_round(round, 7.0)) or (round == 2 and same(found, of_round(1)))
        )
        checkpoint.write(place, of_round(4), keep=3)
        assert same(checkpoint.newest(place), of_round(4))
        assert all(path.name.startswith("round-") for path in place.iterdir())


def test_every_flipped_byte_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for round in (1, 2):
        checkpoint.write(tmp_path, of_round(round), keep=2)
    for path in sorted(checkpoint.folder_of(tmp_path, 2).iterdir()):
        whole = path.read_bytes()
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << (place % 8)
            path.write_bytes(damaged)
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                found = checkpoint.newest(tmp_path)
            if same(found, of_round(2)):
                # White space of the manifest.
                assert json.loads(damaged) == json.loads(whole)
            else:
                assert same(found, of_round(1))
                assert "checkpoint unusable, trying the one before: round-00000002" in caplog.text
        path.write_bytes(whole)
    assert same(checkpoint.newest(tmp_path), of_round(2))


@pytest.mark.parametrize("name", ["tensors.safetensors", *FILES])
@pytest.mark.parametrize("kept", [None, 0, 0.5, 1])
def test_a_torn_missing_or_damaged_file_is_noticed_and_named(
    name: str,
    kept: float | None,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if name != "tensors.safetensors":
        request.getfixturevalue("several")
    for round in (1, 2):
        checkpoint.write(tmp_path, of_round(round), keep=2)
    path = checkpoint.folder_of(tmp_path, 2) / name
    if kept is None:
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[: int(kept * len(data))] if kept < 1 else data[:-1] + bytes([data[-1] ^ 1]))
    with caplog.at_level(logging.WARNING):
        assert same(checkpoint.newest(tmp_path), of_round(1))
    (line,) = caplog.messages
    assert "trying the one before: round-00000002" in line
    # A manifest that is no JSON any more, or lacks names, says so in other words.
    assert name in line or (name == "manifest.json" and kept is not None)


def test_if_none_is_whole_that_is_said(tmp_path: Path) -> None:
    for round in (1, 2):
        checkpoint.write(tmp_path, of_round(round), keep=2)
        (checkpoint.folder_of(tmp_path, round) / "state.json").write_text("{}")
    with pytest.raises(ConfigError, match="none of the 2 checkpoints is whole; start again"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_reader_beside_a_driver_follows_it_to_the_next(
    keep: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint.read

    def read_too_late(checkpoints: Path, round: int, clients: Path | None = None) -> Checkpoint:
        for later in range(round + 1, 4):
            checkpoint.write(checkpoints, of_round(later), keep)
        return real(checkpoints, round, clients)

    checkpoint.write(tmp_path, of_round(1), keep)
    monkeypatch.setattr(checkpoint, "read", read_too_late)
    assert same(checkpoint.newest(tmp_path), of_round(3))


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    checkpoint.write(tmp_path, of_round(1), keep=1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 99; this fedray reads 1 and 2"):
        checkpoint.read(tmp_path, 1)


def test_a_folder_of_another_round_is_not_taken_for_its_own(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, of_round(1), keep=1)
    checkpoint.folder_of(tmp_path, 1).rename(checkpoint.folder_of(tmp_path, 5))
    with pytest.raises(ValueError, match="round"):
        checkpoint.read(tmp_path, 5)


def test_a_history_stays_beside_the_newest(tmp_path: Path) -> None:
    for round in range(1, 11):
        checkpoint.write(tmp_path, of_round(round), keep=2, history=4)
    assert checkpoint.rounds_in(tmp_path) == [10, 9, 8, 4]

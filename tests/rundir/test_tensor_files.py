"""Large tensors of a checkpoint lie in several files: no number is lost or changed, and a run goes on as from one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedray.rundir import checkpoint, tensor_files
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.tensor_files import ALONE, Mapped, Shared, files_of

TENSORS = {
    "model": torch.tensor([1.5, float("nan"), -0.0, float("inf"), *range(7)]),
    "rule.step": torch.tensor(5.0),
    "rule.none": torch.zeros(0),
    "rule.square": torch.arange(12.0, dtype=torch.float64).view(3, 4),
    "clients.row": torch.arange(2),
    "clients.half": torch.randn(9, generator=torch.Generator().manual_seed(0)).bfloat16(),
}


@pytest.mark.parametrize("largest", [8, 16, 24, 40, 96, 1000])
def test_files_hold_each_number_once_in_order_and_no_file_too_many(
    largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_files, "LARGEST", largest)
    shared = Shared.out(TENSORS)
    assert all(sum(piece.nbytes for piece in held.values()) <= largest for held in shared.files.values())
    shared.write(tmp_path, 1)
    written = {path.name: load_file(path) for path in sorted(tmp_path.iterdir())}
    assert list(written) == list(shared.files) == (files_of(shared.index) or [ALONE])
    for name, tensor in TENSORS.items():
        pieces = [held[name] for held in written.values() if name in held]
        assert len(pieces) == (1 if tensor.nbytes <= largest else -(-tensor.nbytes // largest)), "whole where it fits"
        bits = b"".join(piece.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for piece in pieces)
        assert bits == tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def test_what_was_cut_is_read_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "LARGEST", 16)
    checkpoint.write(tmp_path, Checkpoint(1, TENSORS, {"pending": None}), keep=1)
    found = checkpoint.read(tmp_path, 1)
    assert found.state.keys() == {"pending", "format", "round"}, "where tensors lie is no state of the run"
    assert found.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (found.tensors[name].dtype, found.tensors[name].shape) == (tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(found.tensors[name].float().numpy(), tensor.float().numpy())


def test_mapped_files_may_be_deleted_and_are_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver deletes its older checkpoints, whoever reads them."""
    monkeypatch.setattr(tensor_files, "LARGEST", 16)
    shared = Shared.out(TENSORS)
    shared.write(tmp_path, 1)
    one, other = Mapped(tmp_path, shared.index), Mapped(tmp_path, shared.index)
    shutil.rmtree(tmp_path)
    one["rule.step"].zero_()
    one["rule.square"].zero_()
    assert float(other["rule.step"]) == 5.0
    assert torch.equal(other["rule.square"], TENSORS["rule.square"])
    with pytest.raises(KeyError):
        one["rule.other"]


def test_who_asks_whether_a_tensor_is_there_reads_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "LARGEST", 16)
    shared = Shared.out(TENSORS)
    shared.write(tmp_path, 1)
    found = Mapped(tmp_path, shared.index)
    monkeypatch.setattr(Mapped, "__getitem__", None)
    assert "model" in found
    assert "other" not in found
    assert len(found) == len(TENSORS)

"""Large tensors of a checkpoint lie in several files: no number is lost or changed, and a run goes on as from one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedray.rundir import checkpoint, durable, tensor_files
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


@pytest.mark.parametrize("piece", [8, 16, 40])
def test_a_file_is_read_back_a_piece_at_a_time(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mapped of a file counts as memory: all of a model would be a copy of it."""
    sizes: list[int] = []
    equal = tensor_files._equal

    def seen(one: torch.Tensor, other: torch.Tensor) -> bool:
        sizes.append(one.nbytes)
        return equal(one, other)

    monkeypatch.setattr(tensor_files, "_PIECE", piece)
    monkeypatch.setattr(tensor_files, "_equal", seen)
    Shared.out(TENSORS).write(tmp_path, 1)
    rows = max(tensor[:1].nbytes if tensor.dim() else tensor.nbytes for tensor in TENSORS.values())
    assert max(sizes) <= max(piece, rows)
    assert sum(sizes) == sum(tensor.nbytes for tensor in TENSORS.values()), "all of it"


@pytest.mark.parametrize("piece", [8, 1000])
def test_a_byte_that_is_read_back_otherwise_is_found_wherever_it_is(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_files, "_PIECE", piece)
    write, held = durable.write, {"model": torch.arange(7.0), "square": torch.arange(12).view(3, 4)}
    for place in (-1, -97, -100, -124):

        def damaged(path: Path, content: Any, place: int = place) -> None:
            write(path, content)
            whole = bytearray(path.read_bytes())
            whole[place] ^= 1
            path.write_bytes(whole)

        monkeypatch.setattr(durable, "write", damaged)
        with pytest.raises(OSError, match="what is read back is not what was written"):
            Shared.out(held).write(tmp_path, 1)

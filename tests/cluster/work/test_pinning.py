"""Locking the pages that a GPU copies to and from: all of them, once, and given back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fedray.cluster.work import pinning
from fedray.cluster.work.memory import Buffer
from fedray.cluster.work.pinning import pin, unpin


class Cudart:
    """CUDA's runtime: what is locked, by its first address."""

    cudaError = SimpleNamespace(success=0)

    def __init__(self) -> None:
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, start: int, size: int, flags: int) -> int:
        if start in self.locked:
            return 712  # cudaErrorHostMemoryAlreadyRegistered
        self.locked[start] = size
        return 0

    def cudaHostUnregister(self, start: int) -> None:
        del self.locked[start]


@pytest.mark.parametrize("order", [("a", "b", "none"), ("none", "b", "a")])
def test_the_span_is_that_of_all_tensors_in_whatever_order(
    order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart = Cudart()
    monkeypatch.setattr(pinning, "_cudart", lambda: cudart)
    whole = torch.zeros(10, dtype=torch.float64)
    parts = {"a": whole[:3], "b": whole[3:], "none": whole[:0]}
    tensors = {name: parts[name] for name in order}
    assert pin(tensors)
    assert cudart.locked == {whole.data_ptr(): 80}

    def refused_before(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA keeps the refusal for the next launch")

    monkeypatch.setattr(torch, "zeros", refused_before)
    assert not pin(tensors), "a refusal is no error, now or later"
    unpin(tensors)
    assert cudart.locked == {}


def test_where_there_is_nothing_to_lock_cuda_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def no() -> None:
        raise AssertionError("this would open a context on a GPU")

    monkeypatch.setattr(pinning, "_cudart", no)
    assert not pin({})
    assert not pin({"none": torch.empty(0)})


@pytest.mark.gpu
def test_a_pinned_buffer_and_what_is_refused() -> None:
    """A refusal, here of what is pinned already, disturbs nothing that comes after it."""
    buffer = Buffer({"a": 5, "b": 3000, "none": 0}, torch.float64, pinned=True)
    assert buffer.tensors["b"].is_pinned()
    assert not pin(buffer.tensors)
    there = torch.arange(3000, dtype=torch.float64, device="cuda")
    buffer.tensors["b"].copy_(there)
    assert torch.equal(buffer.handle.open()["b"], there.cpu())
    for _ in range(2):
        buffer.close()
    assert not buffer.tensors["b"].is_pinned()
    assert not pin({"none": torch.empty(0)})

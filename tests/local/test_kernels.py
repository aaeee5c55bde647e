"""Switches of the whole process: set for a run, put back whatever happens, and errors that say what to do."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest
import torch
from torch.backends import cudnn
from torch.backends.cuda import matmul
from torch.utils import deterministic as memory

from fedray.local.kernels import cuda_kernels, lack_told, memory_told


def switches() -> tuple[Any, ...]:
    """All that a run may set."""
    return (
        matmul.allow_tf32,
        cudnn.allow_tf32,
        cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )


@pytest.fixture(autouse=True)
def _own_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


def test_a_run_without_tf32_and_with_equal_bits() -> None:
    before = switches()
    with cuda_kernels("fp32", deterministic=True):
        assert switches() == (False, False, False, True, False, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert switches() == before


def test_what_the_caller_had_set_comes_back_also_from_an_error_inside_another_run() -> None:
    before = switches()
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.benchmark = True
    callers = switches()
    try:

        def fail() -> None:
            with cuda_kernels("tf32", deterministic=False):
                assert switches() == (True, True, True, False, False, False), "speed may choose by the clock"
                with cuda_kernels("fp32", deterministic=True):
                    raise RuntimeError("by hand")

        with pytest.raises(RuntimeError, match="by hand"):
            fail()
        assert switches() == callers
    finally:
        torch.use_deterministic_algorithms(before[3], warn_only=before[4])
        cudnn.benchmark = before[2]
    assert switches() == before


def test_a_workspace_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with cuda_kernels("fp32", deterministic=True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_of_warnings_only_the_one_about_another_order_of_weights_is_silenced() -> None:
    with warnings.catch_warnings(record=True) as told, cuda_kernels("fp32", deterministic=True):
        warnings.simplefilter("default", RuntimeWarning)
        warnings.warn("RNN module weights are not part of single contiguous chunk of memory", UserWarning, stacklevel=1)
        warnings.warn("something else", RuntimeWarning, stacklevel=1)
    assert [str(one.message) for one in told] == ["something else"]


def test_an_operation_without_such_a_kernel_says_what_can_be_done() -> None:
    """The words are torch's own."""
    words = r"^cumsum_cuda_kernel has no .* kernel: with local\.deterministic=false"
    with pytest.raises(RuntimeError, match=words), lack_told():
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set ...")
    with pytest.raises(RuntimeError, match=r"^something else$"), lack_told():
        raise RuntimeError("something else")


def test_memory_that_is_out_is_a_memory_error() -> None:
    with pytest.raises(MemoryError), memory_told():
        torch.empty(1 << 60)
    with pytest.raises(RuntimeError, match=r"^something else$"), memory_told():
        raise RuntimeError("something else")

"""The choice of CUDA kernels: switches of the whole process, set for a run and put back."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import torch
from torch.backends import cudnn
from torch.backends.cuda import matmul
from torch.utils import deterministic as memory

from fedray.core.errors import one_line
from fedray.local.task import Precision

# Without a fixed size of scratch memory cuBLAS may add in another order; torch reads this with its first product.
_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def cuda_kernels(precision: Precision, deterministic: bool) -> Iterator[None]:
    """Set the switches, and in the end put them back.

    Args:
        precision: under ``tf32`` matrix products and convolutions round their inputs to TF32.
        deterministic: only kernels that give equal bits for equal inputs; an operation that has none raises.
    """
    before = (
        (matmul.allow_tf32, cudnn.allow_tf32),
        cudnn.benchmark,
        (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        memory.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )
    if deterministic:
        os.environ.setdefault(*_WORKSPACE)
    with warnings.catch_warnings():
        # Ours is another order of a recurrent layer's weights than cuDNN's, which says that it copies them.
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk", UserWarning)
        # Trying which kernel is fastest would choose by the clock; filling new memory only finds programs that read it.
        _switch((precision == "tf32",) * 2, cudnn.benchmark and not deterministic, (deterministic, False), False)
        try:
            yield
        finally:
            _switch(*before)


def _switch(tf32: tuple[bool, bool], benchmark: bool, deterministic: tuple[bool, bool], fill: bool) -> None:
    matmul.allow_tf32, cudnn.allow_tf32 = tf32
    cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    memory.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@contextlib.contextmanager
def lack_told() -> Iterator[None]:
    """Add to the error of an operation without a deterministic kernel what can be done about it in fedray."""
    try:
        yield
    except RuntimeError as error:
        operation, lacks, _ = str(error).partition(" does not have a deterministic implementation")
        if not lacks:
            raise
        raise RuntimeError(
            f"{operation} has no deterministic CUDA kernel: with local.deterministic=false it runs, "
            "and two runs need not agree bit for bit"
        ) from error


@contextlib.contextmanager
def memory_told() -> Iterator[None]:
    """Raise MemoryError, as Python does, in place of the plain RuntimeError of torch where the host's memory is out."""
    try:
        yield
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise MemoryError(one_line(error)) from None
        raise

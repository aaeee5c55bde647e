"""The question if a CPU computes in bfloat16 itself, or torch lets it do so in float32."""

from __future__ import annotations

import torch

from fedray.local.task import Precision


def native_bf16() -> bool:
    """Tell if the CPU of this machine has instructions for products of bfloat16 (AVX-512 BF16, or AMX).

    Torch has no public question for it; of a CPU without AVX, as of ARM, its own library of kernels is asked.
    """
    cpu = torch.cpu
    if cpu._is_avx2_supported():
        return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def emulated_told(precision: Precision, device: torch.device) -> tuple[str, ...]:
    """Warn of a precision that is slower than float32, as the CPU of this machine does not have it.

    >>> emulated_told("fp32", torch.device("cpu"))
    ()
    """
    if precision != "bf16" or device.type != "cpu" or native_bf16():
        return ()
    lacking = "the CPU of this machine has no bfloat16 of its own (AVX-512 BF16, AMX), and emulates it"
    return (f"local.precision=bf16: {lacking}, which is slower than fp32; leave it out, or take a CPU that has it",)

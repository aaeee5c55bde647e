"""A precision that the CPU does not have is told, with what it costs; one that it has is not."""

from __future__ import annotations

import pytest
import torch

from fedray.local import emulation
from fedray.local.emulation import emulated_told, native_bf16


@pytest.mark.parametrize(
    ("avx2", "avx512_bf16", "amx", "other", "native"),
    [
        (True, False, False, True, False),  # oneDNN takes bfloat16 by AVX-512 alone, and emulates it
        (True, True, False, True, True),
        (True, False, True, True, True),
        (False, False, False, True, True),  # no x86
        (False, False, False, False, False),
    ],
)
def test_bf16_is_asked_of_the_cpu(
    avx2: bool, avx512_bf16: bool, amx: bool, other: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"avx2": avx2, "avx512_bf16": avx512_bf16, "amx_tile": amx}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda answer=answer: answer)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: other)
    assert native_bf16() == native


def test_where_it_is_emulated_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.setattr(emulation, "native_bf16", lambda: False)
    (line,) = emulated_told("bf16", cpu)
    assert line.startswith("local.precision=bf16: ")
    assert "slower than fp32" in line
    assert emulated_told("bf16", gpu) == emulated_told("fp32", cpu) == ()
    monkeypatch.setattr(emulation, "native_bf16", lambda: True)
    assert emulated_told("bf16", cpu) == ()

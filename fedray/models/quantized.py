"""The frozen base of adapters in 8 or 4 bits a weight, as bitsandbytes holds it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError, one_line

Quantization = Literal["int8", "nf4", "fp4"]

_BITS: Mapping[str, int] = {"int8": 8, "nf4": 4, "fp4": 4}
_BYTES = "fedray_bytes"
_BLOCK, _BLOCKS = 64, 256
"""The weights that share a scale of 8 bits, and the scales that share one of float32 (arXiv:2305.14314, section 3)."""


def kept_whole(shapes: Any, new: Collection[str]) -> list[str]:
    """Return the names of the linear layers that stay as they are: the output layer, and those of a new head.

    Args:
        shapes: the model of shapes alone.
        new: names of the parameters that the folder lacks.
    """
    heads = {name.rpartition(".")[0] for name in new}
    apart = shapes.get_output_embeddings()
    return [name for name, part in _linear(shapes) if part is apart or name in heads]


def _linear(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]


def loading(kind: Quantization, dtype: torch.dtype, whole: Sequence[str]) -> dict[str, Any]:
    """Return what ``from_pretrained`` of transformers takes, so that it quantizes the linear layers of what it reads.

    Of 4 bits scales are quantized once more (double quantization).  The model is made on the CPU, wherever it is to
    run.

    Args:
        kind: ``int8``, ``nf4`` or ``fp4``.
        dtype: the type in which weights of 4 bits are multiplied.
        whole: names of the layers that stay as they are.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    try:
        import_module("bitsandbytes")
    except ImportError as error:
        raise ConfigError(
            f"model.quantization: {kind} needs the package bitsandbytes ({one_line(error)}); install it: "
            "pip install 'fedray[quantization]'"
        ) from None
    said: dict[str, Any] = {"load_in_8bit": True}
    if _BITS[kind] == 4:
        said = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": kind,
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
    config = import_module("transformers").BitsAndBytesConfig(**said, llm_int8_skip_modules=list(whole))
    return {"quantization_config": config, "device_map": {"": "cpu"}}


def quiet() -> None:
    """Let bitsandbytes, which peft imports where it is installed, tell errors alone.

    It warns at each multiplication in 8 bits, and of kernels that only inference would use.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def keep_still(model: nn.Module) -> None:
    """Let no layer of 4 bits rewrite its weights when it is evaluated.

    On CPUs with bfloat16 it would, in another order of bits and with other scales, and a worker that has evaluated
    would train another base than one that has not.
    """
    part: Any
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False


def count_as(shapes: nn.Module, kind: Quantization, whole: Collection[str]) -> None:
    """Let the weights of a model of shapes alone be counted by :func:`bytes_of` as they would be held.

    Args:
        shapes: the model.
        kind: ``int8``, ``nf4`` or ``fp4``.
        whole: names of the layers that stay as they are.
    """
    for name, part in _linear(shapes):
        if name not in whole:
            setattr(part.weight, _BYTES, _held(part.weight.numel(), part.weight.shape[0], kind))


def is_quantized(model: nn.Module) -> bool:
    """Return whether a model of transformers, with adapters or without, has a base of 8 or of 4 bits."""
    return any(getattr(part, "is_quantized", False) for part in model.modules())


def mixes_rows(layer: nn.Module) -> bool:
    """Tell if the outputs of a layer for a row depend on the other rows of its batch, as in 8 bits.

    Columns in which any row has an outlier are multiplied apart, in float16 (LLM.int8(), arXiv:2208.07339).

    >>> mixes_rows(nn.Linear(3, 2))
    False
    """
    # Who has such a layer has imported its package, which takes its time where nobody needs it.
    bitsandbytes = sys.modules.get("bitsandbytes")
    return bitsandbytes is not None and isinstance(layer, bitsandbytes.nn.Linear8bitLt)


def bytes_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor, as the weight of a quantized layer with its scales.

    >>> bytes_of(torch.zeros(3))
    12
    """
    if (said := vars(tensor).get(_BYTES)) is not None:
        return int(said)
    nested = getattr(vars(tensor).get("quant_state"), "state2", None)
    found = (getattr(tensor, "absmax", None), getattr(nested, "absmax", None), getattr(tensor, "SCB", None))
    return sum(one.nbytes for one in (tensor, *found) if isinstance(one, Tensor))


def _held(weights: int, rows: int, kind: Quantization) -> int:
    """Return the bytes of a layer.

    >>> _held(64 * 256, 64, "nf4"), _held(64 * 256, 64, "int8")
    (8452, 16640)
    """
    if _BITS[kind] == 8:
        return weights + 4 * rows
    blocks = -(-weights // _BLOCK)
    return -(-weights // 2) + blocks + 4 * -(-blocks // _BLOCKS)

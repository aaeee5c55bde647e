"""The operations of a model for which a stack has slower kernels, counted in one forward pass rather than timed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Work:
    """What a forward pass works through for one example, on average over the operations of a kind; 0 without any.

    Args:
        unfolded: numbers in the unfolded input of a convolution: for each place of the output the inputs below the
            kernel, ``in_channels / groups * kernel size``.  One with a single input channel a group counts as 0: that
            has kernels of its own, in a stack too.
        scores: attention scores, ``heads * queries * keys``, of fused attention, which does not keep them in memory.
    """

    unfolded: float = 0.0
    scores: float = 0.0


def work(module: nn.Module, x: Tensor) -> Work:
    """Return the work of ``module`` on the examples ``x`` ``[B, ...]``, the same on every machine.

    >>> work(nn.Conv2d(3, 6, 5), torch.zeros(2, 3, 32, 32))  # 28 * 28 places, 3 * 5 * 5 inputs
    Work(unfolded=58800.0, scores=0.0)

    Args:
        module: the model, called once in training mode, without gradients; its buffers may move.
        x: inputs, at least one.
    """
    # Imported here: nothing else needs it.
    from torch.utils.flop_counter import FlopCounterMode

    found: dict[str, list[int]] = {"unfolded": [], "scores": []}

    def convolution(
        source: torch.Size,
        weight: torch.Size,
        _b: Any,
        _s: Any,
        _p: Any,
        _d: Any,
        across: bool,
        *_: Any,
        **more: Any,
    ) -> int:
        places = math.prod((source if across else more["out_shape"])[2:])
        found["unfolded"].append(places * math.prod(weight[1:]) if weight[1] > 1 else 0)
        return 0

    def attention(query: torch.Size, key: torch.Size, *_: Any, **more: Any) -> int:
        found["scores"].append(math.prod(query[1:-1]) * key[-2])
        return 0

    kinds = {
        torch.ops.aten.convolution: convolution,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
    }
    with torch.no_grad(), torch.random.fork_rng(devices=[]), FlopCounterMode(display=False, custom_mapping=kinds):
        module.train()(x)
    return Work(**{name: sum(counts) / len(counts) for name, counts in found.items() if counts})

"""One small case for each registered model on each kind of data that it is for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedray.data.spec import DataSpec

FEATURES = DataSpec(shape=(6,), outputs=3)
IMAGES = DataSpec(shape=(2, 8, 8), outputs=3)
TOKENS = DataSpec(shape=(5,), outputs=7, vocabulary=7)
TEXT = DataSpec(shape=(6,), outputs=9, vocabulary=9, target=(6,))
SEQUENCES = DataSpec(shape=(5, 4), outputs=3)
TARGETS = DataSpec(shape=(6,), outputs=2, task="regression")

# Every registered model, on every kind of data that it is for, small enough to train in a blink.
CASES: list[tuple[dict[str, Any], DataSpec]] = [
    ({"name": "logistic"}, FEATURES),
    ({"name": "logistic", "bias": False}, TARGETS),
    ({"name": "mlp", "hidden": [5, 4]}, FEATURES),
    ({"name": "mlp", "hidden": [5], "activation": "tanh"}, IMAGES),
    ({"name": "mlp", "hidden": [5], "activation": "gelu"}, TARGETS),
    ({"name": "cnn", "channels": [3, 4], "hidden": 5}, IMAGES),
    ({"name": "resnet18_gn", "width": 4}, IMAGES),
    ({"name": "lstm", "embedding": 3, "hidden": 4}, TOKENS),
    ({"name": "decoder", "dim": 8, "heads": 2, "layers": 1}, TEXT),
    ({"name": "transformer", "dim": 8, "heads": 2}, TOKENS),
    ({"name": "transformer", "dim": 8, "heads": 2}, IMAGES),
    ({"name": "transformer", "dim": 8, "heads": 2, "layers": 1}, SEQUENCES),
    ({"name": "transformer", "dim": 8, "heads": 2, "layers": 1}, FEATURES),
]
EVERY_CASE = pytest.mark.parametrize(
    ("node", "spec"),
    CASES,
    ids=[f"{node['name']}-{len(spec.shape)}d-{index}" for index, (node, spec) in enumerate(CASES)],
)


def batch(spec: DataSpec, *sizes: int) -> tuple[Tensor, Tensor]:
    """Random inputs ``[*sizes, *shape]`` and targets that fit ``spec``, always the same."""
    draw = torch.Generator().manual_seed(5)
    shape = (*sizes, *spec.shape)
    x = torch.randint(spec.vocabulary, shape, generator=draw) if spec.vocabulary else torch.randn(shape, generator=draw)
    if spec.task == "regression":
        return x, torch.randn((*sizes, spec.outputs), generator=draw)
    return x, torch.randint(spec.outputs, (*sizes, *spec.target), generator=draw)


def count(module: nn.Module) -> int:
    """Count the parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(model: Any, spec: DataSpec) -> nn.Module:
    """Build the module without its numbers: large models are counted without being drawn."""
    with torch.device("meta"):
        module: nn.Module = model.build(spec)
    return module

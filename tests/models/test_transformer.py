"""The transformer against torch, its patches against unfold, and its sense of order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedray.core.errors import ConfigError
from fedray.data.spec import Column, DataSpec
from fedray.models import Transformer, initial_model, resolve_model
from fedray.models.transformer import Layer, Patches
from tests.models.cases import TOKENS, count, on_meta


@pytest.mark.parametrize(
    ("model", "spec", "parameters"),
    [
        # Embedding, positions, two layers (12 dim^2 + 13 dim), norm, head.
        (Transformer(), DataSpec((80,), 10, vocabulary=90), 64 * 90 + 64 * 80 + 2 * (12 * 64**2 + 13 * 64) + 128 + 650),
        (Transformer(layers=1), DataSpec((3, 8, 8), 10), 64 * 49 + 64 * 4 + 12 * 64**2 + 13 * 64 + 128 + 650),
    ],
)
def test_parameter_count(model: Any, spec: DataSpec, parameters: int) -> None:
    assert count(on_meta(model, spec)) == parameters


def test_transformer_layer_equals_torchs() -> None:
    ours = Layer(dim=8, heads=2, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    # The same parameters in the same order but for the norms, which torch registers last.
    order = ["norm1", "self_attn.in_proj_", "self_attn.out_proj", "norm2", "linear1", "linear2"]
    names = [name for part in order for name, _ in theirs.named_parameters() if name.startswith(part)]
    with torch.no_grad():
        for parameter, name in zip(ours.parameters(), names, strict=True):
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
            theirs.get_parameter(name).copy_(parameter)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_patches_equal_unfold() -> None:
    x = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).reshape(2, 3, 8, 12)
    expected = functional.unfold(x, kernel_size=4, stride=4).transpose(1, 2)
    assert torch.equal(Patches(4)(x), expected)


def test_transformer_without_positions_ignores_the_order() -> None:
    module = initial_model(Transformer(dim=8, heads=2), TOKENS, seed=4)
    tokens = torch.tensor([[0, 1, 2, 3, 4]])
    assert not torch.allclose(module(tokens), module(tokens.flip(1)))
    nn.init.zeros_(module.get_parameter("positions"))
    torch.testing.assert_close(module(tokens), module(tokens.flip(1)))


def test_padding_of_texts_is_seen_by_nobody() -> None:
    columns = (Column("input_ids", (8,), 9), Column("attention_mask", (8,), 2))
    module = initial_model(Transformer(dim=8, heads=2), DataSpec((), 3, columns=columns), seed=4)
    plain = initial_model(Transformer(dim=8, heads=2), DataSpec((8,), 3, vocabulary=9), seed=4)
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    torch.testing.assert_close(module(ids, torch.ones_like(ids)), plain(ids))
    short = module(ids[:, :5], torch.ones(1, 5, dtype=torch.int64))
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0]])
    for behind in (0, 7):
        torch.testing.assert_close(module(torch.where(mask > 0, ids, behind), mask), short)
    assert not torch.allclose(module(ids, torch.ones_like(ids)), short)


@pytest.mark.parametrize(
    ("node", "spec", "message"),
    [
        ("transformer", DataSpec((2, 2, 2, 2), 2), r"transformer needs tokens, images, feature seq.*\(2, 2, 2, 2\)"),
        ("transformer", DataSpec((3, 8, 10), 2), r"model.patch: 4 must divide .* the data has \(3, 8, 10\)"),
    ],
)
def test_misfit_is_a_config_error(node: str, spec: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node).build(spec)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "transformer", "dim": 10, "heads": 4}, r"model: heads must divide dim, got heads 4 and dim 10"),
    ],
)
def test_bad_options_are_config_errors(node: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node)

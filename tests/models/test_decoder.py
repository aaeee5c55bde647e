"""The decoder against torch's layers, its sense of distance, and what no position may see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import Decoder, initial_model, resolve_model
from fedray.models.decoder import CausalAttention, rotated
from fedray.models.transformer import Layer
from tests.models.cases import FEATURES, TEXT, batch, count, on_meta


def test_parameter_count() -> None:
    # Embedding, which is the head too, and three layers (12 dim^2 + 13 dim), norm.
    assert count(on_meta(Decoder(), DataSpec((64,), 90, vocabulary=90))) == 96 * 90 + 3 * (12 * 96**2 + 13 * 96) + 192


def test_a_layer_without_positions_equals_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.models.decoder.rotated", lambda x: x)
    ours = Layer(8, 2, 0.0, CausalAttention)
    theirs = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    order = ["norm1", "self_attn.in_proj_", "self_attn.out_proj", "norm2", "linear1", "linear2"]
    names = [name for part in order for name, _ in theirs.named_parameters() if name.startswith(part)]
    with torch.no_grad():
        for parameter, name in zip(ours.parameters(), names, strict=True):
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
            theirs.get_parameter(name).copy_(parameter)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    torch.testing.assert_close(ours(x), theirs(x, src_mask=mask), rtol=1e-4, atol=1e-4)


def test_rotations_are_complex_ones() -> None:
    x = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(1))
    turns = torch.polar(torch.ones(7, 3), torch.arange(7.0)[:, None] / 10_000 ** (torch.arange(3.0) / 3))
    turned = torch.complex(x[..., :3], x[..., 3:]) * turns
    torch.testing.assert_close(rotated(x), torch.cat([turned.real, turned.imag], dim=-1))


def test_no_position_sees_a_later_one_and_all_see_the_order_of_those_before() -> None:
    module = initial_model(Decoder(dim=8, heads=2, layers=2), TEXT, seed=4)
    tokens, _ = batch(TEXT, 1)
    logits, changed = module(tokens), tokens.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 9
    assert torch.equal(module(changed)[0, :4], logits[0, :4])
    assert not torch.allclose(module(changed)[0, 5], logits[0, 5])
    torch.testing.assert_close(module(tokens[:, :4]), logits[:, :4])  # of any length
    swapped = tokens[:, [1, 0, *range(2, 6)]]
    assert tokens[0, 0] != tokens[0, 1]
    assert not torch.allclose(module(swapped)[0, 5], logits[0, 5])


def test_the_head_is_the_embedding() -> None:
    module = Decoder(dim=8, heads=2).build(TEXT)
    assert module.get_parameter("head.weight") is module.get_parameter("embed.weight")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "decoder", "dim": 10, "heads": 4}, "dim / heads must be a whole even number, .* dim 10 and heads 4"),
        ({"name": "decoder", "dim": 12, "heads": 4}, "dim / heads must be a whole even number"),
        ({"name": "decoder", "layers": 0}, "layers must be at least 1, got 0"),
    ],
)
def test_bad_options_are_config_errors(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node)


def test_other_data_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"decoder needs token sequences of shape \(length,\); the data has \(6,\)"):
        Decoder().build(FEATURES)

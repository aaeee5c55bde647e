"""Attention of C clients at once is each client's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedray.data.columns.inputs import InputColumns
from tests.local.lane_models import worst


class Attends(nn.Module):
    """Attention with any masks, of a sequence to itself or to its first half."""

    def __init__(self, weights: bool, mask: str, across: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, bias=bias)
        self.weights, self.mask, self.across = weights, mask, across

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        other = x[:, :3] if self.across else x
        hidden = hidden[:, : other.shape[1]]
        length = (x.shape[1], other.shape[1])
        mask = torch.ones(length, dtype=torch.bool).triu(1) if self.mask == "causal" else None
        if self.mask == "heads":
            mask = (torch.arange(2 * len(x) * length[0] * length[1]) % 7 == 3).view(-1, *length)
        out, weights = self.attention(
            x, other, other, hidden if self.mask != "none" else None, need_weights=self.weights, attn_mask=mask
        )
        found: Tensor = out if weights is None else torch.cat([out, weights], dim=-1)
        return found


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("mask", ["none", "hidden", "causal", "heads"])
@pytest.mark.parametrize("across", [False, True])
def test_it_is_torchs_with_any_mask(weights: bool, mask: str, across: bool) -> None:
    torch.default_generator.manual_seed(3)
    x = InputColumns({"x": torch.randn(3, 2, 5, 8), "hidden": (torch.arange(30).view(3, 2, 5) % 5) == 4})
    # A mask for each head would have to be of the clients' rows: that one is alike for all who have as many.
    module = Attends(weights, mask, across, bias=mask != "causal")
    if mask == "heads":
        module.mask = "hidden"
    assert worst(module, x) <= 2e-6


def test_trained_parts_inside_it_alone_are_found() -> None:
    """Adapters of its output: torch takes those weights without calling the module that has them."""
    module = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("out_proj" in name)
    assert worst(module, torch.randn(3, 2, 5, 8)) <= 2e-6
    assert worst(module.eval(), torch.randn(3, 2, 5, 8)) <= 2e-6

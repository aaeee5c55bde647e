"""Modules of C clients at once are each client's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedray.core.layout import Layout
from fedray.local.lane_rules import Rule, rule_of
from fedray.local.lanes import LaneForward, lanes_of
from tests.local.lane_models import worst


class LlamaRMSNorm(nn.Module):
    """As transformers writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(width)), 1e-5

    def forward(self, x: Tensor) -> Tensor:
        found = x.to(torch.float32)
        found = found * torch.rsqrt(found.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * found.to(x.dtype)


class GemmaRMSNorm(LlamaRMSNorm):
    """Its weights are what is added to one."""

    def forward(self, x: Tensor) -> Tensor:
        found = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (found * (1.0 + self.weight.float())).type_as(x)


class CenteredRMSNorm(LlamaRMSNorm):
    """Called so, and it does something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(-1, keepdim=True))


class Conv1D(nn.Module):
    """As GPT-2 has it."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], -1)


class Renamed(nn.Linear):
    """A layer that inherits the forward of a known one."""


def only(module: nn.Module, leaf: str) -> nn.Module:
    """Return the module with all but one of its parameters frozen."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name == leaf)
    return module


IMAGES, SERIES, ROWS = torch.randn(3, 2, 4, 5, 5), torch.randn(3, 2, 4, 9), torch.randn(3, 2, 6, 4)


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (lambda: nn.Linear(4, 3), ROWS),
        (lambda: Renamed(4, 3, bias=False), ROWS),
        (lambda: only(nn.Linear(4, 3), "bias"), ROWS),
        (lambda: only(nn.Linear(4, 3), "weight"), ROWS),
        (lambda: nn.Embedding(7, 4, padding_idx=2), torch.arange(24).view(3, 2, 4) % 7),
        (lambda: nn.LayerNorm(4), ROWS),
        (lambda: nn.LayerNorm([6, 4], bias=False), ROWS),
        (lambda: only(nn.LayerNorm(4), "bias"), ROWS),
        (lambda: nn.RMSNorm(4, eps=1e-5), ROWS),
        (lambda: LlamaRMSNorm(4), ROWS),
        (lambda: GemmaRMSNorm(4), ROWS),
        (lambda: Conv1D(3, 4), ROWS),
        (lambda: only(Conv1D(3, 4), "bias"), ROWS),
        (lambda: nn.GroupNorm(2, 4), IMAGES),
        (lambda: only(nn.GroupNorm(2, 4), "weight"), SERIES),
        (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), SERIES),
        (lambda: nn.Conv2d(4, 6, 3, groups=2, padding="same", dilation=2), IMAGES),
        (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", bias=False), IMAGES),
        (lambda: only(nn.Conv2d(4, 6, 3), "bias"), IMAGES),
        (lambda: only(nn.Conv2d(4, 6, 3), "weight"), IMAGES),
        (lambda: nn.Conv3d(4, 2, 2), torch.randn(3, 2, 4, 3, 3, 3)),
    ],
)
def test_each_known_module_is_that_of_each_client(build: Callable[[], nn.Module], x: Tensor) -> None:
    torch.default_generator.manual_seed(3)
    assert worst(build(), x) <= 2e-6


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: CenteredRMSNorm(4), "CenteredRMSNorm is not known"),
        (lambda: nn.Embedding(5, 2, max_norm=1.0), "max_norm"),
        (lambda: nn.MultiheadAttention(4, 2), "batch_first=False"),
        (lambda: nn.BatchNorm1d(4), "BatchNorm1d is not known"),
        (lambda: nn.LSTM(4, 2), "LSTM is not known"),
    ],
)
def test_others_are_named(build: Callable[[], nn.Module], why: str) -> None:
    rule = rule_of(build())
    assert isinstance(rule, str)
    assert why in rule


def test_a_module_whose_forward_somebody_has_replaced_is_not_known() -> None:
    module = nn.Linear(2, 2)
    assert isinstance(rule_of(module), Rule)
    vars(module)["forward"] = lambda x: x
    assert rule_of(module) == "the forward of Linear is replaced"


@pytest.mark.parametrize("wrong", [-1, 7])
def test_an_id_beyond_the_table_is_not_another_clients(wrong: int) -> None:
    module = nn.Embedding(7, 4)
    layout = Layout.of(module)
    ids = torch.zeros(3, 2, 4, dtype=torch.int64)
    forward = LaneForward(module, layout, lanes_of(module, layout, ids[0]))  # type: ignore[arg-type]
    ids[1, 0, 0] = wrong
    with forward.installed(), pytest.raises(RuntimeError, match="index out of range in an Embedding"):
        forward({"weight": torch.randn(3, 7, 4)}, ids)

"""Adapters in a layout: which entries are the factors of one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedray.core.adapters import adapters_of, factor_of
from fedray.core.layout import Layout
from fedray.core.regions import Regions
from fedray.models.lora import adapted


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("lora_A.weight", "A"),
        ("layers.0.q_proj.lora_B.default.weight", "B"),
        ("embed.lora_embedding_A.default", "B"),
        ("embed.lora_embedding_B.default", "A"),
        ("my_lora_A.weight", None),
        ("lora_AB.weight", None),
        ("lora_dropout.default", None),
    ],
)
def test_a_factor_is_known_by_its_name(name: str, factor: str | None) -> None:
    assert factor_of(name) == factor


def net() -> nn.Module:
    return adapted(nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2))), r=2)


def test_factors_are_the_layers_tensors_in_every_row() -> None:
    module = net()
    layout = Layout.of(module)
    first, second = adapters_of(layout)
    assert (first.name, second.name) == ("0", "1.1")
    vector = layout.pack(module.state_dict())
    a, b = second.factors(torch.stack([vector, 2.0 * vector])[:, : layout.shared])
    layer = module[1][1]  # type: ignore[index]
    assert torch.equal(a[0], layer.lora_A.weight)
    assert torch.equal(a[1], 2.0 * layer.lora_A.weight)
    assert b.shape == (2, 2, 2)


def test_factors_at_home_or_frozen_are_none_that_travel() -> None:
    module, regions = net(), Regions(personal=("0",), frozen=("*.lora_B",))
    assert adapters_of(Layout.of(regions.freeze(module), regions)) == ()
    assert [one.name for one in adapters_of(Layout.of(net(), Regions(personal=("0",))))] == ["1.1"]


def test_factors_of_a_convolution_are_none_of_a_linear_layer() -> None:
    conv = nn.ModuleDict({"lora_A": nn.Conv2d(1, 2, 3, bias=False), "lora_B": nn.Conv2d(2, 4, 1, bias=False)})
    assert adapters_of(Layout.of(conv)) == ()

"""Adapters in a module of one's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.models.lora import LoRALinear, adapted, add_residuals, changes_base, merge_residuals


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def test_at_first_the_model_is_the_base_and_then_the_base_with_the_product() -> None:
    base, x = net(), torch.randn(5, 3)
    before = base(x)
    module = adapted(base, r=2, alpha=6.0)
    assert torch.equal(module(x), before)
    layer = module[0]  # type: ignore[index]
    assert isinstance(layer, LoRALinear)
    nn.init.normal_(layer.lora_B.weight)
    whole = layer.base_layer.weight + 3.0 * layer.lora_B.weight @ layer.lora_A.weight
    assert torch.allclose(layer(x), x @ whole.T + layer.base_layer.bias, atol=1e-6)


def test_the_factors_alone_are_trained_of_the_layers_that_are_named() -> None:
    module = adapted(net(), targets=["2"])
    assert [name for name, p in module.named_parameters() if p.requires_grad] == ["2.lora_A.weight", "2.lora_B.weight"]
    assert type(module[0]) is nn.Linear  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"targets": ["1"]}, r"no linear layer is called '1'; there are 0, 2$"),
        ({"r": 0}, "r must be at least 1"),
        ({"alpha": 0.0}, "alpha above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        adapted(net(), **options)  # type: ignore[arg-type]


class Twice(nn.Module):
    """An adapter of another kind."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.lora_A, self.lora_B, self.scaling = a, b, 1.0


def test_what_is_added_to_the_base_is_scaled_as_the_adapter_is_and_goes_into_the_weight() -> None:
    module, x = adapted(net(), r=2, alpha=6.0), torch.randn(5, 3)
    add_residuals(module, ["0.base_residual"])
    assert [name for name, _ in module.named_buffers()] == ["0.base_residual"]
    add_residuals(module)
    add_residuals(module)  # once for all
    assert [name for name, _ in module.named_buffers()] == ["0.base_residual", "2.base_residual"]
    assert not changes_base(module)
    before = module(x)
    layer = module[0]  # type: ignore[index]
    layer.base_residual.normal_()
    weight, residual = layer.base_layer.weight.detach().clone(), layer.base_residual.clone()
    after = module(x)
    assert not torch.allclose(after, before, atol=1e-3)
    assert changes_base(module)
    assert merge_residuals(module)
    assert torch.allclose(layer.base_layer.weight, weight + 3.0 * residual, atol=1e-6)
    assert torch.allclose(module(x), after, atol=1e-5)
    assert not changes_base(module)
    assert not merge_residuals(module)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 1), "the adapter of 0 is Conv2d; only bases of linear layers change"),
        (
            nn.ModuleDict({"x": nn.Linear(2, 1), "y": nn.Linear(2, 1)}),
            nn.ModuleDict({"x": nn.Linear(1, 2), "y": nn.Linear(1, 2)}),
            "the adapter of 0 is Linear, Linear; .* with one each",
        ),
    ],
)
def test_bases_of_other_adapters_do_not_change(a: nn.Module, b: nn.Module, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^algorithm: {words}"):
        add_residuals(nn.Sequential(Twice(a, b)))


def test_the_base_of_an_adapter_without_a_scale_does_not_change() -> None:
    layer = Twice(nn.Linear(2, 1), nn.Linear(1, 2))
    del layer.scaling
    with pytest.raises(ConfigError, match=r"^algorithm: 0 is Twice, .* \(lora_A, lora_B, scaling\)"):
        add_residuals(nn.Sequential(layer))

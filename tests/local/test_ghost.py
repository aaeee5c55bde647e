"""Which layers have a rule; what the rules give is compared with whole models in tests/local/test_per_example.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedray.local.ghost import ghost_of, ghosts


class Own(nn.Linear):
    """A layer that may do what it likes."""


@pytest.mark.parametrize(
    "layer",
    [
        Own(2, 2),
        nn.Conv2d(1, 1, 2, padding=1, padding_mode="circular"),
        nn.Embedding(3, 2, max_norm=1.0),
        nn.Embedding(3, 2, scale_grad_by_freq=True),
        nn.ConvTranspose2d(1, 1, 2),
        nn.LayerNorm(2),
    ],
)
def test_layers_whose_gradient_is_another_one_have_no_rule(layer: nn.Module) -> None:
    assert ghost_of(layer) is None


def test_a_layer_called_twice_or_never_and_a_tensor_of_two_layers_have_no_rule() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[3].weight = model[2].weight
    moved = frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))
    assert set(ghosts(model, dict.fromkeys("0123", 1), moved)) == {"0", "1"}
    assert set(ghosts(model, {"0": 2, "1": 1}, moved)) == {"1"}
    assert set(ghosts(model, dict.fromkeys("0123", 1), frozenset({"1.bias"}))) == {"1"}


def test_gram_matrices_and_products_give_the_same_norm() -> None:
    """The cheaper of the two is taken; in the middle both must agree."""
    few, many = nn.Linear(3, 2), nn.Linear(40, 30)
    for layer in (few, many):
        seen, grads = torch.randn(2, 3, 9, layer.in_features), torch.randn(2, 3, 9, layer.out_features)
        rule = ghost_of(layer)
        assert rule is not None
        wanted = torch.einsum("abto,abti->aboi", grads.double(), seen.double()).square().sum(dim=(2, 3))
        torch.testing.assert_close(rule.squares(seen, grads, frozenset({"weight"})), wanted, rtol=1e-6, atol=0.0)
        both = rule.squares(seen, grads, frozenset({"weight", "bias"}))
        torch.testing.assert_close(both - wanted, grads.double().sum(dim=2).square().sum(dim=2), rtol=1e-5, atol=1e-5)

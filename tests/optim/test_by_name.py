"""Optimizers by name are those of torch, with their options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fedray.optim import optimizers

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd": [{}, {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True}],
    "adam": [{}, {"weight_decay": 0.01}],
    "adamw": [{}],
    "rmsprop": [{}, {"momentum": 0.5}],
    "adagrad": [{}, {"initial_accumulator_value": 0.1}],
}


def test_the_table_of_options_is_complete() -> None:
    assert sorted(OPTIONS) == sorted(optimizers)


@pytest.mark.parametrize(("name", "options"), [(name, options) for name, many in OPTIONS.items() for options in many])
def test_an_optimizer_by_name_takes_the_steps_of_torchs_class_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    part = optimizers[name](**options)
    start = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    optimizer, oracle = part([ours]), part.kind([theirs], lr=part.lr, **options)
    assert isinstance(optimizer, part.kind)
    for step in range(5):
        grad = torch.randn(3, 50, generator=torch.Generator().manual_seed(1 + step))
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        oracle.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, start)

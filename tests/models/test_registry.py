"""The contract of every registered model, stacked and alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from fedray.data.spec import DataSpec
from fedray.models import initial_model, models, resolve_model
from tests.models.cases import CASES, EVERY_CASE, FEATURES, batch, on_meta


def test_every_registered_model_has_a_case() -> None:
    assert {node["name"] for node, _ in CASES} == set(models) - {"huggingface"}  # it has a file of its own


@EVERY_CASE
def test_contract(node: dict[str, Any], spec: DataSpec) -> None:
    module = initial_model(resolve_model(node), spec, seed=0)
    x, _ = batch(spec, 4)
    output = module(x)
    assert output.shape == (4, *(() if spec.task == "regression" else spec.target), spec.outputs)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert not list(module.buffers())
    assert module.get_parameter("head.weight").shape[0] == spec.outputs
    torch.testing.assert_close(module.eval()(x), output, rtol=0, atol=0)
    torch.testing.assert_close(module(x[1:2]), output[1:2])  # an example's output does not depend on its batch


@EVERY_CASE
@pytest.mark.one_in(3)
def test_training_stacked_is_training_one_by_one(node: dict[str, Any], spec: DataSpec) -> None:
    members = [initial_model(resolve_model(node), spec, seed) for seed in range(3)]
    stacked = {
        name: torch.stack([member.get_parameter(name).detach() for member in members])
        for name, _ in members[0].named_parameters()
    }
    x, y = batch(spec, 3, 4)
    empty = on_meta(resolve_model(node), spec)  # as the engine does: every parameter is passed in

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output = functional_call(empty, parameters, (x,))
        if spec.task == "regression":
            return functional.mse_loss(output, y)
        return functional.cross_entropy(output.movedim(-1, 1), y)

    gradients, losses = vmap(grad_and_value(loss))(stacked, x, y)
    leaves = {name: value.clone().requires_grad_() for name, value in stacked.items()}
    outer = torch.autograd.grad(vmap(loss)(leaves, x, y).sum(), list(leaves.values()))
    for index, member in enumerate(members):
        called = functional_call(empty, dict(member.named_parameters()), (x[index],))
        torch.testing.assert_close(called, member(x[index]))
        single = loss(dict(member.named_parameters()), x[index], y[index])
        single.backward()
        torch.testing.assert_close(losses[index], single.detach(), rtol=1e-5, atol=1e-5)
        for name, parameter in member.named_parameters():
            assert parameter.grad is not None, name
            torch.testing.assert_close(gradients[name][index], parameter.grad, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(outer[list(leaves).index(name)][index], parameter.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("node", [{"name": "mlp"}, {"name": "transformer", "dim": 8}], ids=["mlp", "transformer"])
def test_dropout_is_drawn_by_dropout_modules_alone(node: dict[str, Any]) -> None:
    module = initial_model(resolve_model({**node, "dropout": 0.5}), FEATURES, seed=0)
    plain = initial_model(resolve_model(node), FEATURES, seed=0)
    x, _ = batch(FEATURES, 4)
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(module(x), plain(x))
        before = torch.get_rng_state()
        for inner in module.modules():
            if isinstance(inner, nn.Dropout):
                inner.eval()
        assert torch.equal(module(x), plain(x))
        assert torch.equal(torch.get_rng_state(), before)

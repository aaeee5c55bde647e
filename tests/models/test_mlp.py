"""The multilayer perceptron: its limits and its options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import MLP, Logistic, initial_model, resolve_model
from tests.models.cases import FEATURES, TOKENS, batch, count, on_meta


@pytest.mark.parametrize(
    ("model", "spec", "parameters"),
    [
        (MLP(hidden=[64]), DataSpec((64,), 10), 64 * 64 + 64 + 64 * 10 + 10),
        (MLP(hidden=[200, 200]), DataSpec((1, 28, 28), 10), 199_210),  # the 2NN of arXiv:1602.05629
    ],
)
def test_parameter_count(model: Any, spec: DataSpec, parameters: int) -> None:
    assert count(on_meta(model, spec)) == parameters


def test_mlp_without_hidden_layers_is_logistic_bitwise() -> None:
    x, _ = batch(FEATURES, 4)
    assert torch.equal(initial_model(MLP(hidden=[]), FEATURES, 3)(x), initial_model(Logistic(), FEATURES, 3)(x))


@pytest.mark.parametrize(
    ("node", "spec", "message"),
    [
        ("mlp", TOKENS, r"model.name: mlp needs numeric inputs"),
    ],
)
def test_misfit_is_a_config_error(node: str, spec: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node).build(spec)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "mlp", "hidden": [8, 0]}, r"model: hidden\[1\] must be at least 1, got 0"),
        ({"name": "mlp", "dropout": 1.0}, r"model: dropout must be in \[0, 1\), got 1.0"),
        ({"name": "mlp", "dropout": float("nan")}, r"dropout must be in"),
        ({"name": "mlp", "activation": "rely"}, r"model.activation: .*'rely'.*relu"),
        ({"name": "mlp", "hiden": [8]}, r"model.hiden: unknown key \(did you mean 'hidden'\?\)"),
    ],
)
def test_bad_options_are_config_errors(node: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node)


def test_options_are_checked_from_python_too() -> None:
    with pytest.raises(
        ConfigError, match=r"activation must be one of relu, tanh, gelu, got 'rely' \(did you mean 'relu'"
    ):
        MLP(activation="rely")  # type: ignore[arg-type]

"""Logistic regression: an affine map of the flattened input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import Logistic, initial_model, resolve_model
from tests.models.cases import IMAGES, TOKENS, batch, count, on_meta


@pytest.mark.parametrize(
    ("model", "spec", "parameters"),
    [
        (Logistic(), DataSpec((1, 28, 28), 10), 7_850),
        (Logistic(bias=False), DataSpec((30,), 2), 60),
    ],
)
def test_parameter_count(model: Any, spec: DataSpec, parameters: int) -> None:
    assert count(on_meta(model, spec)) == parameters


def test_logistic_is_an_affine_map() -> None:
    module = initial_model(Logistic(), IMAGES, seed=1)
    x, _ = batch(IMAGES, 4)
    weight, bias = (parameter.detach().numpy() for parameter in module.parameters())
    np.testing.assert_allclose(
        module(x).detach().numpy(), x.numpy().reshape(4, -1) @ weight.T + bias, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("node", "spec", "message"),
    [
        ("logistic", TOKENS, r"model.name: logistic needs numeric inputs; the data has tokens of shape \(5,\)"),
    ],
)
def test_misfit_is_a_config_error(node: str, spec: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node).build(spec)

"""The character LSTM against torch and against the equations in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import LSTM, initial_model, resolve_model
from fedray.models.lstm import recurrence
from tests.models.cases import FEATURES, TOKENS, batch, count, on_meta


@pytest.mark.parametrize(
    ("model", "spec", "parameters"),
    [
        # Embedding, two layers of 4 gates (inputs, states, two biases), head.
        (LSTM(), DataSpec((80,), 80, vocabulary=80), 80 * 8 + 4 * 256 * (8 + 256 + 2 + 256 + 256 + 2) + 257 * 80),
    ],
)
def test_parameter_count(model: Any, spec: DataSpec, parameters: int) -> None:
    assert count(on_meta(model, spec)) == parameters


@pytest.mark.parametrize("layers", [1, 3])
def test_stacked_recurrence_equals_torchs_lstm(layers: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lstm, x = nn.LSTM(3, 4, layers, batch_first=True), torch.randn(2, 5, 3)
    torch.testing.assert_close(recurrence(lstm, x), lstm(x)[0], rtol=1e-5, atol=1e-6)


def test_lstm_equals_the_equations() -> None:
    module = initial_model(LSTM(embedding=3, hidden=4, layers=1), TOKENS, seed=2)
    tokens, _ = batch(TOKENS, 6)
    state = {name: parameter.detach().numpy().astype(np.float64) for name, parameter in module.named_parameters()}
    hidden, cell = np.zeros((6, 4)), np.zeros((6, 4))

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    for position in range(5):
        x = state["embedding.weight"][tokens[:, position].numpy()]
        gates = x @ state["lstm.weight_ih_l0"].T + hidden @ state["lstm.weight_hh_l0"].T
        enter, forget, new, out = np.split(gates + state["lstm.bias_ih_l0"] + state["lstm.bias_hh_l0"], 4, axis=1)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(out) * np.tanh(cell)
    expected = hidden @ state["head.weight"].T + state["head.bias"]
    np.testing.assert_allclose(module(tokens).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("node", "spec", "message"),
    [
        ("lstm", FEATURES, r"model.name: lstm needs token sequences of shape \(length,\); the data has \(6,\)"),
    ],
)
def test_misfit_is_a_config_error(node: str, spec: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node).build(spec)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "lstm", "layers": 0}, r"model: layers must be at least 1"),
    ],
)
def test_bad_options_are_config_errors(node: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node)

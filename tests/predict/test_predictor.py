"""What a predictor takes, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.predict import Predictor
from fedray.predict.predictor import outputs_of
from fedray.tasks import Classification


def predictor(spec: DataSpec, module: nn.Module, **more: Any) -> Predictor:
    return Predictor(Classification().of(spec), outputs_of(module, **more))


def test_pieces_do_not_show() -> None:
    draw = torch.Generator().manual_seed(1)
    module, x = nn.Linear(5, 3), torch.randn(17, 5, generator=draw)
    whole = predictor(DataSpec((5,), 3), module).predict(x).outputs
    assert np.allclose(whole, predictor(DataSpec((5,), 3), module, rows=4).predict(x).outputs, rtol=1e-6)
    with torch.no_grad():
        assert np.array_equal(whole, module(x).numpy())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0]], r"rows: inputs have shape \(1,\), the model takes \(2,\)"),
        ([1.0, 2.0], r"rows: inputs have shape \(\), the model takes \(2,\)"),
        (np.zeros((0, 2)), "rows: there are no rows"),
        ([[1.0, np.nan]], "rows has NaN"),
        ([["a", "b"]], "rows must be an array of numbers"),
        ({"a": [1]}, r"not trained on tables, so an array of inputs \[2\]"),
    ],
)
def test_what_does_not_fit_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        predictor(DataSpec((2,), 2), nn.Linear(2, 2)).predict(rows)


def test_a_single_example_is_told_how_it_is_given() -> None:
    with pytest.raises(ConfigError, match=r"for a single example give rows\[None\]"):
        predictor(DataSpec((1, 2, 2), 2), nn.Flatten()).predict(np.zeros((1, 2, 2)))


def test_bytes_of_images_and_tokens() -> None:
    flat = predictor(DataSpec((1, 1, 2), 2), nn.Flatten())
    assert flat.predict(np.array([[[[0, 255]]]], dtype=np.uint8)).outputs.tolist() == [[0, 1]]
    tokens = predictor(DataSpec((2,), 2, vocabulary=3), nn.Sequential(nn.Embedding(3, 1), nn.Flatten()))
    assert len(tokens.predict([[0, 2]])) == 1
    with pytest.raises(ConfigError, match="token 3 is outside the vocabulary of 3"):
        tokens.predict([[0, 3]])
    assert flat.classes_.tolist() == ["0", "1"]


def test_a_model_draws_the_same_and_leaves_no_trace() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand(len(x), 1)

    noisy = predictor(DataSpec((2,), 2), Noisy())
    before = torch.get_rng_state()
    assert np.array_equal(noisy.predict(np.zeros((3, 2))).outputs, noisy.predict(np.zeros((3, 2))).outputs)
    assert torch.equal(before, torch.get_rng_state())

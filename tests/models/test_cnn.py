"""The CNN of the FedAvg paper: its size, and the images it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import CNN, resolve_model
from tests.models.cases import count, on_meta


@pytest.mark.parametrize(
    ("model", "spec", "parameters"),
    [
        (CNN(), DataSpec((1, 28, 28), 10), 1_663_370),  # as printed in arXiv:1602.05629
    ],
)
def test_parameter_count(model: Any, spec: DataSpec, parameters: int) -> None:
    assert count(on_meta(model, spec)) == parameters


@settings(max_examples=15)
@given(channels=st.integers(1, 3), height=st.integers(8, 21), width=st.integers(8, 21))
def test_cnn_takes_any_image_of_at_least_8x8(channels: int, height: int, width: int) -> None:
    spec = DataSpec((channels, height, width), 3)
    module = on_meta(CNN(channels=[2, 2], hidden=4), spec)
    assert module(torch.empty(2, *spec.shape, device="meta")).shape == (2, 3)


@pytest.mark.parametrize(
    ("node", "spec", "message"),
    [
        (
            "cnn",
            DataSpec((30,), 2),
            r"model.name: cnn needs images of shape \(channels, height, width\); the data has \(30,\)",
        ),
        ("cnn", DataSpec((1, 7, 9), 2), r"images of at least 8 x 8 pixels; the data has \(1, 7, 9\)"),
        ("cnn", DataSpec((1, 8, 8), 2, vocabulary=4), r"images .*; the data has tokens of shape \(1, 8, 8\)"),
    ],
)
def test_misfit_is_a_config_error(node: str, spec: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node).build(spec)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "cnn", "channels": [8]}, r"model: channels must be two numbers.*got \[8\]"),
        ({"name": "cnn", "hidden": 0}, r"model: hidden must be at least 1"),
    ],
)
def test_bad_options_are_config_errors(node: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node)

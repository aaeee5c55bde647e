"""Programs are what the model is, with the first layer that was asked for; what cannot be one is refused."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.data.columns.inputs import InputColumns
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.options import Options
from fedray.predict import programs
from fedray.predict.programs import Program, exported_program, onnx, run_onnx, run_program, scaling_of

ENCODING = Encoding(
    Options("ill"), {"age": (50.0, 10.0, 40.0), "bp": (0.0, 1.0, 3.0)}, {"sex": ["f", "m"]}, ["age", "sex", "bp"], None
)


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_scaling_is_that_of_the_encoding() -> None:
    center, scale, fill = scaling_of(ENCODING)
    assert center.tolist() == [50, 0, 0, 0]
    assert scale.tolist() == [10, 1, 1, 1]
    assert fill.tolist() == [40, 0, 0, 3]
    x = torch.tensor([[60.0, 1, 0, 5], [float("nan"), 0, 1, float("nan")]])
    assert Program(Doubled(), scaling_of(ENCODING))(x).tolist() == [[2, 2, 0, 10], [-2, 0, 2, 6]]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "run"), [(exported_program, run_program), (onnx, run_onnx)])
def test_any_number_of_rows_goes_through(make: Any, run: Any) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    program = Program(model).eval()
    outputs = run(make(program, torch.randn(2, 1, 4, 4)))
    for count in (1, 2, 7):
        x = torch.randn(count, 1, 4, 4)
        with torch.no_grad():
            assert np.allclose(outputs(x).numpy(), program(x).numpy(), atol=1e-5)


class Weighed(nn.Module):
    def forward(self, value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return (value * weight).sum(dim=1, keepdim=True)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "run"), [(exported_program, run_program), (onnx, run_onnx)])
@pytest.mark.parametrize("names", [("value", "weight"), ("0", "1")])
def test_columns_go_in_by_place_with_as_many_numbers_as_there_are(make: Any, run: Any, names: tuple[str, str]) -> None:
    example = InputColumns(dict(zip(names, torch.randn(2, 2, 6), strict=True)))
    outputs = run(make(Program(Weighed(), columns=names).eval(), example, names))
    for rows, length in ((1, 6), (3, 4), (7, 9)):
        value, weight = torch.randn(2, rows, length)
        expected = torch.einsum("rt,rt->r", value, weight)
        assert np.allclose(outputs(value, weight).numpy()[:, 0], expected, atol=1e-5)


@pytest.mark.slow
def test_a_model_of_one_length_is_a_program_of_that() -> None:
    model = nn.Sequential(nn.Linear(6, 2))
    outputs = run_program(
        exported_program(Program(model, columns=["0"]).eval(), InputColumns({"0": torch.randn(2, 6)}), ["0"])
    )
    assert outputs(torch.randn(5, 6)).shape == (5, 2)


def test_inputs_of_a_graph_are_called_as_columns_are() -> None:
    assert Program(Doubled()).inputs == ["x"]
    assert Program(Doubled(), columns=["input_ids", "attention_mask"]).inputs == ["input_ids", "attention_mask"]
    assert Program(Doubled(), columns=["0", "1"]).inputs == ["x0", "x1"]


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x


@pytest.mark.slow
def test_what_cannot_be_a_program_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"this model cannot be exported so: .*\n--to safetensors"):
        exported_program(Program(Branching()).eval(), torch.zeros(2, 3))


def test_a_package_that_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(programs, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    with pytest.raises(ConfigError, match=r"package `onnxruntime` is not installed; .*'fedray\[onnx\]'"):
        onnx(Program(Doubled()), torch.zeros(2, 3))

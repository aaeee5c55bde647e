"""Programs are what the model is, with the first layer that was asked for; what cannot be one is refused."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
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

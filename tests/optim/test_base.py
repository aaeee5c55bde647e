"""The base of optimizers by name: options in range, and a class of one's own by its fields alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch.optim import Optimizer

from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.optim import ELEMENTWISE, Adam, TorchOptimizer, optimizers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sgd", "lr": 0.0}, r"lr=0\.0: it must be above 0"),
        ({"name": "sgd", "lr": math.nan}, "lr=nan"),
        ({"name": "sgd", "momentum": 1.0}, r"momentum=1\.0: it must be at least 0 and below 1"),
        ({"name": "adam", "betas": [0.9]}, "betas=.*two numbers are needed"),
        ({"name": "adam", "betas": [0.9, 1.0]}, "betas="),
        ({"name": "adamw", "weight_decay": -0.1}, r"weight_decay=-0\.1: it must be at least 0"),
        ({"name": "rmsprop", "alpha": -0.5}, r"alpha=-0\.5"),
    ],
)
def test_an_option_out_of_range_is_named_before_anything_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^local.optimizer: .*{message}"):
        bind_part(optimizers, options, "local.optimizer")


def test_what_yaml_gives_as_a_list_torch_gets_as_a_pair() -> None:
    made = bind_part(optimizers, {"name": "adam", "betas": [0.5, 0.75]}, "local.optimizer")
    assert made([torch.zeros(1, requires_grad=True)]).param_groups[0]["betas"] == (0.5, 0.75)


@dataclass(frozen=True)
class Radam(TorchOptimizer):
    """A class of one's own: nothing but its kind and its fields."""

    kind: ClassVar[type[Optimizer]] = torch.optim.RAdam
    lr: float = 0.25
    weight_decay: float = 0.0


def test_a_class_of_ones_own_is_torchs_with_these_options() -> None:
    made = Radam(weight_decay=0.125)([torch.zeros(1, requires_grad=True)])
    assert isinstance(made, torch.optim.RAdam)
    assert (made.param_groups[0]["lr"], made.param_groups[0]["weight_decay"]) == (0.25, 0.125)


def test_those_by_name_step_value_by_value() -> None:
    """So that one over a matrix trains many clients: tests/local/test_leading.py has the law."""
    for part in optimizers.values():
        assert issubclass(part.kind, ELEMENTWISE)  # type: ignore[attr-defined]
    assert torch.optim.LBFGS not in ELEMENTWISE
    assert Adam().kind is torch.optim.Adam

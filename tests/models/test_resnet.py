"""ResNet-18 with group normalisation: its size, strides and groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import ResNet18GN, resolve_model
from tests.models.cases import IMAGES, SEQUENCES, count, on_meta


@pytest.mark.parametrize(
    ("model", "spec", "parameters"),
    [
        (ResNet18GN(), DataSpec((3, 224, 224), 1000), 11_689_512),  # torchvision's resnet18
        (ResNet18GN(), DataSpec((3, 32, 32), 10), 11_173_962),  # the common CIFAR-10 variant
    ],
)
def test_parameter_count(model: Any, spec: DataSpec, parameters: int) -> None:
    assert count(on_meta(model, spec)) == parameters


@pytest.mark.parametrize(("side", "final"), [(8, 1), (32, 4), (64, 8), (65, 3), (224, 7)])
def test_resnet_stem_and_strides(side: int, final: int) -> None:
    module = on_meta(ResNet18GN(width=4), DataSpec((3, side, side), 10))
    maps = nn.Sequential(module.get_submodule("stem"), module.get_submodule("stages"))
    assert maps(torch.empty(1, 3, side, side, device="meta")).shape == (1, 32, final, final)


def test_resnet_groups() -> None:
    module = on_meta(ResNet18GN(width=8, groups=4), IMAGES)
    norms = [m for m in module.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == 20
    assert {norm.num_groups for norm in norms} == {4}


@pytest.mark.parametrize(
    ("node", "spec", "message"),
    [
        ("resnet18_gn", SEQUENCES, r"model.name: resnet18_gn needs images"),
    ],
)
def test_misfit_is_a_config_error(node: str, spec: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node).build(spec)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"name": "resnet18_gn", "width": 6, "groups": 4},
            r"model: groups must divide width, got groups 4 and width 6",
        ),
    ],
)
def test_bad_options_are_config_errors(node: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node)

"""Models, data and functions that only Python has, in the place of parts that a config names."""

from __future__ import annotations

import pytest
from torch import nn

from fedray.config.registry import Imported, Registry
from fedray.core.errors import ConfigError
from fedray.data import data_sources
from fedray.data.spec import DataSpec
from fedray.experiment.given import GivenData, GivenModel, only_python_has
from fedray.local.losses import losses
from fedray.models import MLP, models
from fedray.optim import SGD, optimizers
from fedray.sampling import Uniform, samplers
from tests.helpers import class_problem, mse

SPEC = DataSpec((6,), 3)


def make() -> nn.Module:
    """A model of one's own."""
    return nn.Linear(6, 3)


def test_a_model_is_what_its_function_makes_and_nothing_else() -> None:
    assert isinstance(GivenModel(make).build(SPEC), nn.Linear)
    with pytest.raises(ConfigError, match=r"^model_fn: it must return an nn\.Module, got NoneType$"):
        GivenModel(lambda: None).build(SPEC)  # type: ignore[arg-type,return-value]


def test_data_are_those_that_were_given_whatever_the_seed() -> None:
    data = class_problem().data
    assert GivenData(data).load(1) is GivenData(data).load(2) is data


@pytest.mark.parametrize(
    ("registry", "part"),
    [
        (models, MLP([4])),
        (models, "mlp"),
        (models, {"name": "mlp"}),
        (samplers, Uniform(3)),
        (optimizers, SGD(0.1)),
        (losses, losses["mse"]),
        (losses, Imported("my_module:loss")),
    ],
)
def test_what_a_config_can_say_is_said_there(registry: Registry, part: object) -> None:
    assert only_python_has(registry, part) is None


@pytest.mark.parametrize(
    ("registry", "part", "words"),
    [
        (models, GivenModel(make), "make"),
        (models, GivenModel(lambda: nn.Linear(6, 3)), "<lambda>"),
        (losses, mse, "tests.helpers.mse"),
        (data_sources, GivenData(class_problem().data), "FederatedData"),
        (optimizers, nn.Linear, "torch.nn.modules.linear.Linear"),
    ],
)
def test_what_it_cannot_is_described_by_where_it_comes_from(registry: Registry, part: object, words: str) -> None:
    said = only_python_has(registry, part)
    assert said is not None
    assert said.endswith(words)

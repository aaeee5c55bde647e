"""Models that are built of shapes alone."""

from __future__ import annotations

import torch
from torch import nn

from fedray.core.layout import Layout
from fedray.core.regions import Regions
from fedray.data.spec import DataSpec
from fedray.models import MLP, initial_model
from fedray.models.prototype import Prototype
from fedray.models.shapes import Shaped, as_on_cpu, builds_shapes, has_values, shapes_alone


def test_a_model_of_shapes_has_the_layout_of_the_model() -> None:
    spec = DataSpec((30,), 2)
    found, shaped = (Layout.of(initial_model(model, spec, 1, Regions())) for model in (MLP(), Shaped(MLP())))
    assert found == shaped


def test_integers_of_a_shape_are_none_that_float32_lacks() -> None:
    with shapes_alone():
        module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    assert Layout.of(module).size == 4 * 3 + 3 + 3 + 3 + 3 + 3 + 1


def test_the_context_is_known_and_ends() -> None:
    assert not builds_shapes()
    with shapes_alone():
        assert builds_shapes()
        assert torch.zeros(3).is_meta
    assert not builds_shapes()
    assert has_values(torch.zeros(1))


def test_a_copy_as_on_the_cpu_runs_and_learns_and_its_tied_parameters_stay_one() -> None:
    with shapes_alone():
        module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        module[1].weight = module[0].weight
    with as_on_cpu(module) as (copied, moved):
        out = copied(moved(torch.ones(2, 4)))
        out.sum().backward()
        assert out.device == torch.device("cpu")
        assert not has_values(out)
    (weight,) = copied.parameters()
    assert weight.grad is not None
    assert weight.grad.shape == (4, 4)
    assert module[0].weight.grad is None


def test_copies_of_a_prototype_are_of_shapes_too() -> None:
    spec = DataSpec((30,), 2)
    copied = Prototype(lambda: initial_model(Shaped(MLP()), spec, 1))()
    assert not any(map(has_values, copied.parameters()))

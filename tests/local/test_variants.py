"""Variants of a model: units, draws, and the places of their values."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from fedray.algorithms import FedRolex, HeteroFL
from fedray.core.messages import BUFFERS, DELTA, STATISTICS, Broadcast
from fedray.local.variants import Submodels, Variant, drawn
from tests.helpers import class_problem, local_task


def test_units_are_a_share_and_never_none() -> None:
    assert [len(Variant(rate).units(30, 1)) for rate in (0.1, 0.5, 1.0, 0.001)] == [3, 15, 30, 1]
    assert Variant(1.0, rolls=True).units(4, round=3).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("rate", [0.25, 0.4, 0.5])
def test_a_window_that_rolls_is_every_unit_as_often(rate: float) -> None:
    seen = np.zeros(10)
    for round in range(1, 11):
        seen[Variant(rate, rolls=True).units(10, round).numpy()] += 1
    assert set(seen) == {np.ceil(rate * 10)}


def test_draws_are_the_clients_own() -> None:
    keys = np.arange(3000)
    found = drawn(3, 5, keys)
    assert np.bincount(found) == pytest.approx(np.full(3, 1000), abs=100)
    assert (drawn(3, 5, keys[7:9]) == found[7:9]).all()
    assert (drawn(3, 6, keys) != found).mean() > 0.5


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


@pytest.mark.parametrize("kind", [HeteroFL, FedRolex])
def test_what_is_received_is_what_stands_in_the_places(kind: type[HeteroFL]) -> None:
    task = local_task(class_problem(model_fn=model), program=kind([0.5, 1.0]), stack="off")
    models = task.submodels
    assert models is not None
    layout = task.layout
    vector = torch.arange(float(layout.size))
    down = Broadcast(3, {"model": vector, STATISTICS: 100.0 + torch.arange(float(layout.buffers))}, 1.0)
    heard, own = models.received(0, down), models.layouts[0]
    for name, span in layout.spans.items():
        places = models.places_of(name, 0, 3)
        assert torch.equal(vector[span][places], heard.parts["model"][own.spans[name]])
    assert torch.equal(heard.parts[STATISTICS], 100.0 + models.places_of(STATISTICS, 0, 3).float())
    assert models.sent(0, {DELTA: 0, BUFFERS: 0}) == {DELTA: own.shared, BUFFERS: own.buffers}
    window = [0, 1] if kind is HeteroFL else [2, 3]
    assert own.unpack(heard.parts["model"])["0.bias"].tolist() == [24.0 + unit for unit in window]
    assert torch.equal(models.received(1, down).parts["model"], vector)


def test_they_are_pickled_without_what_they_have_found() -> None:
    whole = nn.Linear(2, 3)
    task = local_task(class_problem(), program=FedRolex([0.5]), stack="off")
    assert task.submodels is not None
    models = Submodels(task.submodels.variants, nn.Linear(2, 3).requires_grad_, task.layout, torch.zeros(1, 2))
    assert len(pickle.dumps(models)) < 10_000, whole
    before = task.submodels.places(0, 2)
    assert not torch.equal(task.submodels.places(0, 3), before)
    assert torch.equal(task.submodels.places(0, 2), before)


def test_a_stack_is_tried_for_each_variant() -> None:
    task = local_task(class_problem(), program=HeteroFL(), stack=3)
    assert task.stacking.stacked
    assert len(task.parts()) == 3
    layouts = task.layouts(np.arange(6))
    assert [part.layout for part in task.parts()] == [layout for layout, _ in layouts]
    assert sum(count for _, count in layouts) == 6
    assert "clients at rate 0.25: D = " in task.trains
    plain = local_task(class_problem(), stack=3)
    assert plain.parts() == (plain,)
    assert plain.layouts(np.arange(6)) == [(plain.layout, 6)]
    assert plain.trains == ""

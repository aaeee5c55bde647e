"""Layers that stay in a fit run once, and nobody sees a difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedray.config.sections import LocalSection
from fedray.local import fixed_layers
from fedray.local.batched import Forward
from fedray.local.clients import Clients
from tests.helpers import class_problem, relative, train
from tests.local.test_orders import task

SIZES = (11, 4, 7, 11)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


PROBLEM = class_problem(SIZES, model_fn=model)


def heads(c: Clients) -> None:
    c.fit(only=lambda entry: entry.name.startswith("4."), epochs=3)
    c.fit(only=lambda entry: entry.name.startswith("2."), where=c.sizes > 5, steps=7)
    c.fit()


def rows(calls: list[int]) -> Callable[[Any, Any, Any], Any]:
    run = Forward.__call__

    def counted(self: Forward, params: Any, x: Any) -> Any:
        if self.names[0] == "0":
            calls.append(x.shape[1])
        return run(self, params, x)

    return counted


@pytest.mark.parametrize("args", [LocalSection(1, 4), LocalSection(1, 4, accumulate=2), LocalSection(2, 11)])
def test_a_fit_over_layers_that_stay_runs_them_once_and_is_that_of_clients_alone(
    args: LocalSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train(task(heads, "off", args, PROBLEM), [0, 1, 2, 3])
    calls: list[int] = []
    monkeypatch.setattr(Forward, "__call__", rows(calls))
    stacked = train(task(heads, 4, args, PROBLEM), [0, 1, 2, 3])
    once = calls.count(11)
    assert once >= 2
    assert relative(stacked.parts["delta"], alone.parts["delta"]) <= 1e-5
    assert stacked.loss == pytest.approx(alone.loss, rel=1e-5)
    monkeypatch.setattr(fixed_layers, "LIMIT", 0)
    calls.clear()
    again = train(task(heads, 4, args, PROBLEM), [0, 1, 2, 3])
    assert len(calls) > once
    assert relative(stacked.parts["delta"], again.parts["delta"]) <= 1e-6


def test_one_pass_and_a_first_layer_that_moves_run_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(c: Clients) -> None:
        c.fit(only=lambda entry: entry.name.startswith("4."))
        c.fit(only=lambda entry: not entry.name.startswith("2."), epochs=2)

    def refused(self: Forward, count: int) -> tuple[Forward, Forward]:
        raise AssertionError(f"cut after {count} layers")

    monkeypatch.setattr(Forward, "cut", refused)
    assert torch.isfinite(train(task(program, 4, LocalSection(1, 11), PROBLEM), [0, 1, 2, 3]).parts["delta"]).all()

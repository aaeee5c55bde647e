"""Means within slots, and weights of a program's own, against sums by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.aggregators import Median
from fedray.algorithms import AFL, FedAvg
from fedray.algorithms.base import Algorithm
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients
from fedray.server import Server
from fedray.transforms import Clip, Gaussian
from tests.helpers import class_problem, federation, relative

SIZES = (12, 7, 3, 9, 5)


class Slotted(Algorithm):
    """Clients send a pair of numbers, by whether their number is odd; a third slot has nobody."""

    def client(self, c: Clients) -> None:
        c.fit()
        c.send("pair", torch.stack([c.sizes, c.sizes**2], dim=1), slot=c.index % 2, slots=3)

    def start(self, s: Server) -> dict[str, torch.Tensor]:
        return {"means": torch.zeros(3, 2), "shares": torch.zeros(3)}

    def step(self, s: Server, total: Aggregate) -> None:
        s.state["means"].copy_(total["pair"])
        s.state["shares"].copy_(total.shares["pair"])


@pytest.mark.parametrize("weight", ["examples", "uniform"])
@pytest.mark.parametrize("stack", [3, 5, "off"])
def test_means_are_those_of_each_slot(stack: Any, weight: Any, tmp_path: Path) -> None:
    run = federation(class_problem(SIZES), tmp_path, Slotted(weight=weight), stack=stack, rounds=1)
    run.run()
    sizes = torch.tensor(SIZES, dtype=torch.float64)
    weights = sizes if weight == "examples" else torch.ones(5, dtype=torch.float64)
    for slot in range(2):
        w, values = weights[slot::2], torch.stack([sizes, sizes**2], dim=1)[slot::2]
        mean = (w[:, None] * values).sum(dim=0) / w.sum()
        assert relative(run.state.server.state["means"][slot], mean.float()) <= 1e-6
        assert float(run.state.server.state["shares"][slot]) == pytest.approx(float(w.sum() / weights.sum()))
    assert not run.state.server.state["means"][2].any()
    assert float(run.state.server.state["shares"][2]) == 0.0
    assert run.plan.algorithm.upload(run.plan.layout) == 4 * (run.plan.layout.shared + 2 + 1)


class Weighing(Algorithm):
    """Weighs clients by their examples, itself."""

    def client(self, c: Clients) -> None:
        c.fit()
        c.weight = c.sizes / 10.0


@pytest.mark.parametrize("stack", [3, "off"])
def test_own_weights_are_those_of_all_means(stack: Any, tmp_path: Path) -> None:
    own, examples = (
        federation(class_problem(SIZES), tmp_path / one.name, one, stack=stack) for one in (Weighing(), FedAvg())
    )
    own.run(), examples.run()
    assert own.plan.algorithm.weight == "own"
    assert relative(own.vector, examples.vector) <= 1e-6


class Inverse(Algorithm):
    """Weighs clients by the inverse of their examples."""

    def client(self, c: Clients) -> None:
        c.fit()
        c.weight = 3.0 / c.sizes
        c.send("square", c.sizes**2)

    def start(self, s: Server) -> dict[str, torch.Tensor]:
        return {"square": torch.zeros(1)}

    def step(self, s: Server, total: Aggregate) -> None:
        s.state["square"].copy_(total["square"])
        s.move(total["delta"])


@pytest.mark.parametrize("stack", [3, "off"])
def test_own_weights_are_not_those_of_examples(stack: Any, tmp_path: Path) -> None:
    run = federation(class_problem(SIZES), tmp_path, Inverse(), stack=stack, rounds=1)
    run.run()
    sizes = torch.tensor(SIZES, dtype=torch.float64)
    assert relative(run.state.server.state["square"].double(), (sizes.sum() / (1 / sizes).sum())[None]) <= 1e-6


def test_what_own_weights_and_slots_cannot_stand_beside(tmp_path: Path) -> None:
    for one, given, words in (
        (Weighing(weight="uniform"), {}, r"^algorithm.weight: uniform makes weights of its own, but Weighing weighs"),
        (Weighing(), {"transforms": [Clip(1.0), Gaussian(1.0)]}, r"^algorithm.weight: gaussian needs"),
        (AFL(), {"transforms": [Clip(1.0)]}, r"^transforms: clip works on the update alone, but afl sends loss by"),
        (AFL(), {"aggregator": Median()}, r"^aggregator: median is made for the update alone, but afl sends loss by"),
    ):
        with pytest.raises(ConfigError, match=words):
            federation(class_problem(SIZES), tmp_path, one, **given)


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (lambda c: c.send("a", c.sizes, slot=c.index + 9, slots=3), "an integer from 0 to 2 for each of the"),
        (lambda c: c.send("delta", c.delta, slot=c.index, slots=9), "Wrong sends delta by slots, and has no step"),
    ],
)
def test_slots_that_are_none_are_refused(client: Any, words: str, tmp_path: Path) -> None:
    wrong = type("Wrong", (Algorithm,), {"client": lambda self, c: client(c)})
    with pytest.raises(ConfigError, match=words):
        federation(class_problem(SIZES), tmp_path, wrong())


def test_a_weight_that_is_none_is_a_failure(tmp_path: Path) -> None:
    class Zero(Weighing):
        def client(self, c: Clients) -> None:
            super().client(c)
            c.weight = c.sizes * (c.round != 2)

    with pytest.raises(RunFailed, match=r"c.weight: a number above 0 for each of the block's clients"):
        federation(class_problem(SIZES), tmp_path, Zero()).run()

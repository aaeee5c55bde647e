"""What is remembered is seen, named and put back: every kind of it, after an error too."""

from __future__ import annotations

import functools
import random
from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedray.core import hidden_state
from fedray.core.errors import ConfigError
from fedray.core.hidden_state import HiddenState


class Own:
    """An object of a user's class."""

    def __init__(self) -> None:
        self.count = 0
        self.inner = {"list": [1], "set": {1}, "tensor": torch.zeros(2), "array": np.zeros(2)}


class Slotted:
    """One without a dictionary."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


def module() -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 2))
    made.register_buffer("unsaved", torch.zeros(2), persistent=False)
    made.memory, made.own, made.slotted = [torch.zeros(1)], Own(), Slotted()  # type: ignore[assignment]
    return made


def assign(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "model.unsaved": lambda m: m.unsaved.add_(1),
    "model.memory": lambda m: m.memory.append(2),
    "model.memory[0]": lambda m: m.memory[0].data.mul_(0).add_(1),
    "model.fresh": lambda m: assign(m, "fresh", 1),
    "model.own.count": lambda m: assign(m.own, "count", 5),
    "model.own.inner": lambda m: m.own.inner.pop("set"),
    "model.own.inner['list']": lambda m: m.own.inner["list"].append(2),
    "model.own.inner['set']": lambda m: m.own.inner["set"].add(2),
    "model.own.inner['tensor']": lambda m: m.own.inner["tensor"].add_(1),
    "model.own.inner['array']": lambda m: m.own.inner["array"].__setitem__(0, 1.0),
    "model.slotted.count": lambda m: assign(m.slotted, "count", 5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_and_put_back(name: str) -> None:
    model = module()
    state = HiddenState({"model": model}, model.parameters())
    with state.put_back():
        pass
    assert state.changed == set()

    def fails() -> None:
        with state.put_back():
            CHANGES[name](model)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fails()
    assert state.changed == {name}
    state.changed.clear()
    with state.put_back():
        pass
    assert state.changed == set()


def test_parameters_are_kept_elsewhere() -> None:
    model = module()
    with HiddenState({"model": model}, model.parameters()).put_back(), torch.no_grad():
        model[0].weight.fill_(3.0)  # type: ignore[index]
    assert bool((model[0].weight == 3.0).all())  # type: ignore[index]


def test_functions_are_looked_into() -> None:
    calls, total = [0], 0

    def loss(weight: list[int]) -> int:
        nonlocal total
        total += 1
        calls[0] += 1
        weight.append(1)
        return total

    given: list[int] = []
    bound = functools.partial(loss, given)
    state = HiddenState({"loss": bound})
    with state.put_back():
        assert bound() == 1
    assert (calls, total, given) == ([0], 0, [])
    assert state.changed == {"loss.calls", "loss.total", "loss[0]"}


@pytest.mark.parametrize(
    "generator",
    [random.Random(1), np.random.default_rng(1), np.random.RandomState(1), torch.Generator().manual_seed(1)],
    ids=lambda g: type(g).__name__,
)
def test_a_generator_of_ones_own_is_named(generator: Any) -> None:
    def draw() -> float:
        return float(
            torch.rand((), generator=generator) if isinstance(generator, torch.Generator) else generator.random()
        )

    state = HiddenState({"model": [generator]})

    def drawn(number: int | None) -> float:
        with state.put_back(number):
            return draw()

    assert drawn(3) == drawn(3) != drawn(4)
    assert state.drawn == set()
    assert drawn(None) == drawn(None)
    assert state.drawn == {"model[0]"}


def test_an_order_a_type_and_slots_of_every_kind_are_put_back() -> None:
    class One:
        __slots__ = "count"

    class Private(One):
        __slots__ = ("__count",)

        def __init__(self) -> None:
            self.count = self.__count = 0

        def more(self) -> None:
            self.count += 1
            self.__count += 1

        def counts(self) -> tuple[int, int]:
            return self.count, self.__count

    cache, table, own = OrderedDict(first=1, second=2), torch.ones(3), Private()
    state = HiddenState({"cache": cache, "table": table, "own": own})
    with state.put_back():
        cache.move_to_end("first")
        table.data = table.data.half()
        own.more()
    assert list(cache) == ["first", "second"]
    assert table.dtype == torch.float32
    assert own.counts() == (0, 0)
    assert state.changed == {"cache", "table", "own.count", "own._Private__count"}


def test_what_is_not_a_number_is_the_same_as_before() -> None:
    state = HiddenState({"model": [torch.tensor([1.0, torch.nan])]})
    with state.put_back():
        pass
    assert state.changed == set()


LARGE: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "tensor": (lambda: torch.zeros(9), lambda t: t[:2].mul_(0.9).add_(1)),
    "sparse": (lambda: torch.eye(9).to_sparse(), lambda t: t.mul_(2)),
    "memory": (lambda: torch.zeros(9), lambda t: setattr(t, "data", torch.ones(9))),
    "array": (lambda: np.zeros((9, 9)), lambda a: a[2:4].__setitem__(0, 1.0)),
    "by columns": (lambda: np.zeros((9, 9), order="F"), lambda a: a[2:4].__setitem__(0, 1.0)),
    "with gaps": (lambda: np.zeros((9, 9))[:, ::2], lambda a: a[2:4].__setitem__(0, 1.0)),
    "dates": (lambda: np.zeros(9, "datetime64[s]"), lambda a: a.__setitem__(0, np.datetime64(9, "s"))),
    "objects": (lambda: np.zeros(9, [("a", "f8"), ("b", "O")]), lambda a: a["a"].__setitem__(0, 1.0)),
    "bytes": (lambda: bytearray(99), lambda b: b.__setitem__(3, 1)),
    "numbers": (lambda: array("d", [0.0] * 9), lambda a: a.__setitem__(3, 1.0)),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_change_of_what_is_too_large_to_be_put_back_is_an_error_that_names_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden_state, "LARGEST", 8)
    make, change = LARGE[kind]
    model = nn.Module()
    model.large, model.count = make(), 0  # type: ignore[assignment]
    state = HiddenState({"model": model})
    with state.put_back():
        assert repr(model.large)
    with state.put_back():
        model.large, model.count = make(), 1  # type: ignore[assignment]
    assert state.changed == {"model.large", "model.count"}

    def trains() -> None:
        with state.put_back():
            model.count = 1  # type: ignore[assignment]
            change(model.large)

    with pytest.raises(ConfigError, match=r"^model\.large: an? \w+ above 16 MiB changes"):
        trains()
    assert model.count == 0


def test_large_tensors_that_others_put_back_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_state, "LARGEST", 8)
    model = module()
    with HiddenState({"model": model}, model.parameters()).put_back(), torch.no_grad():
        model[0].weight.fill_(3.0)  # type: ignore[index]
    assert bool((model[0].weight == 3.0).all())  # type: ignore[index]

"""Kinds of things that code remembers in: each change is named, and is gone afterwards."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.core.hidden_state import HiddenState
from fedray.core.kept import pieces


def numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


@pytest.mark.parametrize(
    ("value", "change"),
    [
        (bytearray(b"abc"), lambda raw: raw.append(3)),
        (array("d", [1.0]), lambda raw: raw.append(2.0)),
        (np.array([1, None], dtype=object), lambda objects: objects.fill(7)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bytes_and_arrays_of_objects_are_put_back(value: Any, change: Callable[[Any], None]) -> None:
    before = list(value)
    state = HiddenState({"model": value})
    with state.put_back():
        change(value)
    assert list(value) == before
    assert state.changed == {"model"}


def test_what_an_array_of_objects_holds_is_looked_into() -> None:
    seen: list[int] = []
    state = HiddenState({"model": np.array([seen, None], dtype=object)})
    with state.put_back():
        seen.append(1)
    assert seen == []
    assert state.changed == {"model[0]"}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("convert", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, torch.Tensor.to_sparse_csc])
def test_sparse_tensors_are_put_back(convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
    value = convert(torch.eye(3))
    state = HiddenState({"model": value})
    with state.put_back():
        pass
    assert state.changed == set()
    with state.put_back():
        pieces(value)[-1].mul_(2.0)
    assert torch.equal(value.to_dense(), torch.eye(3))
    assert state.changed == {"model"}


def test_attributes_of_tensors_and_hooks_of_modules_are_put_back() -> None:
    model = nn.Linear(2, 2)
    model.weight.uses = [0]  # type: ignore[attr-defined]
    state = HiddenState({"model": model}, model.parameters())
    with state.put_back():
        model.weight.uses.append(1)  # type: ignore[attr-defined]
        model.bias.fresh = 1  # type: ignore[attr-defined]
        model.register_forward_hook(lambda *_: None)
    assert (model.weight.uses, vars(model.bias), len(model._forward_hooks)) == ([0], {}, 0)  # type: ignore[attr-defined]
    assert state.changed == {"model.weight.uses", "model.bias.fresh", "model._forward_hooks"}


@pytest.mark.parametrize(
    "value",
    [itertools.count(), itertools.cycle([1, 2]), iter([1, 2]), iter(range(3)), enumerate("ab"), numbers()],
    ids=lambda value: type(value).__name__,
)
def test_an_iterator_that_goes_on_is_refused_by_name_and_the_rest_put_back(value: Iterator[Any]) -> None:
    next(value)
    calls: list[int] = []
    state = HiddenState({"model": {"ids": value, "calls": calls}})
    with state.put_back():
        pass

    def use() -> None:
        with state.put_back():
            calls.append(next(value))

    with pytest.raises(ConfigError, match=r"^model\['ids'\]: an? \w+ goes on from one client to the next"):
        use()
    assert calls == []


FROZEN_CHANGES: dict[str, Callable[[Any], Any]] = {
    "counted": lambda p: p.add_(1.0),
    "one number": lambda p: p.view(-1)[1].fill_(7.0),
    "by data": lambda p: p.data.mul_(0.5),
    "of new memory": lambda p: setattr(p, "data", p.data * 0.5),
    "no number": lambda p: p.view(-1)[1].fill_(float("nan")),
}


@pytest.mark.parametrize("how", FROZEN_CHANGES)
def test_a_large_frozen_parameter_is_put_back_each_time(how: str) -> None:
    model = nn.Linear(300, 300).requires_grad_(False)
    before = model.weight.clone()
    state = HiddenState({"model": model})
    for _ in range(3):
        with state.put_back(), torch.no_grad():
            FROZEN_CHANGES[how](model.weight)
        assert torch.equal(model.weight, before)
        assert state.changed == {"model.weight"}
        state.changed.clear()
        with state.put_back(), torch.no_grad():
            assert float(model.weight.sum())
        assert not state.changed


def test_of_a_frozen_parameter_that_nobody_wrote_to_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300).requires_grad_(False), nn.Linear(3, 3))
    model[2].requires_grad_(False)
    compared: list[int] = []
    equal = torch.equal

    def counted(one: torch.Tensor, other: torch.Tensor) -> bool:
        compared.append(one.numel())
        return equal(one, other)

    monkeypatch.setattr(torch, "equal", counted)
    state = HiddenState({"model": model}, model[0].parameters())
    with state.put_back():
        pass
    assert sorted(compared) == [3, 9, 90, 300]  # 90 of 90,000; a small one is compared whole

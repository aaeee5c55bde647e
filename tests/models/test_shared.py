"""Frozen parameters that copies of a module have in common."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import nn

from fedray import optim
from fedray.core.kept import KeptTensor
from fedray.data.columns.rows import CPU
from fedray.local.sequential import SequentialStepper
from fedray.local.stacked import StackedStepper
from fedray.models import shared
from fedray.models.prototype import Prototype
from fedray.models.shared import is_shared, placed, share_frozen, shared_of
from tests.helpers import class_problem, local_task


def frozen_first() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    module[0].requires_grad_(False)
    return module


def body_and_head() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    module[0].requires_grad_(False)
    return module


def test_copies_lie_on_the_frozen_memory_and_have_the_rest_for_themselves() -> None:
    prototype = Prototype(lambda: share_frozen(body_and_head()))
    one, other = prototype(), prototype()
    assert [a.data_ptr() == b.data_ptr() for a, b in zip(one.parameters(), other.parameters(), strict=True)] == [
        True,
        True,
        False,
        False,
    ]
    assert [is_shared(p) for p in prototype().parameters()] == [True, True, False, False]
    assert [p.requires_grad for p in other.parameters()] == [False, False, True, True]


def test_a_copy_that_is_moved_leaves_the_others_where_they_are() -> None:
    prototype = Prototype(lambda: share_frozen(body_and_head()))
    one, other = prototype(), prototype()
    one.to(torch.float64)
    assert {p.dtype for p in other.parameters()} == {torch.float32}


def test_who_does_not_say_so_shares_nothing() -> None:
    prototype = Prototype(body_and_head)
    one, other = prototype(), prototype()
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_who_puts_back_what_a_model_remembers_keeps_no_copy_of_a_shared_base() -> None:
    module = share_frozen(body_and_head())
    assert [id(p) for p in shared_of(module)] == [id(p) for p in module.get_submodule("0").parameters()]
    problem = class_problem((5,), model_fn=Prototype(lambda: share_frozen(frozen_first())))
    for stacked in (False, True):
        task = local_task(problem, optimizer=optim.SGD(0.1))
        stepper = StackedStepper(task, task.model_fn(), CPU) if stacked else SequentialStepper.of(task, [CPU])
        assert not [kept for kept in stepper.hidden._kept if isinstance(kept, KeptTensor)]


class Packed(nn.Parameter):
    """A parameter of a kind of its own, as those of quantized layers are."""

    bits: torch.Tensor
    scale: torch.Tensor


def test_a_shared_parameter_of_a_kind_of_its_own_stays_one_with_what_lies_on_its_memory() -> None:
    weight = Packed(torch.ones(1, 2), requires_grad=False)
    weight.bits, weight.scale = weight.data, torch.ones(1)
    layer = nn.Linear(2, 1, bias=False)
    layer.weight = weight
    copied = Prototype(lambda: share_frozen(nn.Sequential(layer, nn.Linear(1, 1))))().get_parameter("0.weight")
    assert isinstance(copied, Packed)
    assert copied.data_ptr() == copied.bits.data_ptr() == weight.data_ptr()
    assert copied.scale.data_ptr() != weight.scale.data_ptr()


def test_a_device_has_what_copies_share_once_in_a_process() -> None:
    prototype = Prototype(lambda: share_frozen(body_and_head()))
    one, other, elsewhere = prototype(), prototype(), prototype()

    def memory(module: nn.Module) -> list[int]:
        return [parameter.untyped_storage()._cdata for parameter in module.parameters()]

    meta = torch.device("meta")
    assert all(parameter.is_meta for module in (one, other) for parameter in placed(module, meta).parameters())
    same = [a == b for a, b in zip(memory(one), memory(other), strict=True)]
    assert same == [True, True, False, False]
    assert [a is b for a, b in zip(one.parameters(), other.parameters(), strict=True)] == [False] * 4
    assert [is_shared(parameter) for parameter in one.parameters()] == [True, True, False, False]
    assert not any(parameter.is_meta for parameter in elsewhere.parameters()), "a copy that was not moved stays"


def test_a_tied_parameter_stays_one_where_it_is_moved() -> None:
    one, other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    other.weight = one.weight
    placed(share_frozen(nn.Sequential(one, other).requires_grad_(False)), torch.device("meta"))
    assert one.weight.is_meta
    assert one.weight is other.weight


def test_what_lies_on_a_device_goes_with_the_last_module_that_uses_it() -> None:
    one, other = (share_frozen(body_and_head()) for _ in range(2))
    gc.collect()
    before = len(shared._placed)
    placed(one, torch.device("meta"))
    there = weakref.ref(next(one.parameters()))
    assert len(shared._placed) == before + 2
    del one
    gc.collect()
    assert there() is None
    assert len(shared._placed) == before
    assert next(placed(other, torch.device("meta")).parameters()).is_meta

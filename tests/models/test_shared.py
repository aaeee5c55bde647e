"""Frozen parameters that copies of a module have in common."""

from __future__ import annotations

import torch
from torch import nn

from fedray import optim
from fedray.core.kept import KeptTensor
from fedray.data.columns.rows import CPU
from fedray.local.sequential import SequentialStepper
from fedray.local.stacked import StackedStepper
from fedray.models.prototype import Prototype
from fedray.models.shared import is_shared, share_frozen, shared_of
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

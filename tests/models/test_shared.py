"""Frozen parameters that copies of a module have in common."""

from __future__ import annotations

import torch
from torch import nn

from fedray.models.prototype import Prototype
from fedray.models.shared import is_shared, share_frozen


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

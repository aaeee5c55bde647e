"""The head of a model, and what comes into it."""

from __future__ import annotations

import torch
from torch import nn

from fedray.core.regions import head_of
from fedray.local.features import watched


def test_the_head_is_the_last_part_with_trained_parameters_of_its_own() -> None:
    body = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    assert head_of(nn.Sequential(body, nn.Linear(3, 2), nn.Softmax(1))) == "1"
    frozen = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2).requires_grad_(False))
    assert head_of(frozen) == "0"
    assert head_of(nn.Linear(2, 1)) == ""


def test_a_part_that_is_called_head_is_the_head() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.extra = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), nn.Linear(2, 2)

    assert head_of(Two()) == "head"
    assert head_of(nn.DataParallel(Two())) == "module.head"
    frozen = Two()
    frozen.head.requires_grad_(False)
    assert head_of(frozen) == "extra"


def test_what_comes_into_it_is_seen_in_the_context_alone() -> None:
    module, x = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), torch.ones(5, 4)
    with watched(module, "1") as seen:
        module(x)
        module(x)
    assert [torch.equal(one, module[0](x)) for one in seen] == [True, True]
    module(x)
    assert len(seen) == 2
    assert not module[1]._forward_pre_hooks

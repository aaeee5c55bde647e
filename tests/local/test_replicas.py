"""Copies of a model that share out a batch: their gradients add up to that of the whole."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedray import optim
from fedray.local.batches import share_out
from fedray.local.replicas import Replica
from tests.helpers import class_problem, local_task


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_contiguous_and_even(count: int, devices: int) -> None:
    shares = share_out(count, devices)
    rows = [row for share in shares for row in range(share.start, share.stop)]
    sizes = [share.stop - share.start for share in shares]
    assert rows == list(range(count))
    assert len(shares) == max(1, min(count, devices))
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


def replica() -> Replica:
    """A small model in training; its first layer is frozen."""
    task = local_task(class_problem((5,), model_fn=frozen_first), optimizer=optim.SGD(0.1))
    return Replica(task, task.model_fn(), torch.device("cpu"))


def frozen_first() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    module[0].requires_grad_(False)
    return module


X, Y = torch.arange(48.0).reshape(8, 6) / 48, torch.arange(8) % 3


@given(st.integers(2, 4))
def test_gradients_of_shares_add_up_to_that_of_the_batch(devices: int) -> None:
    whole, *parts = [replica() for _ in range(devices + 1)]
    whole.loss(X, Y).backward()
    for part, share in zip(parts, share_out(8, devices), strict=True):
        part.loss(X[share], Y[share], (share.stop - share.start) / 8).backward()
    parts[0].add_gradients(parts[1:])
    torch.testing.assert_close(parts[0].gradient(), whole.gradient(), rtol=1e-5, atol=1e-7)
    assert len(whole.gradient()) == sum(p.numel() for p in whole.trained) == 4 * 3 + 3


def test_the_model_is_a_view_of_its_row_and_a_copy_follows_it() -> None:
    first, other = replica(), replica()
    with torch.no_grad():
        first.trained[0].add_(1.0)
    assert not torch.equal(first.row, other.row)
    other.loss(X, Y).backward()
    other.follow(first.row)
    assert torch.equal(other.trained[0], first.trained[0])
    assert [p.grad for p in other.trained] == [None, None]


def test_a_gradient_is_set_and_read_back_and_what_no_replica_used_stays_without() -> None:
    one, two = replica(), replica()
    grad = torch.arange(15.0)
    one.set_gradient(grad)
    assert torch.equal(one.gradient(), grad)
    one.trained[1].grad = None
    one.add_gradients([two])
    assert one.trained[1].grad is None, "weight decay moves what has a gradient of zero"
    assert torch.equal(one.gradient(), torch.cat([grad[:12], torch.zeros(3)]))

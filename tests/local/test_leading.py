"""The optimizer of a stack lets finished rows go, and nobody can tell from the rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedray import optim
from fedray.local.leading import LeadingRows
from fedray.optim import ELEMENTWISE, OptimizerFn

OPTIONS: dict[str, Callable[[type[torch.optim.Optimizer]], OptimizerFn]] = {
    "plain": lambda kind: lambda params: kind(params, lr=0.1),  # type: ignore[call-arg]
    "decay": lambda kind: lambda params: kind(params, lr=0.1, weight_decay=0.1),  # type: ignore[call-arg]
}


def gradients(steps: int, rows: int, width: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(steps)
    return [torch.randn(rows, width, generator=draw) for _ in range(steps)]


def alone(optimizer_fn: OptimizerFn, start: Tensor, grads: list[Tensor]) -> Tensor:
    """One row under an optimizer of its own."""
    row = start.clone().requires_grad_()
    optimizer = optimizer_fn([row])
    for grad in grads:
        row.grad = grad.clone()
        optimizer.step()
    return row.detach()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ELEMENTWISE, ids=lambda kind: kind.__name__)
def test_each_row_is_what_it_is_under_an_optimizer_of_its_own(kind: type[torch.optim.Optimizer], options: str) -> None:
    """Every kind of state that torch's optimizers keep is let go with its rows, and no row is moved once it is out."""
    optimizer_fn = OPTIONS[options](kind)
    start, ends = torch.randn(4, 33, generator=torch.Generator().manual_seed(0)), [5, 3, 3, 1]
    grads = gradients(5, 4, 33)
    matrix = start.clone()
    rows = LeadingRows(optimizer_fn, matrix)
    for step in range(5):
        training = sum(step < end for end in ends)
        if training < len(rows.leaf()):
            rows.keep(training)
        rows.step(grads[step][:training])
    for row, end in enumerate(ends):
        torch.testing.assert_close(
            matrix[row], alone(optimizer_fn, start[row], [grad[row] for grad in grads[:end]]), rtol=1e-6, atol=1e-7
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 40))
def test_letting_go_changes_no_bit_of_those_who_stay(ends: list[int], width: int) -> None:
    """The same as stepping all rows to the end and looking at each when it had finished."""
    ends = sorted(ends, reverse=True)
    grads = gradients(4, len(ends), width)
    start = torch.randn(len(ends), width, generator=torch.Generator().manual_seed(1))
    for optimizer_fn in (optim.SGD(0.1, momentum=0.9), optim.AdamW(0.01)):
        kept, whole = start.clone(), start.clone()
        leading, everything = LeadingRows(optimizer_fn, kept), LeadingRows(optimizer_fn, whole)
        seen = start.clone()
        for step in range(max(ends)):
            training = sum(step < end for end in ends)
            if training < len(leading.leaf()):
                leading.keep(training)
            leading.step(grads[step][:training])
            everything.step(grads[step])
            seen[:training] = whole[:training]
        assert torch.equal(kept, seen)


def test_rows_can_leave_before_the_first_step() -> None:
    """Adagrad makes its memory with the optimizer, the others with their first step."""
    for kind in (torch.optim.Adagrad, torch.optim.SGD):
        matrix = torch.zeros(3, 2)
        rows = LeadingRows(lambda params, kind=kind: kind(params, lr=1.0), matrix)  # type: ignore[misc]
        rows.keep(2)
        rows.step(torch.ones(2, 2))
        assert matrix[:2].all()
        assert not matrix[2].any()


def test_the_group_is_the_one_that_a_scheduler_would_change() -> None:
    matrix = torch.zeros(2, 1)
    rows = LeadingRows(optim.SGD(0.5), matrix)
    rows.keep(1)
    rows.group["lr"] = 2.0
    rows.step(torch.ones(1, 1))
    assert matrix.tolist() == [[-2.0], [0.0]]

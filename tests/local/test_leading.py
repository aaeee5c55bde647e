"""The optimizer of a stack lets finished rows go, and nobody can tell from the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedray import optim
from fedray.core.layout import Layout
from fedray.local.leading import LeadingRows
from fedray.optim import ELEMENTWISE, OptimizerFn

OPTIONS: dict[str, Callable[[type[torch.optim.Optimizer]], OptimizerFn]] = {
    "plain": lambda kind: lambda params: kind(params, lr=0.1),  # type: ignore[call-arg]
    "decay": lambda kind: lambda params: kind(params, lr=0.1, weight_decay=0.1),  # type: ignore[call-arg]
}


def gradients(steps: int, rows: int, width: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(steps)
    return [torch.randn(rows, width, generator=draw) for _ in range(steps)]


def layout_of(width: int) -> Layout:
    """A layout with ``width`` values, in two tensors where there are two."""
    return Layout.of(nn.Linear(width - 1, 1) if width > 1 else nn.Linear(1, 1, bias=False))


def step(rows: LeadingRows, layout: Layout, grad: Tensor) -> None:
    rows.step(list(layout.split(grad).values()) if rows.apart else [grad])


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
    matrix, layout = start.clone(), layout_of(33)
    rows = LeadingRows(optimizer_fn, matrix, layout)
    for number in range(5):
        training = sum(number < end for end in ends)
        if training < len(rows):
            rows.keep(training)
        step(rows, layout, grads[number][:training])
    for row, end in enumerate(ends):
        torch.testing.assert_close(
            matrix[row], alone(optimizer_fn, start[row], [grad[row] for grad in grads[:end]]), rtol=1e-6, atol=1e-7
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 40))
def test_letting_go_changes_no_bit_of_those_who_stay(ends: list[int], width: int) -> None:
    """The same as stepping all rows to the end, on the whole, and looking at each when it had finished."""
    layout = layout_of(width)
    ends = sorted(ends, reverse=True)
    grads = gradients(4, len(ends), width)
    start = torch.randn(len(ends), width, generator=torch.Generator().manual_seed(1))
    for optimizer_fn in (optim.SGD(0.1), optim.SGD(0.1, 0.9, 0.1, nesterov=True), optim.AdamW(0.01)):
        kept, whole = start.clone(), start.clone()
        leading, everything = (
            LeadingRows(optimizer_fn, kept, layout),
            LeadingRows(optimizer_fn, whole, layout, joined=True),
        )
        assert not everything.apart
        seen = start.clone()
        for number in range(max(ends)):
            training = sum(number < end for end in ends)
            if training < len(leading):
                leading.keep(training)
            step(leading, layout, grads[number][:training])
            everything.step([grads[number]])
            seen[:training] = whole[:training]
        assert torch.equal(kept, seen)


def test_rows_can_leave_before_the_first_step() -> None:
    """Adagrad makes its memory with the optimizer, the others with their first step."""
    for kind in (torch.optim.Adagrad, torch.optim.SGD):
        matrix, layout = torch.zeros(3, 2), layout_of(2)
        rows = LeadingRows(lambda params, kind=kind: kind(params, lr=1.0), matrix, layout)  # type: ignore[misc]
        rows.keep(2)
        step(rows, layout, torch.ones(2, 2))
        assert matrix[:2].all()
        assert not matrix[2].any()


def test_the_group_is_the_one_that_a_scheduler_would_change() -> None:
    matrix, layout = torch.zeros(2, 1), layout_of(1)
    rows = LeadingRows(optim.SGD(0.5), matrix, layout)
    rows.keep(1)
    rows.group["lr"] = 2.0
    step(rows, layout, torch.ones(1, 1))
    assert matrix.tolist() == [[-2.0], [0.0]]


def test_the_optimizer_function_is_called_once() -> None:
    """A function of the user's may count, print or draw."""
    made: list[object] = []

    def optimizer_fn(params: Iterable[Tensor]) -> torch.optim.Optimizer:
        made.append(optimizer := torch.optim.SGD(params, lr=1.0))
        return optimizer

    LeadingRows(optimizer_fn, torch.zeros(2, 3), layout_of(3))
    assert len(made) == 1

"""Gradients of one loss for each client."""

from __future__ import annotations

import pytest
import torch

from fedray.local.gradients import check_objective, gradient_of


def test_rows_do_not_meet_and_what_is_not_used_has_no_gradient() -> None:
    params = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert gradient_of(params[:, 0].square(), params).tolist() == [[2.0, 0.0], [6.0, 0.0]]
    assert gradient_of(torch.zeros(2, requires_grad=True) + 1.0, params).tolist() == [[0.0, 0.0]] * 2
    again = gradient_of(params[:, 0] ** 3, params, graph=True)
    assert gradient_of(again.sum(dim=1), params).tolist() == [[6.0, 0.0], [18.0, 0.0]]


@pytest.mark.parametrize("shape", [(), (3,), (2, 1)])
def test_another_number_of_losses_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one loss for each client of step\.rows, \[2\]; this one gives"):
        check_objective(torch.zeros(shape), 2)

"""A loss of single examples beside the task's: its gradient is clipped with that of the task's, example by example."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from fedray.core.layout import Layout
from fedray.core.losses import cross_entropy
from fedray.local.added import Added
from fedray.local.clients import Clients
from fedray.local.per_example import Beside
from fedray.local.program import ClientProgram
from tests.helpers import class_problem, local_task, relative
from tests.local.test_per_example import CLIENTS, ROWS, Case, norm_of


def apart(output: Tensor, target: Tensor, other: Tensor) -> Tensor:
    """Joins whatever it is given, which is one example, and depends on its target."""
    return (output - other).square().sum() * (1.0 + target)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("share", [0.5, math.inf])
def test_sums_are_those_of_a_loop_over_examples_in_float64(name: str, share: float) -> None:
    case = Case(name)
    layout = Layout.of(case.module)
    other = layout.pack(dict(case.module.state_dict()))
    added = Added(apart, (other[: layout.trained],), weight=0.3)
    there = {n: tensor[0] for n, tensor in layout.split(other[: layout.trained].unsqueeze(0)).items()}

    def each(client: int) -> list[list[Tensor]]:
        found = []
        for row in range(ROWS):
            leaves = {n: tensor[client].double().requires_grad_() for n, tensor in case.params.items()}
            x, y = case.x[client, row : row + 1].double(), case.y[client, row : row + 1]
            output = functional_call(case.module, leaves, (x,))
            taught = functional_call(case.module, {n: tensor.double() for n, tensor in there.items()}, (x,))
            loss = cross_entropy(output, y) + 0.3 * apart(output, y[0], taught)
            found.append(list(torch.autograd.grad(loss, list(leaves.values()))))
        return found

    norm = share * norm_of(each(0)[0])
    beside = Beside.of(added, slice(0, CLIENTS), layout, CLIENTS)
    real, keys = torch.ones(CLIENTS, ROWS, dtype=torch.bool), torch.arange(CLIENTS)
    found = case.clipped(case.params, {}, case.moved, keys, case.x, case.y, real, norm, beside)[1]
    for client in range(CLIENTS):
        grads = each(client)
        factors = [min(1.0, norm / norm_of(grad)) for grad in grads]
        for place, total in enumerate(found):
            wanted = torch.stack([factor * grad[place] for factor, grad in zip(factors, grads, strict=True)]).sum(dim=0)
            assert relative(total[client].double(), wanted) <= 1e-5


def test_a_loss_that_is_no_number_of_an_example_is_refused() -> None:
    added = Added(lambda output, target: output)
    with pytest.raises(ValueError, match=r"its function gives \[3\] of one example"):
        added.of(torch.zeros(1, 2, 3), torch.zeros(1, 2))


class Both(ClientProgram):
    def client(self, c: Clients) -> None:
        c.fit(objective=lambda step: step.loss(), added=Added(lambda output, target: output.sum(-1)))


def test_an_objective_has_what_is_added_in_it() -> None:
    with pytest.raises(ValueError, match="an objective is the whole loss"):
        local_task(class_problem((7, 3)), program=Both())

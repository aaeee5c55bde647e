"""Gradients of losses, one for each client, and the nodes of the backward passes that find them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.graph import Node

from fedray.core.draws import NO_LOOK, Look


def check_objective(loss: Tensor, rows: int) -> None:
    """Raise ValueError unless there is one loss for each client."""
    if loss.shape != (rows,):
        raise ValueError(
            f"an objective gives one loss for each client of step.rows, {[rows]}; this one gives {list(loss.shape)}: "
            "average with step.mean(values)"
        )
    if not loss.requires_grad:
        raise ValueError("an objective depends on step.params, and this one does not: call step.forward()")


def gradient_of(loss: Tensor, params: Tensor, graph: bool = False, look: Look = NO_LOOK) -> Tensor:
    """Return the gradient of losses ``[A]`` for parameters ``[A, k]``; ``look`` began with the forward pass."""
    check_objective(loss, len(params))
    look.forward_ends()
    found = torch.autograd.grad(loss.sum(), params, create_graph=graph, allow_unused=True, materialize_grads=True)
    look.backward_ends()
    return found[0]


def backward_nodes(output: Tensor) -> Iterator[Node]:
    """Yield each node of the backward pass of a tensor once, its own first.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> [node.name() for node in backward_nodes((2 * weight).exp())]
    ['ExpBackward0', 'MulBackward0', 'torch::autograd::AccumulateGrad']
    """
    waiting, seen = [output.grad_fn], set[Node]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += (behind for behind, _ in node.next_functions)

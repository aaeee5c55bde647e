"""Clipping of a client's gradient to a norm, before each step of its optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def clip_rows(grads: Sequence[Tensor], most: float | None) -> Sequence[Tensor]:
    """Scale down the gradient of each client of a stack whose norm is above ``most``, as torch does that of a model.

    The norm is that of a client's whole gradient, over all its tensors; a client's does not depend on the others'.  As
    in ``torch.nn.utils.clip_grad_norm_`` the factor is ``most / (norm + 1e-6)``, at most 1.

    >>> clip_rows([torch.tensor([[3.0], [0.3]]), torch.tensor([[4.0], [0.4]])], most=1.0)
    [tensor([[0.6000],
            [0.3000]]), tensor([[0.8000],
            [0.4000]])]

    Args:
        grads: the tensors of a gradient, each with a row for each client, ``[A, ...]``.
        most: largest norm, above 0; None: as they are.
    """
    if most is None:
        return grads
    parts = [torch.linalg.vector_norm(grad.reshape(len(grad), grad[0].numel()), dim=1) for grad in grads]
    factor = (most / (torch.linalg.vector_norm(torch.stack(parts), dim=0) + 1e-6)).clamp(max=1.0)
    # Not in place: what autograd gives for two tensors may be one.
    return [grad * factor.view(-1, *[1] * (grad.dim() - 1)) for grad in grads]


def clip_module(parameters: Iterable[Tensor], most: float | None) -> None:
    """Scale down the gradients of a module's parameters in place, if their norm is above ``most``; None: never."""
    if most is not None:
        nn.utils.clip_grad_norm_(parameters, most)

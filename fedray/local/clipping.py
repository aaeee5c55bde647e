"""Clipping: of a client's gradient before each step of its optimizer, and, by bounds that hold, of what is private."""

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


SLACK = 1.0 - 2.0**-22
"""Each product of a clip rounds by up to half a unit in the last place; one part in 2**22 keeps it below the bound."""


def clip_factors(norms: Tensor, most: float) -> Tensor:
    """Return what vectors of these norms are multiplied by, so that none of them is above ``most``; 0 if not finite.

    >>> clip_factors(torch.tensor([0.5, 4.0, float("nan")], dtype=torch.float64), most=1.0)
    tensor([1.0000, 0.2500, 0.0000])

    Args:
        norms: float64, as norms in float32 are too small by up to 1e-4.
        most: above 0; infinity for none.
    """
    factors = torch.where(norms > most, most * SLACK / norms, 1.0)
    return torch.where(torch.isfinite(norms), factors, 0.0).to(torch.float32)


def clip_to(rows: Tensor, most: float, order: float = 2.0) -> Tensor:
    """Return rows ``[C, k]``, each of a norm of at most ``most``; one that is not finite is a row of zeros.

    >>> clip_to(torch.tensor([[3.0, 4.0], [0.3, 0.4], [float("inf"), 0.0]]), most=1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000],
            [0.0000, 0.0000]])

    Args:
        rows: not to be changed.
        most: above 0.
        order: 2 for the Euclidean norm, 1 for the sum of absolute values.
    """
    norms = torch.linalg.vector_norm(rows, order, dim=1, dtype=torch.float64)
    return torch.where(torch.isfinite(norms)[:, None], rows, 0.0) * clip_factors(norms, most)[:, None]

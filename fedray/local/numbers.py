"""Fits of numbers that are no models: an objective says what they are."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fedray.config.local import LocalSection
from fedray.core.layout import Layout
from fedray.local.batches import Batch, Trace, share_out
from fedray.local.clipping import clip_rows
from fedray.local.gradients import gradient_of
from fedray.local.guards import check_in_place
from fedray.local.leading import LeadingRows
from fedray.local.step import Fit, Step, Steps


class _Clients(Protocol):
    @property
    def stepper(self) -> Steps: ...

    @property
    def layout(self) -> Layout: ...


def fit_numbers(c: _Clients, fit: Fit, args: LocalSection) -> Trace:
    """Train the numbers ``fit.models`` ``[C, k]`` in place, in a stack or alone, and leave the models as they are.

    Args:
        c: the clients, of whose stepper it takes the forwards.
        fit: the fit, with an objective.
        args: the recipe: how gradients are accumulated and clipped.
    """
    stepper, batches, count = c.stepper, fit.batches, fit.schedule.count
    stepper.begin(c, fit.seed)  # type: ignore[arg-type]
    optimizer = LeadingRows(fit.optimizer, fit.models, c.layout, joined=True, free=True)
    trace = Trace(np.zeros(len(fit.models)), count, optimizer.group, fit.models.device)
    for number, n in enumerate(batches.active):
        if n < len(optimizer):
            optimizer.keep(n)
        batch = batches.at(number, n)
        step = fit.step(c, number, optimizer.whole, batch, trace.lr)  # type: ignore[arg-type]
        rows = batch.y.shape[1]
        cut = share_out(rows, args.pieces(rows))
        with stepper.drawing():
            loss, grad = _descent(fit, step, batch, cut)
        trace.total[:n] += loss.cpu().double().numpy() * batch.count
        with torch.no_grad():
            if fit.gradient is not None:
                check_in_place(fit.gradient(step, grad), grad, "gradient")
            optimizer.step(clip_rows([grad], args.clip_grad_norm))
            if fit.after is not None:
                check_in_place(fit.after(step), step.params, "after")
    return trace


def _descent(fit: Fit, step: Step, batch: Batch, cut: list[slice]) -> tuple[Tensor, Tensor]:
    """Return the loss ``[A]`` and the gradient ``[A, k]`` of a step, one piece of its batch after the other."""
    assert fit.objective is not None
    stepper = step.c.stepper
    if len(cut) < 2:
        look, loss = stepper.look(step.number), fit.objective(step)
        return loss.detach(), gradient_of(loss, step.params, look=look)
    total, grad = torch.zeros(len(batch.x), device=step.params.device), torch.zeros_like(step.params.detach())
    for piece in cut:
        at, look = step.cut(piece), stepper.look(step.number)
        loss, weight = fit.objective(at), at.batch.weight(batch)
        total += loss.detach() * weight
        grad += gradient_of(loss, step.params, look=look) * weight.unsqueeze(1)
    return total, grad

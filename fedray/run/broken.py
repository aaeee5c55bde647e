"""Outputs, losses and gradients that are not finite before a client has taken a step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedray.core.draws import put_back
from fedray.local.task import LocalTask
from fedray.tasks import outputs_of

_MOST_ROWS = 256


def broken_at_start(task: LocalTask, model: Tensor, client: int, device: torch.device) -> str | None:
    """Return which of output, loss and gradient is not finite by the model that a client starts from, if one is.

    The first rows are looked at, without changes of inputs and in float32.

    Args:
        task: the local training problem.
        model: the global model, ``[P]``.
        client: the index of the client.
        device: the device of the model.

    Returns:
        ``output``, ``loss`` or ``gradient``; None: all are finite, or they cannot be told: clients have parameters of
        their own, or the module fails when it is called alone.
    """
    if task.layout.personal or len(model) != task.layout.size:
        return None
    try:
        with put_back([device] if device.type == "cuda" else []):
            return _broken(task, model, client, device)
    except Exception:  # of any kind: this is for the words of another error
        return None


def _broken(task: LocalTask, model: Tensor, client: int, device: torch.device) -> str | None:
    module = task.model_fn().to(device).train()
    task.layout.load(module, model)
    places = np.arange(min(_MOST_ROWS, int(task.data.sizes[client])))
    x, y = task.data.rows(np.array([client]), device).take(places[None])
    output = outputs_of(module, x[0]).float()
    if not output.isfinite().all():
        return "output"
    loss = task.loss_fn(output, y[0])
    if not loss.isfinite().all():
        return "loss"
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss.mean(), trained, allow_unused=True)
    return None if all(one is None or bool(one.isfinite().all()) for one in found) else "gradient"

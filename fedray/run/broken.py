"""Inputs, outputs, losses and gradients that are not finite before a client has taken a step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedray.core.draws import put_back
from fedray.data.columns.inputs import named
from fedray.local.task import LocalTask
from fedray.models.shared import placed
from fedray.tasks import outputs_of

_MOST_ROWS = 256


def broken_example(task: LocalTask, client: int, device: torch.device) -> str | None:
    """Return which input or target of a client is not finite, in words; None: all are.

    Its rows are looked at as evaluations see them, without random changes of inputs.

    Args:
        task: the local training problem.
        client: the index of the client.
        device: the device of the rows.
    """
    try:
        with put_back([device] if device.type == "cuda" else []):
            return _broken_example(task, client, device)
    except Exception:  # of any kind: this is for the words of another error
        return None


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
    module = placed(task.model_fn(), device).train()
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


def _broken_example(task: LocalTask, client: int, device: torch.device) -> str | None:
    size, rows = int(task.data.sizes[client]), task.data.rows(np.array([client]), device)
    for start in range(0, size, _MOST_ROWS):
        x, y = rows.take(np.arange(start, min(start + _MOST_ROWS, size))[None])
        seen = named(task.augment.seen(x)).items()
        inputs = {"an input" if name == "x" else f"an input of {name}": one for name, one in seen}
        for what, column in {**inputs, "a target": y}.items():
            wrong = torch.nonzero(~torch.isfinite(column[0]))
            if len(wrong):
                first = wrong[0].tolist()
                return f"{what} is {float(column[0][tuple(first)]):g}: training example {start + first[0]}"
    return None

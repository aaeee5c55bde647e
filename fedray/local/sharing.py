"""The sharing of a client's batch over the devices of its worker: a deterministic rule, decided once."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import nn

from fedray.core.draws import drawn_since, named, traces
from fedray.local.batches import share_out
from fedray.local.dropout import NamedDropout, has_dropout
from fedray.local.modes import train_mode
from fedray.local.stacking import COUPLED, batch_statistics, coupled
from fedray.local.task import LocalTask, Sharing
from fedray.tasks import outputs_of

_ROWS = 5
_TOLERANCE = 1e-4


def decide_sharing(task: LocalTask, devices: int) -> Sharing:
    """Decide the sharing of a run.

    A batch is shared out if clients step one by one, the loss of a batch is the mean of its examples' losses, and a
    forward pass in training mode gives each row of a batch what it gives it in a smaller one, changes no buffer, and
    draws nothing at random but dropout.  Then the shares' gradients, weighted by their rows, add up to the batch's.

    Args:
        task: the local training problem, its stacking decided.
        devices: the most that a worker has.
    """
    if devices < 2:
        return Sharing()
    reason = unshared(task)
    if reason is None:
        return Sharing(devices, f"a client's batch is shared out over the GPUs of its worker, {devices} at most")
    return Sharing(1, f"of several GPUs a worker uses the first alone: {reason}")


def pieces_told(task: LocalTask) -> tuple[str, ...]:
    """Return what there is to warn of where ``local.accumulate`` cuts a batch whose loss is more than its pieces'."""
    if task.args.accumulate == 1:
        return ()
    try:
        if not coupled(task, task.model_fn()):
            return ()
    except Exception:  # of any kind: whoever trains is told
        return ()
    told = f"local.accumulate={task.args.accumulate}: {COUPLED}, so that a step takes the mean of its pieces' losses"
    return (f"{told}, weighted by their rows, and not the loss of all of them together",)


def unshared(task: LocalTask) -> str | None:
    """Return why the rows of a batch cannot be shared out; None: they can."""
    if task.stacking.stacked:
        return "clients step stacked, which gains more from a worker for each GPU"
    module = task.model_fn()
    if normed := batch_statistics(module):
        return normed
    try:
        return COUPLED if coupled(task, module) else _joined(task, module)
    except Exception as error:
        text = " ".join(str(error).split())
        return f"it cannot be tried in shares ({type(error).__name__}: {text[:120]})"


def _joined(task: LocalTask, module: nn.Module) -> str | None:
    """Name what joins the rows of a batch in a forward pass, if anything does."""
    largest = np.array([int(np.argmax(task.data.sizes))])
    x = task.data.rows(largest).take(np.arange(_ROWS)[None])[0][0]
    dropout = NamedDropout(task.seed) if has_dropout(module) else None
    train_mode(module)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    outputs = []
    with torch.no_grad(), named(task.seed, "local"), dropout or contextlib.nullcontext():
        before = traces()
        for devices in (1, 2, _ROWS):
            parts = []
            for share in share_out(_ROWS, devices):
                if dropout is not None:
                    dropout.at(1, 0, share)
                parts.append(outputs_of(module, x[share]))
            outputs.append(torch.cat(parts))
        if drawn_since(before):
            return "the model draws at random, and not by nn.Dropout"
    for name, buffer in module.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            return f"training changes the buffer {name}"
    whole, *shared = outputs
    close = _TOLERANCE * (float(whole.nan_to_num().abs().max()) or 1.0)
    if not all(torch.allclose(part, whole, rtol=0.0, atol=close, equal_nan=True) for part in shared):
        return "the rows of a batch are not in shares what they are together"
    return None

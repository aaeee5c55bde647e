"""The memory of a step, counted from a model of shapes alone."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedray.core.errors import ConfigError, one_line
from fedray.data.columns.inputs import Inputs, like, parts
from fedray.data.columns.rows import CPU
from fedray.local.modes import train_mode
from fedray.local.schedule import batch_widths
from fedray.local.task import LocalTask, autocast
from fedray.models.prototype import peek
from fedray.models.shapes import as_on_cpu, has_values
from fedray.tasks import outputs_of

Moved = Callable[[Tensor], Tensor]
"""From a tensor to one without values, as on the CPU."""


def of_shapes(task: LocalTask) -> bool:
    """Return whether the model of a problem is of shapes alone."""
    return not all(map(has_values, peek(task.model_fn).parameters()))


class Live(TorchDispatchMode):
    """The bytes of tensors that are made in the context, and their most at a time; of shapes alone, too.

    >>> with Live() as live:
    ...     kept = torch.zeros(1000) + 1.0
    >>> live.now, live.most
    (4000, 8000)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in given | self._known:
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        number, size = id(storage), storage.nbytes()
        self._known.add(number)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, number, size)

    def _free(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.now -= size


def step_bytes(task: LocalTask) -> int:
    """Return the most memory of a pass over the largest batch of all clients, forward and backward, or its piece.

    That is what autograd keeps, and what lies beside it at a time: logits and their gradients, a layer that is computed
    again.  Parameters and their gradients are not among it.  Sequences are counted at their longest.

    Raises:
        ConfigError: the pass needs values, or fails.
    """
    widths = batch_widths(task.args, task.data.sizes, task.data.keys(np.arange(len(task.data))))
    rows = int(widths.max())
    rows = -(-rows // task.args.pieces(rows))
    x, y = _rows(task, rows)

    def passes(module: nn.Module, moved: Moved) -> None:
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_forget_gradient)
        with autocast(task.args.precision, CPU):
            loss = task.loss_fn(outputs_of(train_mode(module), like(x, moved)), moved(y))
        loss.backward()

    return _most(task, passes, "a training step")


def evaluation_bytes(task: LocalTask) -> int:
    """Return the most memory of a forward pass over as many rows as an evaluation takes at once; 0 without a test set.

    Raises:
        ConfigError: the pass needs values, or fails.
    """
    if task.data.test is None:
        return 0
    x, _ = _rows(task, min(task.evaluated_rows, len(task.data.test)))

    def passes(module: nn.Module, moved: Moved) -> None:
        with torch.no_grad(), autocast(task.args.precision, CPU):
            outputs_of(module.eval(), like(x, moved))

    return _most(task, passes, "an evaluation")


def _most(task: LocalTask, passes: Callable[[nn.Module, Moved], None], what: str) -> int:
    try:
        with as_on_cpu(peek(task.model_fn)) as (module, moved), Live() as live:
            passes(module, moved)
    except Exception as error:
        raise ConfigError(
            f"--sizes: {what} of this model cannot be counted without its values: {one_line(error)[:300]}; leave "
            "--sizes out, where the model and its weights are at hand"
        ) from error
    most: int = live.most
    return most


def _forget_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _rows(task: LocalTask, rows: int) -> tuple[Inputs, Tensor]:
    """Return inputs and targets of so many rows, of which only the shape counts, each as long as the longest."""
    spec, data = task.data.spec, task.data.probe()
    x, y = data.rows(np.zeros(1, dtype=np.int64)).take(np.zeros((1, 1), dtype=np.int64))
    x, y = x[0], y[0]
    tokens = spec.tokens
    length = tokens.shape[0] if tokens is not None and tokens.shape else 0
    held = next((one.shape[1] for one in parts(x) if one.dim() == 2), 0) if length else 0

    def widened(tensor: Tensor) -> Tensor:
        ends = list(tensor.shape[1:])
        if held and tensor.dim() == 2 and not tensor.is_floating_point() and ends[0] == held:
            ends[0] = length
        return tensor.new_zeros(()).expand(rows, *ends).contiguous()

    return like(x, widened), widened(y)

"""The order of images in memory where clients step one by one on a CPU: a deterministic rule, decided once for a run.

Torch's convolutions and poolings on a CPU are faster where the channels of a place lie next to each other
(``torch.channels_last``), and give what they take in the same order, so that it is enough to hand them such inputs, and
such gradients where a reshape ends them.  Weights stay as they lie in the vector, and so does everything that is sent,
saved or exported.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedray.core.draws import named
from fedray.core.errors import ConfigError, one_line
from fedray.data.columns.inputs import Inputs, parts
from fedray.local.dropout import NamedDropout, has_dropout
from fedray.local.modes import train_mode
from fedray.local.stacking import usual_batch
from fedray.local.task import LocalTask, MemoryFormat
from fedray.tasks import outputs_of

WORTH = 4
"""The numbers that convolutions read and write in a step, over those of their weights, from which a CPU gains.

A step saves time with each number that is not put into another order and back, and loses some with each weight, as its
gradient comes in the order of its inputs and is put into that of the vector.
"""

_ROWS = 4
_OUTPUTS, _GRADIENTS, _NOISE = 1e-3, 5e-2, 1e-4
"""The largest differences that count as rounding: of outputs, over the largest; of gradients, of their norms, and of
that of all gradients.

Where two numbers are nearly equal a pooling may take the other one, whose gradient is another.
"""


def decide_format(task: LocalTask, device: Literal["cpu", "cuda"]) -> MemoryFormat:
    """Decide the order of a run's images in memory, by ``local.memory_format``.

    ``auto`` takes channels-last where clients step one by one on a CPU, the model gives with it what it gives without,
    and its convolutions read and write at least ``WORTH`` times as many numbers in a step as they have weights.  That
    depends on the model and the data alone, so that all machines decide alike.

    Args:
        task: the local training problem, its stacking decided.
        device: type of the workers' devices.

    Raises:
        ConfigError: channels-last is asked for, and cannot be.
    """
    wanted = task.args.memory_format
    if wanted == "contiguous":
        return MemoryFormat()
    asked = wanted == "channels_last"
    try:
        _check_fit(task, None if asked else device)
        worth = min(_tried(part) for part in task.parts())
    except _Unfit as reason:
        if asked:
            raise ConfigError(f"local.memory_format=channels_last: {reason}; leave it out, or set contiguous") from None
        silent = task.stacking.stacked or not _convolves(task)
        return MemoryFormat(False, "" if silent else f"contiguous: {reason}")
    if asked:
        return MemoryFormat(True, "channels_last, as the config says")
    why = f"convolutions read and write {worth:,.3g} numbers in a step for each of their weights"
    return MemoryFormat(True, f"channels_last: {why}") if worth >= WORTH else MemoryFormat(False, f"contiguous: {why}")


class _Unfit(Exception):
    """Images stay as they are; says why."""


def _check_fit(task: LocalTask, device: Literal["cpu", "cuda"] | None) -> None:
    """Raise _Unfit where images stay as they are, as far as a look shows it; ``device``: None: whatever it is."""
    if task.stacking.stacked:
        raise _Unfit("clients step together, for which it is slower (local.stack: off lets them step one by one)")
    if device == "cuda":
        raise _Unfit("on a GPU it is taken where local.memory_format asks for it")
    if task.private is not None:
        raise _Unfit("gradients of single rows are taken under vmap")
    if not _convolves(task):
        raise _Unfit("no input is an image, [channels, height, width], for a 2-D convolution")


def _convolves(task: LocalTask) -> bool:
    """Tell if the model has 2-D convolutions, and an input images for them."""
    images = any(one.dim() == 4 and one.is_floating_point() for one in parts(_example(task)))
    kinds = nn.Conv2d | nn.ConvTranspose2d
    return images and any(isinstance(part, kinds) for part in task.model_fn().modules())


def _example(task: LocalTask) -> Inputs:
    return _batch(task)[0]


def _batch(task: LocalTask) -> tuple[Inputs, Tensor]:
    """Return some rows of the largest client."""
    largest = np.array([int(np.argmax(task.data.sizes))])
    x, y = task.data.rows(largest).take(np.arange(_ROWS)[None])
    return x[0], y[0]


def _tried(task: LocalTask) -> float:
    """Return the numbers of convolutions in a step for each of their weights; _Unfit where the model cannot be so."""
    x, y = _batch(task)
    try:
        plain, _ = _step(task, MemoryFormat(), x, y)
    except Exception as error:
        raise _Unfit(f"it cannot be tried here ({type(error).__name__}: {one_line(error)[:120]})") from None
    try:
        other, counted = _step(task, MemoryFormat(True), x, y)
    except Exception as error:
        raise _Unfit(
            f"the model does not run with channels-last inputs ({type(error).__name__}: {one_line(error)[:120]})"
        ) from None
    (output, *grads), (moved, *others) = plain, other
    most = float(output.abs().nan_to_num().max()) if output.numel() else 0.0
    same = torch.allclose(moved, output, rtol=0.0, atol=_OUTPUTS * (most or 1.0), equal_nan=True)
    if not same or _apart(grads, others):
        raise _Unfit("the model gives something else with channels-last inputs")
    if not counted.numbers:
        raise _Unfit("no convolution gets its inputs in that order")
    return counted.numbers / len(y) * usual_batch(task) / counted.weights


def _apart(grads: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    norms = [float(grad.nan_to_num().double().norm()) for grad in grads]
    # That of a bias before a batch norm is rounding alone, beside gradients that are none.
    noise = _NOISE * math.hypot(*norms)
    changes = (float((one - two).nan_to_num().double().norm()) for one, two in zip(grads, others, strict=True))
    return any(change > _GRADIENTS * norm + noise for change, norm in zip(changes, norms, strict=True))


def _step(task: LocalTask, order: MemoryFormat, x: Inputs, y: Tensor) -> tuple[list[Tensor], _Count]:
    """Return outputs and gradients of a first step with images in an order, and what its forward pass counts."""
    module, counting = train_mode(task.model_fn()), _Count()
    trained = [p for p in module.parameters() if p.requires_grad]
    dropout = NamedDropout(task.seed) if has_dropout(module) else None
    with named(task.seed, "local"), torch.enable_grad(), dropout or contextlib.nullcontext():
        with counting:
            output = order.keep(outputs_of(module, order.put(x)))
        loss = task.loss_fn(output, y)
        grads = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
    return [output.detach().float(), *grads], counting


class _Count(TorchDispatchMode):
    """A count of what 2-D convolutions read and write in channels-last order, and of their weights."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0
        self._sizes: dict[int, int] = {}

    @property
    def weights(self) -> int:
        """The numbers of all weights that were used."""
        return sum(self._sizes.values())

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and args[0].dim() == 4:
            source, weight = args[:2]
            self._sizes[weight.data_ptr()] = weight.numel()
            if source.is_contiguous(memory_format=torch.channels_last):
                self.numbers += source.numel() + out.numel()
        return out

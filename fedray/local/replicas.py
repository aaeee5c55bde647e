"""A client's model on one device, and its copies on others: each takes a share of the batch, the gradients are added
up on the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedray.core.hidden_state import HiddenState
from fedray.core.losses import batch_loss, summed
from fedray.data.columns.inputs import Inputs
from fedray.local.losses import loss_on
from fedray.local.modes import train_mode
from fedray.local.task import LocalTask, autocast
from fedray.models.shared import placed, shared_of
from fedray.tasks import outputs_of


class Replica:
    """A module in training whose tensors are views of one row.

    Args:
        task: the local training problem.
        module: the model; it becomes this replica's.
        device: its device.

    Attributes:
        row: the vector ``[P]``.
        trained: the parameters that need a gradient, in the order of the row.
        moved: those of them that a fit moves.
        hidden: the hidden state of model, loss and optimizer function.
    """

    def __init__(self, task: LocalTask, module: nn.Module, device: torch.device) -> None:
        self._task = task
        self.module = train_mode(module)
        self.row, self.trained = self._place(device)
        self.moved = self.trained
        self.device = self.row.device
        self._loss = loss_on(task.loss_fn, self.device)
        parts = {
            "model": self.module,
            "local.loss": self._loss,
            "optimizer": task.optimizer_fn,
            "algorithm": task.program,
        }
        self.hidden = HiddenState(parts, self._elsewhere())

    def _place(self, device: torch.device) -> tuple[Tensor, list[nn.Parameter]]:
        """Put the module on its device; returns the row, and the parameters that need a gradient."""
        layout = self._task.layout
        row = layout.pack(dict(self.module.state_dict())).to(device)
        layout.attach(placed(self.module, device), row)
        named = dict(self.module.named_parameters())
        return row, [named[entry.name] for entry in layout.parameters]

    def _elsewhere(self) -> Iterable[Tensor]:
        """Return the tensors of the module that are put back by who trains it, and those that nobody writes to."""
        return [*self._task.layout.tensors(self.module).values(), *shared_of(self.module)]

    @contextmanager
    def moving(self, names: Collection[str] | None) -> Iterator[None]:
        """Let gradients reach these parameters alone for the length of the context; None: all."""
        if names is None:
            yield
            return
        entries = self._task.layout.parameters
        pairs = list(zip(entries, self.trained, strict=True))
        self.moved = [parameter for entry, parameter in pairs if entry.name in names]
        for entry, parameter in pairs:
            parameter.requires_grad_(entry.name in names)
        try:
            yield
        finally:
            self.moved = self.trained
            for parameter in self.trained:
                parameter.requires_grad_()

    def follow(self, row: Tensor) -> None:
        """Take the values of ``row`` ``[P]``, which may be on another device, and forget the gradients."""
        self.row.copy_(row, non_blocking=True)
        for parameter in self.trained:
            parameter.grad = None

    def loss(self, x: Inputs, y: Tensor, weight: float = 1.0, by: Tensor | None = None) -> Tensor:
        """Return ``weight`` times the rows' mean loss, whose ``backward`` leaves the gradients with the parameters.

        Of a loss that counts positions, the sum over those of the rows, over ``by``: the number in the whole batch.
        """
        x, y = self._task.format.put(x.to(self.device)), y.to(self.device)
        with autocast(self._task.args.precision, self.device):
            output = self._task.format.keep(outputs_of(self.module, x))
            if by is not None and (found := summed(self._loss)) is not None:
                return found.sums(output, y).sum() / by.to(self.device).clamp(min=1)
            loss = batch_loss(self._loss, output, y)
        return loss if weight == 1.0 else loss * weight

    def loss_of(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of an output of the module."""
        with autocast(self._task.args.precision, self.device):
            return batch_loss(self._loss, output, y.to(self.device))

    def add_gradients(self, others: Sequence[Replica]) -> None:
        """Add the gradients of others to these, in their order; what the loss used nowhere stays without one."""
        used = [
            any(p.grad is not None for p in same) for same in zip(*(r.trained for r in (self, *others)), strict=True)
        ]
        total = self.gradient()
        for other in others:
            total.add_(other.gradient().to(self.device))
        self.set_gradient(total)
        for parameter, one in zip(self.trained, used, strict=True):
            parameter.grad = parameter.grad if one else None

    def joined(self, grads: Sequence[Tensor]) -> Tensor:
        """Return one gradient ``[D]`` of those of the parameters that move; zero for the others."""
        of = {id(parameter): grad for parameter, grad in zip(self.moved, grads, strict=True)}
        pieces = (of[id(p)] if id(p) in of else torch.zeros_like(p) for p in self.trained)
        return torch.cat([piece.reshape(-1) for piece in pieces])

    def gradient(self) -> Tensor:
        """Return all gradients in one vector ``[D]``, zero where there is none."""
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.trained]
        return torch.cat([piece.reshape(-1) for piece in pieces])

    def set_gradient(self, grad: Tensor) -> None:
        """Make the gradients of the parameters that move views of ``grad`` ``[D]``."""
        for parameter, piece in zip(self.trained, grad.split([p.numel() for p in self.trained]), strict=True):
            parameter.grad = piece.view_as(parameter) if parameter.requires_grad else None

"""C clients at once in lanes: an ordinary forward of all their rows, one optimizer over the matrix ``[C, D]``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from fedray.data.columns.inputs import Inputs
from fedray.local.clients import Clients
from fedray.local.dropout import recomputing
from fedray.local.features import watched
from fedray.local.lanes import LaneForward
from fedray.local.stacked import StackedStepper, Tensors
from fedray.local.task import LocalTask


class LanesStepper(StackedStepper):
    """The training of a block's clients together, see :class:`fedray.local.lanes.LaneForward`.

    Whatever a module does between those that train runs unmodified: masks whose values are looked at, fused attention,
    activation checkpointing.  Attention keeps the kernel that a client alone has.
    """

    def __init__(self, task: LocalTask, module: nn.Module, device: torch.device) -> None:
        assert task.stacking.lanes is not None
        super().__init__(task, module, device)
        self._batched, self._ends_in_head = None, False
        self._lanes = LaneForward(self._template, task.layout, task.stacking.lanes)

    def _place(self, tensor: Tensor) -> Tensor:
        """Return what stands in the module in the place of a parameter: its shape, and what shows where it is used."""
        return torch.full((), float("nan"), device=self._device).expand(tensor.shape)

    @staticmethod
    def fits(task: LocalTask, devices: Sequence[torch.device]) -> str | None:
        """Return why not: what was decided before the run."""
        return task.stacking.reason if task.stacking.lanes is None else None

    @contextlib.contextmanager
    def alone(self, c: Clients) -> Iterator[None]:
        """Put back what the model, the loss or the optimizer function remember elsewhere.

        Raises:
            RuntimeError: the model writes a buffer, which all clients have in common.
        """
        tensors = self._task.layout.tensors(self._template)
        with super().alone(c):
            versions = {}
            for name, rest in self._rest.items():
                tensors[name].data.copy_(rest)
                versions[name] = tensors[name], tensors[name]._version
            with self._lanes.installed():
                yield
            tensors = self._task.layout.tensors(self._template)
            for name, (tensor, version) in versions.items():
                if tensors[name] is not tensor or tensor._version != version:
                    raise RuntimeError(f"the model writes {name}, which clients in lanes have in common")

    def drawing(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which dropout draws by name, computed again in a backward, too."""
        return recomputing(self._dropout, self._lanes)

    def _outputs(self, params: Tensors, keys: Tensor, x: Inputs) -> Tensor:
        if self._dropout is not None:
            self._dropout.client = keys
        with self._own_buffers(params):
            return self._lanes(params, x)

    def _with_features(self, params: Tensors, keys: Tensor, x: Inputs) -> tuple[Tensor, Tensor]:
        with watched(self._template, self._head) as seen:
            output = self._outputs(params, keys, x)
        clients, rows = output.shape[:2]
        if len(seen) != 1 or len(seen[0]) != clients * rows:
            return output, output.new_zeros(clients, 0)
        return output, seen[0].unflatten(0, (clients, rows))

    @contextlib.contextmanager
    def _own_buffers(self, params: Tensors) -> Iterator[None]:
        """Put the buffers that a forward brings into the module for its length."""
        brought = [name for name in self._rest if name in params]
        if not brought:
            yield
            return
        tensors = self._task.layout.tensors(self._template)
        for name in brought:
            one, *others = params[name]
            if any(not torch.equal(one, other) for other in others):
                raise RuntimeError(f"clients have a {name} of their own, which they have in common in lanes")
            tensors[name].data.copy_(one)
        try:
            yield
        finally:
            for name in brought:
                tensors[name].data.copy_(self._rest[name])

    def _gradients(self, loss: Tensor, moved: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradients of leaves, by a whole backward: checkpointing of the older kind knows no other."""
        for leaf in moved:
            leaf.grad = None  # of the step before
        loss.backward()
        return tuple(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in moved)

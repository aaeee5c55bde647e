"""One client optimizer for a stack, whose rows leave it as their clients finish."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedray.core.layout import Layout
from fedray.core.regions import Entry, spans_of
from fedray.optim import OptimizerFn


class LeadingRows:
    """An elementwise optimizer over the leading rows of a matrix ``[C, D]``.

    The rows that :meth:`keep` leaves out are neither read nor written any more, as little as what the optimizer
    remembers of them: a stack costs what its clients that still train cost, and a finished one is not moved on by its
    momentum.

    On a CPU gradient descent steps tensor by tensor, which moves less memory than joining the gradients and stepping
    once; other optimizers make so many calls for a tensor that one step is cheaper.  The bits are the same.

    >>> layout = Layout.of(torch.nn.Linear(2, 1))
    >>> matrix = torch.zeros(2, 3)
    >>> rows = LeadingRows(lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.5), matrix, layout)
    >>> rows.step([torch.ones(2, 1, 2), torch.ones(2, 1)])  # of the weight and of the bias
    >>> rows.keep(1)
    >>> rows.step([torch.ones(1, 1, 2), torch.ones(1, 1)])
    >>> matrix
    tensor([[-2.5000, -2.5000, -2.5000],
            [-1.0000, -1.0000, -1.0000]])

    Args:
        optimizer_fn: makes the optimizer, one of ``fedray.optim.ELEMENTWISE`` with one parameter group.
        matrix: the matrix that it moves, in place, ``[C, D]``.
        layout: the places of the tensors in its columns.
        joined: step on all columns at once, or those of ``only``, in any case.
        only: the entries whose columns it moves; None: all.
        free: the columns are numbers of any kind, no tensors of a model.

    Attributes:
        whole: the rows that are left, ``[A, D]``, a leaf of autograd's graph.
        leaves: their tensors ``[A, *shape]``, each a leaf of autograd's graph, by name.
        names: of those of them that move.
        apart: True if :meth:`step` takes a gradient for each leaf that moves, not those of :meth:`columns`.
        group: the optimizer's hyperparameters.
    """

    def __init__(
        self,
        optimizer_fn: OptimizerFn,
        matrix: Tensor,
        layout: Layout,
        joined: bool = False,
        only: Sequence[Entry] | None = None,
        free: bool = False,
    ) -> None:
        self._layout, self._free = layout, free
        self.names = [entry.name for entry in (layout.parameters if only is None else only)]
        self._spans = None if only is None else spans_of(only)
        self._look_at(matrix)
        self._optimizer = optimizer_fn(self.columns(self.whole))
        self.group = self._optimizer.param_groups[0]
        self.apart = not joined and matrix.device.type == "cpu" and isinstance(self._optimizer, torch.optim.SGD)
        self.group["params"] = self._stepped()

    def __len__(self) -> int:
        return len(self.whole)

    def _look_at(self, matrix: Tensor) -> None:
        self.whole = matrix.detach().requires_grad_()
        if self._free:
            return
        self.leaves = self._layout.split(matrix.detach())
        for name in self.names:
            self.leaves[name].requires_grad_()

    @property
    def moved(self) -> list[Tensor]:
        """The leaves that move."""
        return [self.leaves[name] for name in self.names]

    def joined(self, grads: Sequence[Tensor]) -> Tensor:
        """Return one gradient ``[A, D]`` of those of the leaves that move; zero for the others."""
        if self._spans is None:
            return torch.cat([grad.flatten(1) for grad in grads], dim=1)
        whole = torch.zeros_like(self.whole, requires_grad=False)
        named = {name: whole[:, e.start : e.stop] for name, e in ((e.name, e) for e in self._layout.parameters)}
        for name, grad in zip(self.names, grads, strict=True):
            named[name].copy_(grad.flatten(1))
        return whole

    def columns(self, matrix: Tensor) -> list[Tensor]:
        """Return the columns of a matrix ``[A, D]`` that move, in as few pieces as there are."""
        return [matrix] if self._spans is None else [matrix.detach()[:, span] for span in self._spans]

    def _stepped(self) -> list[Tensor]:
        return self.moved if self.apart else self.columns(self.whole)

    def keep(self, count: int) -> None:
        """Let go of all rows but the first ``count``."""
        before = self.group["params"]
        self._look_at(self.whole[:count])
        self.group["params"] = self._stepped()
        self.take_over(before, self.group["params"], count)

    def take_over(self, before: Sequence[Tensor], params: Sequence[Tensor], count: int) -> None:
        """Give ``params`` what is remembered of the first ``count`` rows of those ``before``."""
        state = self._optimizer.state
        for old, new in zip(before, params, strict=True):
            if old in state:
                state[new] = {
                    # What is remembered of each value has the shape of the values; the rest, as the number of steps, is
                    # remembered once.
                    name: value[:count] if isinstance(value, Tensor) and value.shape == old.shape else value
                    for name, value in state.pop(old).items()
                }

    def step(self, grads: Sequence[Tensor]) -> None:
        """Take a step along the gradients: those of the leaves that move if ``apart``, else of :meth:`columns`."""
        for param, grad in zip(self.group["params"], grads, strict=True):
            param.grad = grad
        self._optimizer.step()

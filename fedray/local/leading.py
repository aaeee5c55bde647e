"""One client optimizer for a stack, whose rows leave it as their clients finish."""

from __future__ import annotations

from torch import Tensor

from fedray.optim import OptimizerFn


class LeadingRows:
    """An elementwise optimizer over the leading rows of a matrix ``[C, D]``.

    The rows that :meth:`keep` leaves out are neither read nor written any more, as little as what the optimizer
    remembers of them: a stack costs what its clients that still train cost, and a finished one is not moved on by its
    momentum.

    >>> import torch
    >>> matrix = torch.zeros(2, 3)
    >>> rows = LeadingRows(lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.5), matrix)
    >>> rows.step(torch.ones(2, 3))
    >>> rows.keep(1)
    >>> rows.step(torch.ones(1, 3))
    >>> matrix
    tensor([[-2.5000, -2.5000, -2.5000],
            [-1.0000, -1.0000, -1.0000]])

    Args:
        optimizer_fn: makes the optimizer, one of ``fedray.optim.ELEMENTWISE`` with one parameter group.
        matrix: the matrix that it moves, in place, ``[C, D]``.
    """

    def __init__(self, optimizer_fn: OptimizerFn, matrix: Tensor) -> None:
        self._rows = matrix.detach().requires_grad_()
        self._optimizer = optimizer_fn([self._rows])
        self.group = self._optimizer.param_groups[0]

    def leaf(self) -> Tensor:
        """Return the rows ``[A, D]`` as a leaf of a new graph, on the same memory."""
        return self._rows.detach().requires_grad_()

    def keep(self, count: int) -> None:
        """Let go of all rows but the first ``count``."""
        before, state = self._rows, self._optimizer.state
        self._rows = before.detach()[:count].requires_grad_()
        self.group["params"] = [self._rows]
        if before in state:
            state[self._rows] = {
                # What is remembered of each value has the shape of the values; the rest, as the number of steps, is
                # remembered once.
                name: value[:count] if isinstance(value, Tensor) and value.shape == before.shape else value
                for name, value in state.pop(before).items()
            }

    def step(self, grad: Tensor) -> None:
        """Take a step along the gradients ``[A, D]``."""
        self._rows.grad = grad
        self._optimizer.step()

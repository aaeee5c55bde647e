"""Steps of an optimizer within the backward pass: each tensor moves as soon as its gradient is complete.

The gradient of one tensor at a time is in memory, in the place of all, and is read again while it is in the cache.  An
optimizer that treats every number by itself gives the same bits, as long as nothing behind a tensor in the backward
pass reads it: :meth:`EarlySteps.backward` asks the graph of each step, and where it cannot be sure all tensors move at
the end, as in any other loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.optim import Optimizer

from fedray.local.gradients import backward_nodes

LARGE = 1 << 22
"""The entries from which on it is worth the calls and the walk through the graph: 16 MB of gradients."""


class EarlySteps:
    """The steps of an optimizer on some tensors, within the backward passes of a loop.

    >>> import torch
    >>> weight = nn.Parameter(torch.ones(2))
    >>> early = EarlySteps(torch.optim.SGD([weight], lr=0.5), [weight])
    >>> with early.watching():
    ...     early.backward((3.0 * weight).sum())
    >>> weight.tolist(), weight.grad
    ([-0.5, -0.5], None)

    Args:
        optimizer: of one group; steps that it has not taken here are left to its own ``step``.
        tensors: the parameters.
    """

    def __init__(self, optimizer: Optimizer, tensors: Sequence[nn.Parameter]) -> None:
        self._optimizer, self._tensors = optimizer, tensors
        (self._group,) = optimizer.param_groups
        self._going = False

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Return the context in which :meth:`backward` is told of complete gradients."""
        handles = [tensor.register_post_accumulate_grad_hook(self._complete) for tensor in self._tensors]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass of a loss, and move each tensor within it; or leave all gradients where they are."""
        self._going = ends_with_gradients(loss, self._tensors)
        try:
            loss.backward()
        finally:
            self._going = False

    def _complete(self, tensor: Tensor) -> None:
        if not self._going:
            return
        everything, self._group["params"] = self._group["params"], [tensor]
        try:
            self._optimizer.step()
        finally:
            self._group["params"] = everything
        tensor.grad = None


def ends_with_gradients(loss: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Return True if a backward pass reads each tensor only in steps that its own gradient waits for.

    Not so where a tensor is used without a gradient as well (``weight.detach()``, ``weight.data``), and where nobody
    can say: in functions of the user's own, and in what is computed again in the backward pass.

    >>> import torch
    >>> weight = torch.ones(2, requires_grad=True)
    >>> [ends_with_gradients(loss.sum(), [weight]) for loss in (weight * weight, (weight * 2).exp() * weight.detach())]
    [True, False]

    Args:
        loss: with its graph.
        tensors: leaves.
    """
    places = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    # By the memory in which it begins, as ``data`` and views of a leaf are other tensors.
    starts = sorted(
        (tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, index) for index, tensor in enumerate(tensors)
    )
    of = {id(tensor): index for index, tensor in enumerate(tensors)}
    for node in backward_nodes(loss):
        if isinstance(node, BackwardCFunction):
            return False
        behind = [following for following, _ in node.next_functions]
        for name in _saved_by(type(node)):
            found = getattr(node, name)
            for each in found if isinstance(found, tuple) else (found,):
                kept = each.data
                if kept is None:
                    continue
                if not isinstance(kept, Tensor):
                    return False
                if kept.untyped_storage().data_ptr() in places:
                    read = {index for first, end, index in starts if first <= kept.data_ptr() < end}
                    if not read <= {of.get(id(leaf)) for leaf in map(_leaf, behind)}:
                        return False
    return True


@cache
def _saved_by(kind: type) -> tuple[str, ...]:
    """Return the names under which a node of the graph keeps tensors."""
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def _leaf(node: Any) -> Tensor | None:
    """Return the tensor of which a node is a view; None: it is more than that, or of nothing that needs a gradient."""
    while node is not None:
        if (variable := getattr(node, "variable", None)) is not None:
            return variable  # type: ignore[no-any-return]
        node = node.next_functions[0][0] if len(node.next_functions) == 1 else None
    return None

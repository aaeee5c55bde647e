"""Losses by name, and the loss of each single example of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

LossFn = Callable[[Tensor, Tensor], Tensor]
"""(output ``[B, ...]``, target ``[B, ...]``) to a scalar: the mean over the batch."""


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits ``[B, k]`` (or ``[B, k, T]``) with int64 classes ``[B]`` (``[B, T]``).

    >>> cross_entropy(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    tensor(0.6931)
    """
    return F.cross_entropy(output, target)


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of ``[B, k]`` against ``[B, k]``.

    >>> mse(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [4.0]]))
    tensor(2.)
    """
    return F.mse_loss(output, target)


def _each_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    if target.dim() > 1:
        return F.cross_entropy(output, target, reduction="none").flatten(1).mean(dim=1)
    # With few classes, torch's kernel over a leading class axis is about four times as fast as over the last one.
    return F.cross_entropy(output.t().unsqueeze(0), target.unsqueeze(0), reduction="none")[0]


def _each_squared_error(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output, target, reduction="none").flatten(1).mean(dim=1)


_DIRECT: dict[LossFn, LossFn] = {
    cross_entropy: _each_cross_entropy,
    F.cross_entropy: _each_cross_entropy,
    mse: _each_squared_error,
    F.mse_loss: _each_squared_error,
}


def has_direct(loss: LossFn) -> bool:
    """Return True if the losses of single examples are known for this function without vmap.

    They are for the functions of this module, torch's of the same kind, and an object with a method ``each``.
    """
    return _direct(loss) is not None


def _direct(loss: LossFn) -> LossFn | None:
    if isinstance(each := getattr(loss, "each", None), MethodType):
        return each
    # By identity: a loss of the user's need not be hashable.
    known = next((each for known, each in _DIRECT.items() if known is loss), None)
    return known if known is not None or (found := summed(loss)) is None else found.each


def ignore_index(loss: LossFn) -> int:
    """Return the target that a loss leaves out of its mean, its ``ignore_index``; -100 as in torch where it has none.

    >>> from functools import partial
    >>> losses = F.cross_entropy, partial(F.cross_entropy, ignore_index=0), torch.nn.CrossEntropyLoss(ignore_index=2)
    >>> [ignore_index(loss) for loss in losses]
    [-100, 0, 2]
    """
    function = getattr(loss, "function", loss)
    index = getattr(function, "keywords", {}).get("ignore_index", getattr(function, "ignore_index", -100))
    return index if isinstance(index, int) else -100


def ignored_class(loss: LossFn) -> int | None:
    """Return the class whose examples a loss leaves out of its mean (``ignore_index`` of torch's losses), if any.

    >>> ignored_class(torch.nn.CrossEntropyLoss(ignore_index=2)), ignored_class(torch.nn.CrossEntropyLoss())
    (2, None)
    """
    index = ignore_index(loss)
    return index if index >= 0 else None


class Summed(NamedTuple):
    """A loss as what it is made of: sums over the positions that count, and their number, so that it can be cut.

    A position is what has one class: an example, a pixel, a token.  The loss of any rows together is the sum of
    ``sums`` over that of ``counts``; a mean of means over parts of them is another number, with another gradient.

    >>> loss = summed(torch.nn.CrossEntropyLoss(ignore_index=2))
    >>> output, target = torch.zeros(2, 4, 3), torch.tensor([[0, 2, 2], [1, 1, 3]])
    >>> loss.counts(target), loss.sums(output, target)
    (tensor([1, 3]), tensor([1.3863, 4.1589]))

    Args:
        sums: (output ``[B, ...]``, target ``[B, ...]``) to the sum of each example's losses, ``[B]``.
        counts: target ``[B, ...]`` to the number of each example's positions that count, ``[B]``.
    """

    sums: LossFn
    counts: Callable[[Tensor], Tensor]

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the positions of each example that count, ``[B]``; 0 where none does."""
        return self.sums(output, target) / self.counts(target).clamp(min=1)

    def mean(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all positions that count; 0, with a gradient of zeros, where none does."""
        return self.sums(output, target).sum() / self.counts(target).sum().clamp(min=1)


def summed(loss: LossFn) -> Summed | None:
    """Return what a loss that leaves out targets is made of.

    It is known for the losses of tasks, and for ``CrossEntropyLoss`` and ``NLLLoss`` of torch, and their functions,
    with an ``ignore_index`` and without class weights.  None: the loss counts rows, or nobody knows what it counts.
    """
    sums, counts = getattr(loss, "sums", None), getattr(loss, "counts", None)
    if isinstance(sums, MethodType) and isinstance(counts, MethodType):
        return Summed(sums, counts)
    function = loss if isinstance(loss, torch.nn.Module) else getattr(loss, "function", loss)
    left_out = ignored_class(function)
    if left_out is None or (each := _each_position(function)) is None:
        return None

    def total(output: Tensor, target: Tensor) -> Tensor:
        return each(output, target).reshape(len(target), -1).sum(dim=1)

    return Summed(total, partial(_others, left_out=left_out))


def counts_of(loss: LossFn) -> Callable[[Tensor], Tensor] | None:
    """Return how many positions of examples a loss counts: targets ``[B, ...]`` to ``[B]``; None: it leaves out none.

    >>> weighted = torch.nn.CrossEntropyLoss(weight=torch.ones(3), ignore_index=2)
    >>> counts_of(weighted)(torch.tensor([[0, 2, 2], [2, 2, 2]])), counts_of(torch.nn.CrossEntropyLoss())
    (tensor([1, 0]), None)
    """
    if (found := summed(loss)) is not None:
        return found.counts
    left_out = ignored_class(loss)
    return None if left_out is None else partial(_others, left_out=left_out)


def _others(target: Tensor, left_out: int) -> Tensor:
    return (target != left_out).reshape(len(target), -1).sum(dim=1)


def _each_position(function: LossFn) -> LossFn | None:
    """Return the losses of single positions, 0 for those left out, of a mean of torch's over those that count."""
    if type(function) in (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss):
        if function.weight is not None or function.reduction != "mean":  # type: ignore[attr-defined]
            return None
        known = {name: vars(function)[name] for name in ("ignore_index", "label_smoothing") if name in vars(function)}
        plain = F.cross_entropy if type(function) is torch.nn.CrossEntropyLoss else F.nll_loss
        return partial(plain, reduction="none", **known)
    if not isinstance(function, partial) or function.args or function.func not in (F.cross_entropy, F.nll_loss):
        return None
    others = function.keywords.keys() - {"ignore_index", "label_smoothing"}
    return None if others else partial(function, reduction="none")


def batch_loss(loss: LossFn, output: Tensor, target: Tensor) -> Tensor:
    """Return the loss of a batch; 0, without a gradient, where it leaves out all of it and torch's mean is 0 / 0."""
    if (found := summed(loss)) is not None:
        return found.mean(output, target)
    left_out = ignored_class(loss)
    if left_out is not None and bool((target == left_out).all()):
        return output.sum() * 0.0
    return loss(output, target)


def per_example(loss: LossFn, output: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each example of a batch, ``[B]``, from a loss function that averages over its batch.

    Any such function works. Those of this module avoid a level of vmap; a function that vmap cannot run, because it
    looks at values, is called example by example.

    A loss that joins the examples of its batch is called with each example alone, where the weights of
    ``CrossEntropyLoss(weight=w)`` cancel.  An example that the loss leaves out (``ignore_index``) counts 0.
    """
    direct = _direct(loss)
    if direct is not None:
        return direct(output, target)

    def one(o: Tensor, t: Tensor) -> Tensor:
        return loss(o.unsqueeze(0), t.unsqueeze(0))

    try:
        values: Tensor = vmap(one)(output, target)
    except RuntimeError:
        values = torch.stack([one(o, t) for o, t in zip(output, target, strict=True)])
    left_out = ignored_class(loss)
    if left_out is None:
        return values
    return values.masked_fill((target == left_out).view(len(target), -1).all(dim=1), 0.0)

"""The loss of each example: what the batch's mean is the mean of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedray.core.losses import LossFn, batch_loss, cross_entropy, has_direct, mse, per_example


def batch(loss: str) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    if loss == "classes":
        return torch.randn(5, 3, generator=draw), torch.randint(3, (5,), generator=draw)
    if loss == "tokens":
        return torch.randn(5, 3, 4, generator=draw), torch.randint(3, (5, 4), generator=draw)
    return torch.randn(5, 2, generator=draw), torch.randn(5, 2, generator=draw)


def smooth(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, label_smoothing=0.1)


def looks_at_values(output: Tensor, target: Tensor) -> Tensor:
    error = (output - target).square().mean()
    return error if float(error) > 0 else 0.0 * error


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (cross_entropy, "classes"),
        (F.cross_entropy, "classes"),
        (cross_entropy, "tokens"),
        (smooth, "classes"),
        (mse, "numbers"),
        (F.mse_loss, "numbers"),
        (F.l1_loss, "numbers"),
        (looks_at_values, "numbers"),
    ],
)
def test_its_mean_is_the_loss_of_the_batch(loss: LossFn, kind: str) -> None:
    output, target = batch(kind)
    each = per_example(loss, output, target)
    assert each.shape == (5,)
    torch.testing.assert_close(each.mean(), loss(output, target))
    alone = torch.stack([loss(output[i : i + 1], target[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(each, alone)


def test_losses_known_without_vmap_are_named() -> None:
    direct: Callable[[LossFn], bool] = has_direct
    assert direct(F.cross_entropy)
    assert not direct(smooth)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_an_example_that_is_left_out_counts_nothing(shape: tuple[int, ...]) -> None:
    loss = torch.nn.CrossEntropyLoss(ignore_index=2)
    output = torch.randn(4, 3, *shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
    target = torch.tensor([0, 2, 1, 2]).reshape(4, *[1] * len(shape)).expand(4, *shape)
    values = per_example(loss, output, target)
    assert (values == 0).tolist() == [False, True, False, True]
    # Of two examples that count, torch's mean is the mean of theirs.
    torch.testing.assert_close(values.sum() / 2, loss(output, target))
    none = batch_loss(loss, output, torch.full_like(target, 2))
    none.backward()
    assert output.grad is not None
    assert (float(none.detach()), float(output.grad.abs().max())) == (0.0, 0.0)
    torch.testing.assert_close(batch_loss(loss, output, target), loss(output, target))

"""A class at each position in float64, for loops written from the papers: nothing of fedray's engine is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.algorithms.base import Algorithm
from fedray.tasks import Segmentation, TokenClassification

LR, STEPS, ROUNDS, CLASSES = 0.1, 3, 2, 3
VOID = CLASSES
"""The target of positions that do not count."""

SIZES, WIDTH, HEIGHT = (5, 2, 4), 3, 2

every_layout = pytest.mark.parametrize("last", [False, True], ids=["pixels", "tokens"])
"""Classes stand second in the outputs of pictures, and last in those of tokens."""


class Positions:
    """Clients of several sizes, each with another mix of classes and with positions that do not count.

    A model is linear at each position, ``[W, b]``: a convolution of one pixel, or a layer for tokens.
    """

    def __init__(self, last: bool) -> None:
        draw = np.random.default_rng(3)
        self.last, self.x, self.y = last, [], []
        for client, size in enumerate(SIZES):
            self.x.append(torch.from_numpy(draw.normal(size=(size, HEIGHT * WIDTH, 2))))
            y = draw.choice([client, (client + 1) % CLASSES], size=(size, HEIGHT * WIDTH))  # the third is lacking
            self.y.append(torch.from_numpy(np.where(draw.random(y.shape) < 0.3, VOID, y)))
        self.y[0][0] = VOID  # an example without a position that counts

    def counted(self, client: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs ``[n, 2]`` and classes ``[n]`` of a client's positions that count, and each class's number."""
        there = self.y[client] != VOID
        y = self.y[client][there]
        return self.x[client][there], y, torch.tensor([float((y == k).sum()) for k in range(CLASSES)]).double()

    def module(self) -> nn.Module:
        """Return the first model."""
        layer: nn.Module = nn.Linear(2, CLASSES) if self.last else nn.Conv2d(2, CLASSES, 1)
        values = torch.linspace(-0.8, 0.7, 3 * CLASSES)
        with torch.no_grad():
            for parameter, own in zip(layer.parameters(), values.split([2 * CLASSES, CLASSES]), strict=True):
                parameter.copy_(own.view(parameter.shape))
        return layer

    def descend(self, loss: Callable[[Tensor, int, Tensor], Tensor]) -> Tensor:
        """Return the last global model of FedAvg, weighted by examples, by a loss of (model, client, global model)."""
        w = torch.cat([p.detach().flatten() for p in self.module().parameters()]).double()
        for _ in range(ROUNDS):
            ends = []
            for client in range(len(SIZES)):
                own = w
                for _ in range(STEPS):
                    leaf = own.clone().requires_grad_()
                    own = own - LR * torch.autograd.grad(loss(leaf, client, w), leaf)[0]
                ends.append(own)
            w = sum((size * end for size, end in zip(SIZES, ends, strict=True)), torch.zeros_like(w)) / sum(SIZES)
        return w

    def trained(self, algorithm: Algorithm, folder: Path, stack: int | str, accumulate: int = 1) -> Tensor:
        """Return the last global model of fedray's run."""
        x, y = torch.cat(self.x).float(), torch.cat(self.y)
        if not self.last:
            x, y = x.transpose(1, 2).reshape(-1, 2, HEIGHT, WIDTH), y.view(-1, HEIGHT, WIDTH)
        data = fedray.FederatedData.from_arrays(x.numpy(), y.numpy(), np.repeat(range(len(SIZES)), SIZES))
        kind = TokenClassification if self.last else Segmentation
        result = fedray.train(
            fedray.FederatedModel(self.module, fedray.optim.SGD(LR), task=kind(ignore_index=VOID)),
            data,
            fedray.TrainArgs(
                rounds=ROUNDS, steps=STEPS, batch_size=None, stack=stack, accumulate=accumulate, tracking=[]
            ),
            algorithm=algorithm,
            cluster="inline",
            run_dir=folder / f"{stack}-{accumulate}",
            progress=False,
        )
        log = (folder / f"{stack}-{accumulate}" / "log.txt").read_text()
        assert ("clients step at once" in log) == (stack != "off"), log
        return torch.cat([p.detach().flatten() for p in result.model.parameters()]).double()


def logits(w: Tensor, x: Tensor) -> Tensor:
    """Return the outputs of a model ``[W, b]`` at positions ``[n, 2]``, ``[n, K]``."""
    return x @ w[: 2 * CLASSES].view(CLASSES, 2).T + w[2 * CLASSES :]


def assert_is_the_loop(positions: Positions, algorithm: Algorithm, expected: Tensor, folder: Path) -> None:
    """Compare the last models, of clients in a stack, one by one, and in pieces of their batches."""
    for stack, accumulate in ((3, 1), ("off", 1), ("off", 2)):
        found = positions.trained(algorithm, folder, stack, accumulate)
        assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5, (stack, accumulate)

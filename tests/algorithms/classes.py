"""A small classifier in float64, for loops written from the papers: nothing of fedray's engine is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedray import optim
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from tests.helpers import class_problem, federation, personal, relative

LR = 0.1
STEPS = 3
ROUNDS = 3
CLASSES = 4

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Classes:
    """Clients of several sizes, each without some of the classes; a model is ``[W1, b1, W2, b2]``, tanh in between."""

    def __init__(self) -> None:
        self.problem = class_problem((12, 7, 9, 5), (6,), CLASSES)
        data = self.problem.data
        rows = [data.rows(np.array([c])).take(np.arange(data.sizes[c])[None]) for c in range(len(data))]
        self.x = [x[0].double() for x, _ in rows]
        self.y = [y[0] for _, y in rows]
        self.sizes = torch.tensor([len(y) for y in self.y], dtype=torch.float64)

    def counts(self, client: int) -> Tensor:
        """Return a client's examples of each class."""
        return torch.bincount(self.y[client], minlength=CLASSES).double()

    def initial(self) -> Tensor:
        """Return the first model."""
        module = self.problem.model_fn()
        return torch.cat([p.detach().flatten() for p in module.parameters()]).double()

    def names(self) -> list[str]:
        """Return the names of the tensors of a model, in its order."""
        return [name for name, _ in self.problem.model_fn().named_parameters()]

    def outputs(self, w: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and features."""
        w1, b1, w2, b2 = w.split([48, 8, 8 * CLASSES, CLASSES])
        z = torch.tanh(x @ w1.view(8, 6).T + b1)
        return z @ w2.view(CLASSES, 8).T + b2, z

    def gradient(self, client: int, w: Tensor) -> Tensor:
        """Return the gradient of the cross-entropy of all of a client's rows."""
        leaf = w.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(self.outputs(leaf, self.x[client])[0], self.y[client])
        return torch.autograd.grad(loss, leaf)[0]

    def descend(self, client: int, start: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """Take a client's local steps on all of its rows."""
        w = start.clone()
        for _ in range(STEPS):
            leaf = w.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(leaf), leaf)
            w = w - LR * gradient
        return w

    def mean(self, ends: list[Tensor]) -> Tensor:
        """Return the mean of the clients' models, weighted by their examples."""
        return sum((size * end for size, end in zip(self.sizes, ends, strict=True)), 0.0 * ends[0]) / self.sizes.sum()


def assert_is_the_loop(
    classes: Classes,
    algorithm: Algorithm,
    expected: Tensor,
    folder: Path,
    own: list[Tensor] | None = None,
    **options: Any,
) -> None:
    """Run fedray on the same clients, stacked and one by one, and compare the last models.

    ``own``: the models that the clients are evaluated with.
    """
    for stack in (4, "off"):
        run = federation(
            classes.problem,
            folder / str(stack),
            algorithm,
            optimizer=optim.SGD(LR),
            args=LocalSection(1, None, STEPS),
            rounds=ROUNDS,
            stack=stack,
            **options,
        )
        assert run.plan.task.stacking.stacked == (stack == 4), run.plan.task.stacking.reason
        run.run()
        entries = {entry.name: slice(entry.start, entry.stop) for entry in run.plan.layout.entries}
        # In the order of the module, not of the vector, which begins with what travels.
        order = torch.cat([torch.arange(run.plan.layout.size)[entries[name]] for name in classes.names()])
        assert float((run.vector.double()[order] - expected).abs().max() / expected.abs().max()) <= 1e-5
        if own is not None:
            assert relative(personal(run).double()[:, order], torch.stack(own)) <= 1e-5

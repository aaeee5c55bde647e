"""What a model, a loss or an optimizer function remembers does not reach the next client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray import FederatedData, FederatedModel, TrainArgs, train

X = np.random.default_rng(0).standard_normal((26, 8)).astype("f4")
Y = X[:, :3].argmax(axis=1)
OWNER = np.repeat(["a", "b"], [16, 10])


class Remembers(nn.Linear):
    """Shifts its inputs by a running mean, which it keeps somewhere."""

    def __init__(self, kind: str) -> None:
        super().__init__(8, 3)
        self.kind = kind
        if kind == "unsaved buffer":
            self.register_buffer("m", torch.zeros(8), persistent=False)
        else:
            self.m: Any = [torch.zeros(8)] if kind == "list" else 0.0 if kind == "number" else torch.zeros(8)

    def forward(self, x: Tensor) -> Tensor:
        m = self.m[0] if self.kind == "list" else self.m
        if self.kind == "number":
            self.m += 0.1
        elif self.kind == "list":
            self.m[0] = 0.9 * m + 0.1 * x.detach().mean(0)
        else:
            self.m = 0.9 * m + 0.1 * x.detach().mean(0)
        return super().forward(x - m)


class Centred(nn.Module):
    """A loss with a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shift: Tensor
        self.register_buffer("shift", torch.zeros(3))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        loss = functional.cross_entropy(output - self.shift, target)
        self.shift = 0.5 * self.shift + output.detach().reshape(-1, 3).mean(0)
        return loss


def slower() -> Callable[[Any], torch.optim.Optimizer]:
    calls = [0]

    def make(parameters: Any) -> torch.optim.Optimizer:
        calls[0] += 1
        return torch.optim.SGD(parameters, lr=0.3 / calls[0])

    return make


CASES: dict[str, Callable[[], FederatedModel]] = {
    **{
        kind: lambda kind=kind: FederatedModel(lambda: Remembers(kind))  # type: ignore[misc]
        for kind in ("unsaved buffer", "attribute", "list", "number")
    },
    "loss": lambda: FederatedModel(lambda: nn.Linear(8, 3), loss_fn=Centred()),
    "optimizer function": lambda: FederatedModel(lambda: nn.Linear(8, 3), slower()),
}


@pytest.mark.parametrize("stack", ["auto", "off"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.one_in(3)
def test_bits_do_not_depend_on_who_was_trained_before(case: str, stack: str, tmp_path: Path) -> None:
    model = CASES[case]()

    def line(order: list[str]) -> object:
        data = FederatedData.from_arrays(X, Y, OWNER, ids=order, test=(X, Y))
        args = TrainArgs(rounds=2, batch_size=8, stack=stack, tracking=[])
        result = train(model, data, args, cluster="inline", run_dir=tmp_path / "".join(order), progress=False)
        return [(record.model_sha256, record.test) for record in result.history]

    assert line(["a", "b"]) == line(["b", "a"])

"""Models and data of the runs in ``regions_before.tar.gz``.

They were made by the fedray of 86cdb20: for each name two rounds with ``checkpoint_every=2``, and the exported model of
a run of four rounds of the same arguments, those of ``tests/run/test_earlier.py``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import fedray

ALGORITHMS: dict[str, Any] = {
    "frozen": fedray.FedAvg(),
    "frozen-scaffold": fedray.Scaffold(),
    "own-buffers": fedray.Scaffold(),
    "buffers": fedray.FedAdam(),
}


class Net(nn.Module):
    """A frozen layer between trained ones, and batch statistics where wanted."""

    def __init__(self, frozen: bool, norm: bool) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.norm = nn.BatchNorm1d(5) if norm else nn.Identity()
        self.middle.requires_grad_(not frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(torch.tanh(self.norm(self.middle(torch.tanh(self.first(x))))))
        return out


def model(name: str) -> fedray.FederatedModel:
    """Return the model of a run."""
    return fedray.FederatedModel(lambda: Net(name.startswith("frozen"), "buffers" in name))


def data() -> fedray.FederatedData:
    """Return 5 clients of unequal size."""
    x = torch.randn(42, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] + 0.3 * x[:, 1] > 0).long()
    owners = [0] * 12 + [1] * 7 + [2] * 11 + [3] * 4 + [4] * 8
    return fedray.FederatedData.from_arrays(x, y, clients=owners)

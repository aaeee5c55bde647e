"""FedBN against the paper's loop, with batch statistics, and with a norm that stacks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedray import optim
from fedray.algorithms import FedBN
from fedray.config.sections import LocalSection
from tests.helpers import class_problem, federation, personal, relative

LR, STEPS, ROUNDS = 0.1, 3, 3


def net(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), norm, nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize(("norm", "stack"), [("batch", "off"), ("layer", 4), ("layer", "off"), ("group", 4)])
def test_norms_stay_at_home_with_their_statistics(norm: str, stack: int | str, tmp_path: Path) -> None:
    kinds: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm1d(8),
        "layer": lambda: nn.LayerNorm(8),
        "group": lambda: nn.GroupNorm(2, 8),
    }
    problem = class_problem((12, 7, 9, 5), model_fn=lambda: net(kinds[norm]()))
    run = federation(
        problem,
        tmp_path,
        FedBN(),
        optimizer=optim.SGD(LR),
        args=LocalSection(1, None, STEPS),
        rounds=ROUNDS,
        stack=stack,  # type: ignore[arg-type]
    )
    run.run()

    data = problem.data
    clients = [copy.deepcopy(problem.model_fn()).double().train() for _ in range(4)]
    weights = torch.tensor(data.sizes.tolist(), dtype=torch.float64)
    for _ in range(ROUNDS):
        for c, module in enumerate(clients):
            x, y = (t[0] for t in data.rows(np.array([c])).take(np.arange(data.sizes[c])[None]))
            optimizer = torch.optim.SGD(module.parameters(), LR)
            for _ in range(STEPS):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(x.double()), y).backward()
                optimizer.step()
        states = [module.state_dict() for module in clients]
        for name in states[0]:
            if not name.startswith("1."):
                mean: Tensor = torch.stack([w * s[name] for w, s in zip(weights, states, strict=True)]).sum(0)
                for state in states:
                    state[name].copy_(mean / weights.sum())
    layout = run.plan.layout
    expected = torch.stack([layout.pack(dict(module.state_dict()))[: layout.trained] for module in clients])
    assert relative(personal(run), expected) <= 1e-5
    if norm == "batch":
        index = np.arange(4)
        rows = run.state.store.of(index)
        assert sorted(rows) == [0, 1, 2, 3]
        assert layout.personal == 2 * 8 + 2 * 8 + 1
        assert "buffers" not in layout.spans

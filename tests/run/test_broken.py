"""Numbers that are not finite before any step, told from training that diverges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray

X = np.random.default_rng(0).standard_normal((12, 3)).astype("f4")
Y = (X[:, 0] > 0).astype(int)


class Late(nn.Module):
    """A linear model that changes its output where its first input is far from what others have."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.change = nn.Linear(3, 2), change

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x) + self.change(x[:, :1])
        return found


def run(folder: Path, change: Callable[[Tensor], Tensor], lr: float = 0.1) -> str:
    x = X.copy()
    x[6:, 0] = 9.0
    data = fedray.FederatedData.from_arrays(x, Y, np.repeat(["a", "b"], 6))
    model = fedray.FederatedModel(lambda: Late(change), {"name": "sgd", "lr": lr})
    args = fedray.TrainArgs(rounds=2, on_nonfinite="abort")
    with pytest.raises(fedray.RunFailed) as told:
        fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False)
    return str(told.value)


def test_a_model_that_gives_no_numbers_is_told_from_a_high_rate(tmp_path: Path) -> None:
    told = run(tmp_path / "model", lambda x: torch.log(5.0 - x))
    assert "the output of the model that client 'b' starts from is not finite, before any step" in told
    assert f"look at it: fedray.debug({str(tmp_path / 'model')!r}, model, data)" in told.splitlines()
    assert "learning rate" not in told


def test_a_gradient_that_is_none_is_named(tmp_path: Path) -> None:
    class Root(Late):
        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.inner(x)
            return found + torch.sqrt((found * (x[:, :1] < 5.0)).abs())

    x = X.copy()
    x[6:, 0] = 9.0
    data = fedray.FederatedData.from_arrays(x, Y, np.repeat(["a", "b"], 6))
    model = fedray.FederatedModel(lambda: Root(torch.log), {"name": "sgd", "lr": 0.1})
    args = fedray.TrainArgs(rounds=1, on_nonfinite="abort")
    with pytest.raises(fedray.RunFailed, match="the gradient of the model that client 'b' starts from"):
        fedray.train(model, data, args, cluster="inline", run_dir=tmp_path, progress=False)


def test_training_that_diverges_is_still_told_to_go_slower(tmp_path: Path) -> None:
    assert "lower the learning rate, or scale the inputs" in run(tmp_path, lambda x: 1e5 * x, lr=1e30)


@pytest.mark.parametrize("norm", [False, True])
def test_inputs_that_are_no_numbers_are_named_and_nothing_else_is_advised(norm: bool, tmp_path: Path) -> None:
    """With running statistics, too, which are not finite then, either."""
    data = fedray.FederatedData.from_arrays(X.copy(), Y, np.repeat(["a", "b"], 6))
    data._x[9, 1] = np.nan  # as a file may that has changed since it was read
    layers = [nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)] if norm else [nn.Linear(3, 2)]
    model = fedray.FederatedModel(lambda: nn.Sequential(*layers), {"name": "sgd", "lr": 0.1})
    args = fedray.TrainArgs(rounds=1, on_nonfinite="abort")
    with pytest.raises(fedray.RunFailed) as told:
        fedray.train(model, data, args, cluster="inline", run_dir=tmp_path, progress=False)
    assert "an input is nan: training example 3 of client 'b': mend it where the data are made" in str(told.value)
    assert "local.buffers" not in str(told.value)
    assert "learning rate" not in str(told.value)

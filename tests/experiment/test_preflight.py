"""What does not fit is said before anything starts; a model that is made once serves as well as one made each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fedray

X = np.random.default_rng(0).standard_normal((24, 5)).astype("f4")
DATA = fedray.FederatedData.from_partition(X, (X[:, 0] > 0).astype(int), fedray.IID(clients=4), seed=0)


def train(run_dir: Path, model: fedray.FederatedModel, **options: Any) -> fedray.Result:
    args = fedray.TrainArgs(rounds=2, batch_size=4, tensorboard=False, **options)
    return fedray.train(model, DATA, args, cluster="inline", run_dir=run_dir, progress=False)


@pytest.mark.parametrize("stack", [2, "off"])
def test_a_function_may_give_one_module_again_and_again(stack: Any, tmp_path: Path) -> None:
    """It is where training starts, and nobody trains it; the run is that of a function that copies it."""
    module = nn.Linear(5, 2).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    def copied() -> nn.Module:
        fresh = nn.Linear(5, 2)
        fresh.load_state_dict(before)
        return fresh

    same = train(tmp_path / "same", fedray.FederatedModel(lambda: module), stack=stack)
    fresh = train(tmp_path / "fresh", fedray.FederatedModel(copied), stack=stack)
    assert [r.model_sha256 for r in same.history] == [r.model_sha256 for r in fresh.history]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    assert not torch.equal(same.model.state_dict()["weight"], before["weight"])


class Remembering(nn.Linear):
    def __init__(self) -> None:
        super().__init__(5, 2)

    def get_extra_state(self) -> str:
        return "a note"


def broken() -> nn.Module:
    raise OSError("no such weights")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fedray.FederatedModel(nn.Linear(5, 2)), r"^model_fn: a function is needed, .* this is a Linear$"),
        (
            lambda: fedray.FederatedModel(nn.Identity, torch.optim.SGD(nn.Linear(5, 2).parameters())),  # type: ignore[arg-type]
            r"^optimizer_fn: a function is needed, .* this is a SGD$",
        ),
        (lambda: fedray.FederatedModel(broken), r"^model: it cannot be made: OSError: no such weights$"),
        (lambda: fedray.FederatedModel(lambda: nn.LazyLinear(2)), r"^model: weight has no shape .* nn\.LazyLinear"),
        (lambda: fedray.FederatedModel(Remembering), r"^model: _extra_state is state that is no tensor"),
        (
            lambda: fedray.FederatedModel(lambda: nn.Linear(5, 2), torch.optim.LBFGS),
            r"^optimizer: LBFGS needs several gradients for a step",
        ),
        (
            lambda: fedray.FederatedModel(lambda: nn.Linear(5, 2), lambda p: torch.optim.SGD(p, lr=-1.0)),
            r"^optimizer: it cannot be made: ValueError: .*-1\.0",
        ),
        (
            lambda: fedray.FederatedModel(lambda: nn.Linear(5, 2), lambda p: p),  # type: ignore[arg-type,return-value]
            r"^optimizer: a torch\.optim\.Optimizer is needed, this is a list$",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_at_once(
    make: Callable[[], fedray.FederatedModel], message: str, tmp_path: Path
) -> None:
    with pytest.raises(fedray.ConfigError, match=message):
        train(tmp_path / "run", make())
    assert not (tmp_path / "run").exists()

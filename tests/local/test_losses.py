"""The losses that a config can name: torch's, by their short names or their import path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import fedray
from fedray.config.registry import bind_part, made
from fedray.core.errors import ConfigError
from fedray.local.losses import loss_on, losses
from tests.helpers import class_problem

OUTPUT = torch.tensor([[0.2, -1.0, 3.0], [1.5, 0.0, 0.5]])
CLASSES = torch.tensor([2, 1])


def loss(node: Any) -> Any:
    """The function that a section names."""
    return made(bind_part(losses, node, "local.loss"))


def test_cross_entropy_is_torchs() -> None:
    assert torch.equal(losses["cross_entropy"](OUTPUT, CLASSES), functional.cross_entropy(OUTPUT, CLASSES))


@pytest.mark.parametrize(
    ("node", "oracle"),
    [
        ({"name": "torch.nn.functional:huber_loss", "delta": 0.3}, nn.HuberLoss(delta=0.3)),
        ({"name": "torch.nn:HuberLoss", "delta": 0.3}, nn.HuberLoss(delta=0.3)),
        ("torch.nn.functional:l1_loss", nn.L1Loss()),
    ],
)
def test_a_function_and_a_class_of_torch_are_called_with_their_options(node: Any, oracle: nn.Module) -> None:
    target = torch.zeros(2, 3)
    assert torch.equal(loss(node)(OUTPUT, target), oracle(OUTPUT, target))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("mean_squared", r"local\.loss\.name: unknown loss 'mean_squared'.*known: cross_entropy, mse"),
        ({"name": "torch.nn:HuberLoss", "detla": 1}, r"local\.loss\.detla: .*\(did you mean 'delta'\?\)"),
        ({"name": "torch.nn.functional:l1_los"}, r"has no 'l1_los' \(did you mean 'l1_loss'\?\)"),
    ],
)
def test_a_mistake_is_named_before_anything_is_trained(node: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loss(node)


def test_a_loss_with_weights_moves_with_the_model_and_leaves_the_users_where_it_is() -> None:
    meta = torch.device("meta")
    mine = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    there = loss_on(mine, meta)
    assert isinstance(there, nn.Module)
    weights = [part.state_dict()["weight"].device for part in (there, mine)]
    assert weights == [meta, torch.device("cpu")]
    named = loss({"name": "torch.nn:CrossEntropyLoss", "label_smoothing": 0.1})
    assert loss_on(named, meta) is named, "without tensors there is nothing to move"
    assert loss_on(functional.cross_entropy, meta) is functional.cross_entropy
    assert loss_on(mine, torch.device("cpu")) is mine


@pytest.mark.gpu
def test_class_weights_train_on_a_gpu(tmp_path: Path) -> None:
    problem = class_problem(test=10)
    model = fedray.FederatedModel(problem.model_fn, None, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])))
    place = fedray.Cluster("inline", gpus=1.0)
    result = fedray.train(model, problem.data, cluster=place, run_dir=tmp_path / "run", progress=False)
    assert result.history[-1].clients["failed"] == 0

"""Balanced class weights: as scikit-learn weighs the pooled rows, whatever each client has of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.core.losses import cross_entropy, per_example
from fedray.data.spec import DataSpec
from fedray.local.class_weights import balanced, unweighted
from fedray.tasks import Binary, Classification, Multilabel, Regression

COUNTS = np.array([[40, 0, 2], [1, 7, 0]])


def test_weights_are_those_of_scikit_learn_on_the_pooled_rows() -> None:
    y = np.repeat([0, 1, 2], COUNTS.sum(axis=0))
    loss = balanced(cross_entropy, Classification().of(DataSpec((1,), 3)), (), COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
    np.testing.assert_allclose(loss.weights.numpy(), expected, rtol=1e-6)
    logits, target = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(0)), torch.from_numpy(y)
    own = nn.CrossEntropyLoss(weight=loss.weights)(logits, target)  # its weights sum to the number of rows
    torch.testing.assert_close(loss(logits, target), own)
    torch.testing.assert_close(per_example(loss, logits, target).mean(), own)
    assert unweighted(loss) is cross_entropy
    assert unweighted(cross_entropy) is cross_entropy


def test_a_class_that_nobody_has_weighs_nothing() -> None:
    loss = balanced(cross_entropy, Classification().of(DataSpec((1,), 3)), (), np.array([[6, 0, 2]]))
    assert loss.weights.tolist() == [pytest.approx(8 / 12), 0.0, 2.0]


@pytest.mark.parametrize(("task", "target"), [(Regression(), (1,)), (Multilabel(), (3,)), (Classification(), (5,))])
def test_examples_without_one_class_each_are_refused(task: Any, target: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"local\.class_weights: the task must give one class"):
        balanced(cross_entropy, task.of(DataSpec((1,), 3)), target, COUNTS)


@pytest.mark.parametrize("stack", ["auto", "off"])
@pytest.mark.parametrize("task", [Classification(), Binary()])
def test_one_full_step_is_that_of_the_pooled_weighted_rows(stack: str, task: Any, tmp_path: Path) -> None:
    """With a client that has one class alone; the loss that is shown is that of the task."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(30, 3)).astype(np.float32), np.repeat([0, 1], [24, 6])
    data = fedray.FederatedData.from_arrays(x, y, np.repeat([0, 1, 2], [12, 8, 10]), test=(x, y))
    outputs = 1 if isinstance(task, Binary) else 2

    def model(spec: DataSpec | None = None) -> nn.Module:
        module = nn.Linear(3, outputs)
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
        return module

    args = fedray.TrainArgs(
        rounds=1,
        batch_size=None,
        class_weights="balanced",
        stack=stack,
        evaluate_every=1,
        evaluate_before=True,
        tracking=[],
    )
    learner = fedray.FederatedModel(model, lambda parameters: torch.optim.SGD(parameters, lr=0.1), task=task.name)
    result = fedray.train(learner, data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    assert result.history[0].test["loss"] == pytest.approx(np.log(2))
    pooled = model()
    weights = torch.tensor(30 / (2 * np.array([24, 6])), dtype=torch.float32)[torch.from_numpy(y)]
    output, target = pooled(torch.from_numpy(x)), torch.from_numpy(y)
    if outputs == 1:
        each = nn.functional.binary_cross_entropy_with_logits(output[:, 0], target.float(), reduction="none")
    else:
        each = nn.functional.cross_entropy(output, target, reduction="none")
    (weights * each).mean().backward()
    for parameter, found in zip(pooled.parameters(), result.model.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(found.detach(), -0.1 * parameter.grad)

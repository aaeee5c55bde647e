"""The recipe of a user, and what an algorithm says of it."""

from __future__ import annotations

import pytest
import torch

from fedray.algorithms import FedAvg, FedCM, FedDC, FedNova, FedSGD, QFedAvg, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.optim import SGD, Adam, OptimizerFn


@pytest.mark.parametrize(
    ("algorithm", "optimizer", "words"),
    [
        (Scaffold(), SGD(), None),
        (Scaffold(), Adam(), "scaffold's control variates are mean gradients with plain sgd alone; with Adam"),
        (Scaffold(), SGD(momentum=0.9), "with momentum 0.9 they are mean steps"),
        (FedNova(), SGD(momentum=0.9), None),
        (FedNova(), Adam(), "the steps of Adam are counted as plain ones"),
        (FedCM(), Adam(), "with Adam it is a mean step"),
        (FedDC(), SGD(momentum=0.9), "with momentum 0.9 it is of mean steps"),
        (QFedAvg(), Adam(), "the learning rate of Adam is no such bound"),
        (QFedAvg(), SGD(), None),
        (FedAvg(), Adam(), None),
    ],
)
def test_an_optimizer_that_the_paper_does_not_speak_of_is_told(
    algorithm: Algorithm, optimizer: OptimizerFn, words: str | None
) -> None:
    said = algorithm.needs(optimizer([torch.zeros(1, requires_grad=True)]), 1)
    assert not said if words is None else words in str(said)


def test_options_that_an_algorithm_puts_its_own_in_the_place_of_are_told() -> None:
    assert list(FedSGD().unused(LocalSection())) == []
    assert list(FedSGD().unused(LocalSection(batch_size="full"))) == []
    assert list(FedSGD().unused(LocalSection(epochs=5, steps=2, buffers="keep"))) == [
        "local.epochs=5 is not used: fedsgd takes 1",
        "local.steps=2 is not used: fedsgd takes none",
    ]
    assert list(FedAvg().unused(LocalSection(epochs=5, steps=2, batch_size=8))) == []

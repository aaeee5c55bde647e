"""Plain steps and momentum, against Flower's strategies and torch.optim."""

from __future__ import annotations

import pytest
import torch

from fedray.algorithms import FedAvg, FedAvgM
from fedray.server import SGD, Momentum
from tests.server.rounds import aggregate, assert_same, flowers, ours, start


def test_fedavg_is_flowers() -> None:
    assert_same(ours(FedAvg()), flowers("FedAvg"))


@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.9), (0.5, 0.7), (0.3, 0.0)])
def test_fedavgm_is_flowers(lr: float, momentum: float) -> None:
    theirs = flowers("FedAvgM", server_learning_rate=lr, server_momentum=momentum)
    assert_same(ours(FedAvgM(server_lr=lr, momentum=momentum)), theirs)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_torch_optim(nesterov: bool) -> None:
    params = start().requires_grad_()
    optimizer = torch.optim.SGD([params], 0.5, 0.9, nesterov=nesterov)
    for round, vector in enumerate(ours(FedAvg(), Momentum(0.5, 0.9, nesterov)), start=1):
        params.grad = -aggregate(round).parts["delta"]
        optimizer.step()
        assert torch.equal(vector, params.detach())


def test_the_first_step_of_momentum_leaves_every_bit_of_a_zero() -> None:
    """As torch's: an update of 0 is a gradient of minus 0."""
    params = torch.tensor([-0.0, 0.0])
    Momentum().step(params, torch.zeros(2), 1.0, state := Momentum().start(params, None), None)  # type: ignore[arg-type]
    leaf = torch.tensor([-0.0, 0.0], requires_grad=True)
    leaf.grad = -torch.zeros(2)
    optimizer = torch.optim.SGD([leaf], 1.0, 0.9)
    optimizer.step()
    for one, other in ((params, leaf.detach()), (state["momentum_buffer"], optimizer.state[leaf]["momentum_buffer"])):
        assert torch.equal(one.signbit(), other.signbit())


def test_limits() -> None:
    assert all(torch.equal(a, b) for a, b in zip(ours(FedAvgM(momentum=0.0)), ours(FedAvg()), strict=True))
    expected = start()
    for round, vector in enumerate(ours(FedAvg(), SGD(0.5)), start=1):
        expected += 0.5 * aggregate(round).parts["delta"]
        assert torch.equal(vector, expected)

"""What every server optimizer holds to, and how options out of range are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from fedray import optim
from fedray.algorithms import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedNova, FedProx, FedYogi, Scaffold
from fedray.core.errors import ConfigError
from fedray.server import Adagrad, Adam, Lamb, Momentum, ServerOptimizer, server_optimizers
from fedray.server.base import torch_step
from tests.server.rounds import aggregate, start, started

EVERY = [*(kind() for kind in server_optimizers.values()), Adam(variant="torch"), Adagrad(variant="torch")]


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_its_tensors_are_there_from_the_start_and_stay_the_same_ones(optimizer: ServerOptimizer) -> None:
    server = started(FedAvg(), start(), optimizer)
    before = dict(server.moments)
    server.move(aggregate(1)["delta"])
    assert server.moments.keys() == before.keys()
    assert all(server.moments[name].shape == before[name].shape for name in before)
    assert "lr" not in server.moments


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_its_rate_is_that_of_the_round(optimizer: ServerOptimizer) -> None:
    """An optimizer of half the rate does what one does at half its rate."""
    ends = []
    for made_with, rate in ((optimizer.lr, optimizer.lr / 2), (optimizer.lr / 2, optimizer.lr / 2)):
        one, x = replace(optimizer, lr=made_with), start()
        server = started(FedAvg(), x, one)
        one.step(server.params, aggregate(1)["delta"], rate, server.moments, server.layout)
        ends.append(x)
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], start())


def test_torch_step_leaves_the_update_as_it_is() -> None:
    x, delta = torch.zeros(3), torch.ones(3)
    torch_step(optim.SGD(0.5), x, delta, {})
    assert torch.equal(x, torch.full((3,), 0.5))
    assert torch.equal(delta, torch.ones(3))


def test_a_schedule_may_be_named_or_made() -> None:
    for said in ("cosine", {"name": "cosine"}, optim.Cosine()):
        assert Adam(lr_schedule=said).schedule == optim.Cosine()
    with pytest.raises(ConfigError, match=r"^server\.lr_schedule\.name: unknown .*'cosin' \(did you mean 'cosine'\?\)"):
        _ = Adam(lr_schedule="cosin").schedule


@pytest.mark.parametrize(
    "make",
    [
        lambda: FedAvg(server_lr=0.0),
        lambda: FedProx(mu=-1.0),
        lambda: FedProx(mu=math.nan),
        lambda: FedNova(server_lr=-1.0),
        lambda: Scaffold(server_lr=math.nan),
        lambda: FedAvgM(server_lr=0.0),
        lambda: FedAvgM(momentum=-0.1),
        lambda: FedAvgM(momentum=0.0, nesterov=True),
        lambda: FedAdam(tau=0.0),
        lambda: FedAdam(beta1=1.0),
        lambda: FedAdam(beta2=-0.1),
        lambda: FedAdam(initial=-1.0),
        lambda: FedAdam(beta1=1.0, variant="torch"),
        lambda: FedAdam(server_lr=-1.0, variant="torch"),
        lambda: FedYogi(server_lr=0.0),
        lambda: FedAdagrad(initial=-1.0, variant="torch"),
        lambda: Momentum(momentum=1.0),
        lambda: Lamb(eps=0.0),
        lambda: Lamb(weight_decay=-1.0),
        *(lambda kind=kind: kind(lr=-0.1) for kind in server_optimizers.values()),
    ],
)
def test_values_out_of_range_are_refused_where_they_are_given(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="="):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedAvgM(server_lr=0.0), r"^server_lr=0\.0: it must be above 0$"),
        (lambda: Momentum(lr=0.0), r"^lr=0\.0: it must be above 0$"),
        (lambda: FedAvgM(momentum=1.0), r"^momentum=1\.0: it must be at least 0 and below 1$"),
        (lambda: FedAdam(server_lr=0.0, variant="torch"), r"^server_lr=0\.0: it must be above 0$"),
        (lambda: FedAdam(beta2=1.0, variant="torch"), r"^beta2=1\.0: it must be at least 0 and below 1$"),
        (lambda: FedAdagrad(tau=-1.0, variant="torch"), r"^tau=-1\.0: it must be above 0$"),
        (lambda: FedAdam(initial=0.1, variant="torch"), r"^initial=0\.1: torch\.optim\.Adam "),
        (lambda: FedAdagrad(beta1=0.5, variant="torch"), r"^beta1=0\.5: torch\.optim\.Adagrad "),
    ],
)
def test_an_option_is_refused_by_its_own_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

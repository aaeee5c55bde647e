"""Server rules against Flower's strategies, torch.optim, and their own checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedray.aggregators import Mean
from fedray.algorithms import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedNova, FedProx, FedYogi, Scaffold
from fedray.algorithms.base import AlgorithmConfig
from fedray.algorithms.server import ServerRule
from fedray.core.layout import Layout
from fedray.core.messages import BUFFERS, Aggregate
from tests.aggregators.test_mean import NOW, update

SIZE = 6
ROUNDS = 6
WEIGHTS = [3.0, 10.0, 1.0, 6.0]

Floats = NDArray[np.float64]


def started(config: AlgorithmConfig, vector: Tensor) -> ServerRule:
    rule = config.server()
    rule.start(vector, Layout.of(nn.Linear(SIZE - 1, 1)), 4)
    return rule


def updates(round: int) -> Tensor:
    """The clients' updates of a round, over several magnitudes."""
    draw = np.random.default_rng(round)
    return torch.from_numpy((draw.standard_normal((4, SIZE)) * 10.0 ** (-np.arange(SIZE) / 2)).astype("f4"))


def aggregate(round: int) -> Aggregate:
    mean = Mean()
    total = mean.zero({"delta": SIZE}, "cpu")
    mean.add(total, update(updates(round), WEIGHTS), sum(WEIGHTS))
    return mean.finish(total, sum(WEIGHTS), sum(WEIGHTS), 4, NOW)


def start() -> Tensor:
    return torch.linspace(-1.0, 1.0, SIZE)


def ours(config: AlgorithmConfig, lr: Callable[[int], float] | None = None) -> list[Tensor]:
    """The global vector after each round; ``lr`` sets the step size of each."""
    vector = start()
    rule = started(config, vector)
    history = []
    for round in range(1, ROUNDS + 1):
        if lr is not None:
            rule.lr = lr(round)
        rule.step(vector, aggregate(round))
        history.append(vector.clone())
    return history


def flowers(name: str, **options: float) -> list[Floats]:
    """The same by a Flower strategy, in float64."""
    reason = "Flower, the oracle of the server rules, is not installed (make test installs it)"
    common = pytest.importorskip("flwr.common", reason=reason)
    strategies = pytest.importorskip("flwr.server.strategy", reason=reason)
    current = start().double().numpy()
    strategy = getattr(strategies, name)(initial_parameters=common.ndarrays_to_parameters([current]), **options)
    history = []
    for round in range(1, ROUNDS + 1):
        status = common.Status(common.Code.OK, "")
        results: list[tuple[None, Any]] = [
            (None, common.FitRes(status, common.ndarrays_to_parameters([current + row]), int(weight), {}))
            for row, weight in zip(updates(round).double().numpy(), WEIGHTS, strict=True)
        ]
        parameters, _ = strategy.aggregate_fit(round, results, [])
        current = common.parameters_to_ndarrays(parameters)[0]
        history.append(current)
    return history


def assert_same(mine: list[Tensor], theirs: list[Floats]) -> None:
    assert len(mine) == len(theirs) == ROUNDS
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=2e-6, atol=2e-6)
    # The rounds moved it by far more than the tolerance.
    assert float((mine[-1] - start()).abs().min()) > 5e-5


def test_fedavg_is_flowers() -> None:
    assert_same(ours(FedAvg()), flowers("FedAvg"))


@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.9), (0.5, 0.7), (0.3, 0.0)])
def test_fedavgm_is_flowers(lr: float, momentum: float) -> None:
    theirs = flowers("FedAvgM", server_learning_rate=lr, server_momentum=momentum)
    assert_same(ours(FedAvgM(server_lr=lr, momentum=momentum)), theirs)


def test_fedadagrad_is_flowers() -> None:
    # Flower starts v at 0 where the paper has tau^2.
    mine = ours(FedAdagrad(server_lr=0.05, tau=1e-2, initial=0.0))
    assert_same(mine, flowers("FedAdagrad", eta=0.05, tau=1e-2))


def test_fedyogi_is_flowers() -> None:
    mine = ours(FedYogi(server_lr=0.05, beta1=0.8, beta2=0.95, tau=1e-2, initial=0.0))
    assert_same(mine, flowers("FedYogi", eta=0.05, beta_1=0.8, beta_2=0.95, tau=1e-2))


def test_fedadam_is_flowers_but_for_the_step_size() -> None:
    # Flower multiplies the step by Adam's bias correction, of one step further than it is: with t the round,
    # eta * sqrt(1 - beta2^(t + 1)) / (1 - beta1^(t + 1)).  The paper (arXiv:2003.00295, Algorithm 2) has none.
    def corrected(round: int) -> float:
        return 0.05 * math.sqrt(1.0 - 0.95 ** (round + 1)) / (1.0 - 0.8 ** (round + 1))

    config = FedAdam(server_lr=0.05, beta1=0.8, beta2=0.95, tau=1e-2, initial=0.0)
    theirs = flowers("FedAdam", eta=0.05, beta_1=0.8, beta_2=0.95, tau=1e-2)
    assert_same(ours(config, corrected), theirs)
    assert float(np.abs(ours(config)[0].numpy() - theirs[0]).max()) > 1e-3


def algorithm_two(kind: str, config: FedAdam | FedYogi | FedAdagrad) -> list[Floats]:
    """Algorithm 2 of arXiv:2003.00295, in float64."""
    x, m = start().double().numpy(), np.zeros(SIZE)
    v = np.full(SIZE, config.tau**2 if config.initial is None else config.initial)
    history = []
    for round in range(1, ROUNDS + 1):
        delta = np.average(updates(round).double().numpy(), axis=0, weights=WEIGHTS)
        square = delta**2
        m = config.beta1 * m + (1 - config.beta1) * delta
        if kind == "adagrad":
            v = v + square
        elif kind == "yogi":
            v = v - (1 - config.beta2) * square * np.sign(v - square)
        else:
            v = config.beta2 * v + (1 - config.beta2) * square
        x = x + config.server_lr * m / (np.sqrt(v) + config.tau)
        history.append(x)
    return history


@pytest.mark.parametrize("initial", [None, 0.0, 0.3])
def test_the_adaptive_rules_are_as_published(initial: float | None) -> None:
    for kind, config in (
        ("adam", FedAdam(server_lr=0.05, tau=0.01, initial=initial)),
        ("yogi", FedYogi(server_lr=0.05, tau=0.01, initial=initial)),
        ("adagrad", FedAdagrad(server_lr=0.05, tau=0.01, initial=initial)),
    ):
        assert_same(ours(config), algorithm_two(kind, config))


@pytest.mark.parametrize(
    ("config", "make"),
    [
        (FedAdam(server_lr=0.05, beta1=0.8, beta2=0.95, tau=1e-2, variant="torch"),
         lambda p: torch.optim.Adam(p, 0.05, (0.8, 0.95), 1e-2)),
        (FedAdagrad(server_lr=0.05, tau=1e-2, variant="torch"),
         lambda p: torch.optim.Adagrad(p, 0.05, eps=1e-2, initial_accumulator_value=1e-4)),
        (FedAdagrad(server_lr=0.05, tau=1e-2, initial=0.5, variant="torch"),
         lambda p: torch.optim.Adagrad(p, 0.05, eps=1e-2, initial_accumulator_value=0.5)),
        (FedAvgM(server_lr=0.5, momentum=0.9), lambda p: torch.optim.SGD(p, 0.5, 0.9)),
        (FedAvgM(server_lr=0.5, momentum=0.9, nesterov=True), lambda p: torch.optim.SGD(p, 0.5, 0.9, nesterov=True)),
    ],
    ids=["adam", "adagrad", "adagrad-initial", "momentum", "nesterov"],
)  # fmt: skip
def test_torch_variants_are_torch_optim(config: AlgorithmConfig, make: Callable[[list[Tensor]], Any]) -> None:
    params = start().requires_grad_()
    optimizer = make([params])
    for round, vector in enumerate(ours(config), start=1):
        params.grad = -aggregate(round).parts["delta"]
        optimizer.step()
        assert torch.equal(vector, params.detach())


def test_limits() -> None:
    assert all(torch.equal(a, b) for a, b in zip(ours(FedAvgM(momentum=0.0)), ours(FedAvg()), strict=True))
    expected = start()
    for round, vector in enumerate(ours(FedAvg(server_lr=0.5)), start=1):
        expected += 0.5 * aggregate(round).parts["delta"]
        assert torch.equal(vector, expected)


RULES: list[AlgorithmConfig] = [
    FedAvg(),
    FedProx(),
    FedNova(),
    FedAvgM(),
    FedAvgM(nesterov=True),
    FedAdam(),
    FedAdam(variant="torch"),
    FedYogi(),
    FedAdagrad(),
    FedAdagrad(variant="torch"),
    Scaffold(),
]
EVERY_RULE = pytest.mark.parametrize("config", RULES, ids=[f"{c.name}-{i}" for i, c in enumerate(RULES)])


def with_parts(round: int) -> Aggregate:
    total = aggregate(round)
    total.parts["control"] = total.parts["delta"] * 3.0
    total.parts["tau"] = torch.tensor([1.5])
    return total


@EVERY_RULE
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_restored_rule_goes_on_with_the_same_bits(config: AlgorithmConfig, before: int) -> None:
    vector = start()
    rule = started(config, vector)
    for round in range(1, before + 1):
        rule.step(vector, with_parts(round))
    saved = {name: tensor.clone() for name, tensor in rule.state_dict().items()}
    other_vector = vector.clone()
    other = started(config, other_vector)
    other.load_state_dict(saved)
    for round in range(before + 1, before + 4):
        rule.step(vector, with_parts(round))
    for round in range(before + 1, before + 4):
        other.step(other_vector, with_parts(round))
    assert torch.equal(vector, other_vector)
    ends, restored = rule.state_dict(), other.state_dict()
    assert ends.keys() == restored.keys()
    assert all(torch.equal(ends[name], restored[name]) for name in ends)


@EVERY_RULE
def test_the_names_of_its_state_are_known_before_it_has_any(config: AlgorithmConfig) -> None:
    vector = start()
    rule = started(config, vector)
    before = rule.state_names()
    rule.step(vector, with_parts(1))
    assert before == rule.state_names() == sorted(rule.state_dict())


@EVERY_RULE
def test_buffers_move_by_their_mean_whatever_the_rule(config: AlgorithmConfig) -> None:
    module = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1, affine=False))
    layout = Layout.of(module)
    vector = torch.zeros(layout.size)
    rule = config.server()
    rule.start(vector, layout, 4)
    moved = torch.arange(1.0, layout.size - layout.trained + 1)
    parts = {"delta": torch.ones(2), BUFFERS: moved, "control": torch.zeros(2), "tau": torch.tensor([1.0])}
    rule.step(vector, Aggregate(parts, 4.0, 4))
    assert torch.equal(vector[2:], moved)
    del parts[BUFFERS]
    rule.step(vector, Aggregate(parts, 4.0, 4))
    assert torch.equal(vector[2:], moved)


@EVERY_RULE
def test_the_aggregate_is_left_as_it_is(config: AlgorithmConfig) -> None:
    vector, total = start(), with_parts(1)
    before = {name: part.clone() for name, part in total.parts.items()}
    started(config, vector).step(vector, total)
    assert all(torch.equal(total.parts[name], before[name]) for name in before)


@EVERY_RULE
def test_what_is_broadcast_is_what_was_declared(config: AlgorithmConfig) -> None:
    rule = started(config, start())
    assert rule.broadcast().keys() == rule.broadcasts.keys()


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
    ],
)
def test_values_out_of_range_are_refused_where_they_are_given(make: Callable[[], AlgorithmConfig]) -> None:
    with pytest.raises(ValueError, match="="):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedAvgM(server_lr=0.0), r"^server_lr=0\.0: it must be above 0$"),
        (lambda: FedAvgM(momentum=1.0), r"^momentum=1\.0: it must be at least 0 and below 1$"),
        (lambda: FedAdam(server_lr=0.0, variant="torch"), r"^server_lr=0\.0: it must be above 0$"),
        (lambda: FedAdam(beta2=1.0, variant="torch"), r"^beta2=1\.0: it must be at least 0 and below 1$"),
        (lambda: FedAdagrad(tau=-1.0, variant="torch"), r"^tau=-1\.0: it must be above 0$"),
        (lambda: FedAdam(initial=0.1, variant="torch"), r"^initial=0\.1: torch\.optim\.Adam "),
        (lambda: FedAdagrad(beta1=0.5, variant="torch"), r"^beta1=0\.5: torch\.optim\.Adagrad "),
    ],
)
def test_an_option_is_refused_by_its_own_name(make: Callable[[], AlgorithmConfig], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

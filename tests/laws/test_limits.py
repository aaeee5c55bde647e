"""Laws of the algorithms: what each becomes at the ends of its range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedray import optim
from fedray.aggregators import Aggregator, CenteredClip, GeometricMedian, Median, MultiKrum, TrimmedMean
from fedray.algorithms import (
    AFL,
    APFL,
    MIFA,
    MOON,
    DiLoCo,
    Ditto,
    FedALA,
    FedAvg,
    FedBABU,
    FedBN,
    FedCM,
    FedDC,
    FedDecorr,
    FedDyn,
    FedExP,
    FedIT,
    FedLC,
    FedNTD,
    FedPer,
    FedProx,
    FedRoD,
    FedRolex,
    FedRS,
    FedSAM,
    FedSGD,
    FedVARP,
    HeteroFL,
    LGFedAvg,
    LocalOnly,
    Mime,
    MoFedSAM,
    PFedMe,
    QFedAvg,
    Scaffold,
    StreamingDiLoCo,
)
from fedray.algorithms.base import Algorithm, algorithms
from fedray.algorithms.lowrank import LowRank
from fedray.attacks import ALIE, Attack, GaussianAttack, SignFlip
from fedray.config.sections import LocalSection
from fedray.local.stacking import Stack
from fedray.sampling import Full, Poisson, Sampler, Uniform, Weighted
from fedray.server import SGD
from fedray.transforms import Clip, Gaussian, TopK, Transform
from tests.helpers import Federation, Problem, class_problem, federation, linear_problem, personal, relative
from tests.laws.parts import ALGORITHMS, every
from tests.laws.usual import Runs

STACKS = pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])


def pooled_gradient(problem: Problem, run: Federation, vector: Tensor) -> Tensor:
    """Autograd of the loss on all clients' rows together."""
    clients = range(len(problem.data))
    taken = [problem.data.rows(np.array([c])).take(np.arange(problem.data.sizes[c])[None]) for c in clients]
    x, y = torch.cat([x[0] for x, _ in taken]), torch.cat([y[0] for _, y in taken])
    module = problem.model_fn()
    run.plan.layout.load(module, vector)
    loss = problem.loss_fn(module(x), y)
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(module.parameters()))])


@STACKS
@pytest.mark.parametrize("problem", [linear_problem(), class_problem()], ids=["least-squares", "mlp"])
def test_fedsgd_with_everyone_is_gradient_descent_on_the_pooled_data(
    problem: Problem, stack: Stack, tmp_path: Path
) -> None:
    run = federation(problem, tmp_path, FedSGD(), optimizer=optim.SGD(0.3), stack=stack, rounds=5)
    expected = run.vector.clone()
    for rounds in range(1, 6):
        expected -= 0.3 * pooled_gradient(problem, run, expected)
        run.run(rounds)
        assert relative(run.vector, expected) <= 1e-6


def test_every_round_has_noise_of_its_own(tmp_path: Path) -> None:
    run = federation(
        class_problem(),
        tmp_path,
        args=LocalSection(0, 4),
        transforms=[Clip(2.0), Gaussian(0.5, noise="seeded")],
        rounds=3,
    )
    vectors = [run.vector.clone()]
    for rounds in range(1, 4):
        run.run(rounds)
        vectors.append(run.vector.clone())
    noise = torch.stack(vectors).diff(dim=0)
    # Nobody trains, so the noise is all that moves the model: multiplier * norm / clients.
    assert float(noise.std()) == pytest.approx(0.5 * 2.0 / 6, rel=0.15)
    assert float(torch.corrcoef(noise).fill_diagonal_(0.0).abs().max()) < 0.4


def same(one: Federation, other: Federation) -> None:
    one.run()
    other.run()
    assert torch.equal(one.vector, other.vector)


@pytest.mark.parametrize("sampler", [Uniform(6), Poisson(1.0), Weighted(6)], ids=repr)
def test_a_cohort_of_everyone_is_full_participation(sampler: Sampler, tmp_path: Path) -> None:
    problem = class_problem()
    same(federation(problem, tmp_path, sampler=sampler), federation(problem, tmp_path, sampler=Full()))


@pytest.mark.parametrize("transform", [Clip(1e6), TopK(1.0, error_feedback=False)], ids=repr)
def test_a_transform_that_does_nothing_changes_no_bit(transform: Transform, tmp_path: Path) -> None:
    problem = class_problem()
    same(federation(problem, tmp_path, transforms=[transform]), federation(problem, tmp_path))


def test_no_noise_is_clipping_alone(tmp_path: Path) -> None:
    problem = class_problem()
    private = federation(problem, tmp_path, FedAvg(), transforms=[Clip(0.1), Gaussian(0.0, noise="seeded")])
    clipped = federation(problem, tmp_path, FedAvg(weight="uniform"), transforms=[Clip(0.1)])
    same(private, clipped)


@pytest.mark.parametrize("attack", [SignFlip(0.0), GaussianAttack([]), ALIE(0.0)])
def test_an_attack_by_nobody_is_none(attack: Attack, tmp_path: Path) -> None:
    problem = class_problem()
    same(
        federation(problem, tmp_path, aggregator=Median(), attack=attack),
        federation(problem, tmp_path, aggregator=Median()),
    )


def test_nobody_who_hides_among_others_without_deviation_is_seen(tmp_path: Path) -> None:
    """Of one client alone the mean is its update, and there is no deviation."""
    problem = class_problem((9,))
    attacked = federation(problem, tmp_path, aggregator=Median(), attack=ALIE(1.0, z=3.0))
    plain = federation(problem, tmp_path, aggregator=Median())
    same(attacked, plain)


@pytest.mark.parametrize("aggregator", [TrimmedMean(0.0), MultiKrum(0, keep=6), CenteredClip(1e9)])
def test_trimming_nothing_is_the_plain_mean(aggregator: Aggregator, tmp_path: Path) -> None:
    problem = class_problem()
    trimmed = federation(problem, tmp_path, aggregator=aggregator)
    plain = federation(problem, tmp_path, FedAvg(weight="uniform"))
    trimmed.run()
    plain.run()
    assert relative(trimmed.vector, plain.vector) <= 1e-6


@pytest.mark.parametrize("aggregator", [Median(), GeometricMedian()])
def test_the_median_of_one_client_is_that_client(aggregator: Aggregator, tmp_path: Path) -> None:
    problem = class_problem((9,))
    median, mean = federation(problem, tmp_path, aggregator=aggregator), federation(problem, tmp_path)
    median.run()
    mean.run()
    assert relative(median.vector, mean.vector) <= 1e-6


LIMITS: list[Algorithm] = [
    FedProx(mu=0.0),
    FedSAM(rho=0.0),
    FedCM(alpha=1.0),
    MoFedSAM(alpha=1.0, rho=0.0),
    MOON(mu=0.0),
    FedNTD(beta=0.0),
    FedLC(tau=0.0),
    FedRS(alpha=1.0),
    FedDecorr(beta=0.0),
    DiLoCo(server_lr=1.0, momentum=0.0, keep=False, weight="examples"),
    StreamingDiLoCo(server_lr=1.0, momentum=0.0, keep=False, fragments=1, weight="examples"),
    Ditto(lam=0.7),
    APFL(alpha=0.3),
    FedALA(eta=0.0),
    FedRoD(gamma=0.0),
    HeteroFL([1.0]),
    FedRolex([1.0, 1.0]),
    Mime(beta=0.0, lite=True),
    # Where nothing is normalised.
    FedBN(),
]
"""The ends of ranges, where an algorithm is FedAvg."""


@pytest.fixture(scope="session")
def fedavg(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Stack, str], Tensor]:
    """Return FedAvg's model in stacks of a size, with weights of a kind."""

    @cache
    def get(stack: Stack, weight: Any) -> Tensor:
        run = federation(
            class_problem(),
            tmp_path_factory.mktemp("fedavg"),
            FedAvg(weight=weight),
            args=LocalSection(2, 4),
            stack=stack,
        )
        run.run()
        return run.vector

    return get


@STACKS
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
@pytest.mark.one_in(3)
def test_at_the_end_of_its_range_it_is_fedavg_bitwise(
    limit: Algorithm, stack: Stack, fedavg: Any, tmp_path: Path
) -> None:
    run = federation(class_problem(), tmp_path, limit, args=LocalSection(2, 4), stack=stack)
    run.run()
    assert torch.equal(run.vector, fedavg(stack, "examples"))


PLAIN: list[Algorithm] = [
    MIFA(),
    FedVARP(),
    FedExP(eps=1e9),
    QFedAvg(q=0.0),
    AFL(gamma=0.0),
    PFedMe(lam=4.0, inner_steps=1, inner_lr=0.25),
]
"""Those that are FedAvg with a plain mean, up to rounding, where everyone takes part."""


@STACKS
@pytest.mark.parametrize("limit", PLAIN, ids=lambda limit: limit.name)
@pytest.mark.one_in(3)
def test_with_everyone_it_is_fedavg_with_a_plain_mean(
    limit: Algorithm, stack: Stack, fedavg: Any, tmp_path: Path
) -> None:
    run = federation(class_problem(), tmp_path, limit, args=LocalSection(2, 4), stack=stack)
    run.run()
    assert relative(run.vector, fedavg(stack, "uniform")) <= 1e-5


FIRST: list[tuple[Algorithm, Algorithm, float]] = [
    (Scaffold(), FedAvg(weight="uniform"), 1.0),
    (FedDyn(alpha=0.3), FedProx(mu=0.3, weight="uniform"), 2.0),
    (FedDC(alpha=0.3), FedProx(mu=0.3, weight="uniform"), 2.0),
]
"""Those that correct by what they have kept, what they are before they have any, and with which step of the server."""


@STACKS
@pytest.mark.parametrize(("config", "other", "lr"), FIRST, ids=lambda value: getattr(value, "name", str(value)))
@pytest.mark.one_in(2)
def test_in_the_first_round_there_is_nothing_to_correct_by(
    config: Algorithm, other: Algorithm, lr: float, stack: Stack, tmp_path: Path
) -> None:
    """The server of FedDyn and FedDC adds the mean drift, which is the mean update once more."""
    options: dict[str, Any] = {"args": LocalSection(2, 4), "stack": stack, "rounds": 1}
    one = federation(class_problem(), tmp_path / "one", config, **options)
    first = federation(class_problem(), tmp_path / "other", other, server=SGD(lr), **options)
    one.run()
    first.run()
    assert relative(one.vector, first.vector) <= 1e-6


AT_HOME: list[Algorithm] = [FedPer(layers=["*"]), LGFedAvg(layers=["*"])]
"""Those that keep layers at home, with all of them there."""


@STACKS
@pytest.mark.parametrize("limit", AT_HOME, ids=lambda limit: limit.name)
@pytest.mark.one_in(2)
def test_with_all_layers_at_home_each_client_trains_alone_bitwise(
    limit: Algorithm, stack: Stack, tmp_path: Path
) -> None:
    models = []
    for algorithm in (limit, LocalOnly()):
        run = federation(class_problem(), tmp_path / algorithm.name, algorithm, args=LocalSection(2, 4), stack=stack)
        run.run()
        models.append(personal(run))
    assert torch.equal(*models)


@STACKS
def test_fedbabu_is_fedavg_of_a_model_whose_head_is_frozen(stack: Stack, tmp_path: Path) -> None:
    def frozen_head() -> nn.Module:
        module = class_problem().model_fn()
        list(module.children())[-1].requires_grad_(False)
        return module

    problem = class_problem()
    options: dict[str, Any] = {"args": LocalSection(2, 4), "stack": stack}
    babu = federation(problem, tmp_path / "babu", FedBABU(), **options)
    frozen = federation(replace(problem, model_fn=frozen_head), tmp_path / "frozen", **options)
    shared = babu.plan.layout.shared
    before = babu.vector[shared:].clone()
    babu.run()
    frozen.run()
    assert relative(babu.vector[:shared], frozen.vector) <= 1e-6
    assert torch.equal(babu.vector[shared:], before)


IS_FEDAVG: dict[str, str] = {
    "fedavg": "it is",
    "fedrs": "no client lacks a class here; its own test differs",
    "fedbn": "nothing is normalised here; its own test differs",
    "centralized": "of the one client that has all rows, which a run makes, and is not made here",
    "fedit": "of the adapters",
    "ffalora": "of the factors B; its vector has another length",
    "fedexlora": "of the adapters: it differs in the base",
}
"""Algorithms that are FedAvg in the runs of these laws, with the reason."""

# By themselves, these want an optimizer that remembers something.
REMEMBER = ("diloco", "streaming_diloco")
BY_ITSELF: list[Algorithm] = [algorithms[name]() for name in algorithms if name not in (*REMEMBER, *IS_FEDAVG)]
NOT_FEDAVG = [config for config in ALGORITHMS if config.name not in IS_FEDAVG]
NOT_FEDAVG += [config for config in BY_ITSELF if config not in NOT_FEDAVG]


@every("config", NOT_FEDAVG)
@pytest.mark.slow
def test_it_is_not_fedavg(config: Algorithm, ran: Runs) -> None:
    """Nor at its defaults, in the models that clients are evaluated with: cohorts of half, sizes and labels differ."""
    plain = ran(FedIT() if isinstance(config, LowRank) else FedAvg(weight=config.default_weight), 2)
    assert relative(ran(config, 2).kept["evaluated"], plain.kept["evaluated"]) > 3e-5

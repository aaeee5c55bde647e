"""Laws of the algorithms: what each becomes at the ends of its range, and where it comes to rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

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
    FedCM,
    FedDC,
    FedDecorr,
    FedDyn,
    FedExP,
    FedIT,
    FedLC,
    FedNova,
    FedNTD,
    FedProx,
    FedRoD,
    FedRolex,
    FedRS,
    FedSAM,
    FedSGD,
    FedVARP,
    HeteroFL,
    Mime,
    MoFedSAM,
    PFedMe,
    QFedAvg,
    Scaffold,
)
from fedray.algorithms.base import Algorithm
from fedray.algorithms.lowrank import LowRank
from fedray.attacks import ALIE, Attack, GaussianAttack, SignFlip
from fedray.config.sections import LocalSection
from fedray.local.stacking import Stack
from fedray.sampling import Full, Poisson, Sampler, Uniform, Weighted
from fedray.transforms import Clip, Gaussian, TopK, Transform
from tests.helpers import Federation, Problem, class_problem, federation, linear_problem, relative
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


def drifting() -> Problem:
    """Clients of one size that disagree, so that the mean over clients is the mean over examples."""
    return linear_problem(sizes=(10,) * 5, features=3, spread=2.0)


REST: list[tuple[Algorithm, bool]] = [
    (FedSGD(), True),
    (Scaffold(), True),
    (FedDyn(alpha=1.0), True),
    (Mime(beta=0.5), True),
    (FedAvg(), False),
]
"""Algorithms, and True for those that come to rest where the pooled gradient is 0."""


OTHERS: list[tuple[Algorithm, bool]] = [(FedDC(alpha=1.0), True), (FedProx(mu=0.1), False), (FedNova(), False)]
"""More of them, which are slow ones."""


@pytest.mark.parametrize(
    ("config", "exact"),
    [*REST, *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)],
    ids=lambda value: getattr(value, "name", str(value)),
)
@pytest.mark.one_in(3)
def test_where_it_comes_to_rest(config: Algorithm, exact: bool, tmp_path: Path) -> None:
    problem = drifting()
    run = federation(
        problem, tmp_path, config, optimizer=optim.SGD(0.45), args=LocalSection(1, None, 5), rounds=80, stack=5
    )
    run.run()
    norm = float(pooled_gradient(problem, run, run.vector).norm())
    if exact:
        assert norm <= 3e-6
    else:
        assert 0.02 <= norm <= 1.0
    # At rest either way: another round changes nothing that shows.
    before = run.vector.clone()
    run.run(81)
    assert relative(run.vector, before) <= 1e-5


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
    Ditto(lam=0.7),
    APFL(alpha=0.3),
    FedALA(eta=0.0),
    FedRoD(gamma=0.0),
    HeteroFL([1.0]),
    FedRolex([1.0, 1.0]),
    Mime(beta=0.0, lite=True),
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


NOT_FEDAVG = [
    config
    for config in ALGORITHMS
    # FedRS is FedAvg where no client lacks a class, FedBN where nothing is normalised, as here; their own tests differ.
    # FedIT is FedAvg of the adapters, the vector of FFA-LoRA has another length, and FedEx-LoRA differs in the base.
    # Centralized is FedAvg of the one client that has all rows, which a run makes, and is not made here.
    if config.name not in ("fedavg", "fedrs", "fedbn", "centralized", "fedit", "ffalora", "fedexlora")
]


@every("config", NOT_FEDAVG)
@pytest.mark.slow
def test_by_itself_it_is_not_fedavg(config: Algorithm, ran: Runs) -> None:
    """In the models that clients are evaluated with: cohorts of half, clients that differ in size and labels."""
    plain = ran(FedIT() if isinstance(config, LowRank) else FedAvg(weight=config.default_weight), 2)
    assert relative(ran(config, 2).kept["evaluated"], plain.kept["evaluated"]) > 1e-4

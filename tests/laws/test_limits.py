"""Laws of the algorithms: what each becomes at the ends of its range, and where it comes to rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray import optim
from fedray.aggregators import Median, TrimmedMean
from fedray.algorithms import FedAvg, FedAvgM, FedNova, FedProx, FedSGD, Scaffold
from fedray.algorithms.base import AlgorithmConfig
from fedray.local.schedule import LocalArgs
from fedray.local.stacking import Stack
from fedray.rundir.client_state import StateRows
from fedray.sampling import Full, Poisson, Sampler, Uniform, Weighted
from fedray.transforms import Clip, Gaussian, TopK, Transform
from tests.helpers import Federation, Problem, class_problem, federation, linear_problem, relative

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


@STACKS
@pytest.mark.parametrize("optimizer", [optim.SGD(0.1, 0.9), optim.Adam(0.01)], ids=["sgd", "adam"])
def test_fedprox_without_a_pull_is_fedavg_bitwise(
    optimizer: optim.TorchOptimizer, stack: Stack, tmp_path: Path
) -> None:
    args = LocalArgs(2, 4)
    for problem in (linear_problem(), class_problem()):
        prox = federation(problem, tmp_path, FedProx(mu=0.0), optimizer=optimizer, stack=stack, args=args)
        avg = federation(problem, tmp_path, FedAvg(), optimizer=optimizer, stack=stack, args=args)
        pulled = federation(problem, tmp_path, FedProx(mu=0.5), optimizer=optimizer, stack=stack, args=args)
        for run in (prox, avg, pulled):
            run.run()
        assert torch.equal(prox.vector, avg.vector)
        assert relative(pulled.vector, avg.vector) > 1e-4


@STACKS
def test_scaffold_with_one_local_step_and_everyone_is_fedsgd(stack: Stack, tmp_path: Path) -> None:
    for problem in (linear_problem(), class_problem()):
        scaffold = federation(problem, tmp_path, Scaffold(), args=LocalArgs(1, None), stack=stack, rounds=8)
        sgd = federation(problem, tmp_path, FedSGD(weight="uniform"), stack=stack, rounds=8)
        for rounds in range(1, 9):
            scaffold.run(rounds)
            sgd.run(rounds)
            assert relative(scaffold.vector, sgd.vector) <= 1e-5


@STACKS
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_fednova_at_equal_steps_is_fedavg(momentum: float, stack: Stack, tmp_path: Path) -> None:
    problem = class_problem((7, 3, 12, 9))
    runs = [
        federation(problem, tmp_path, config, optimizer=optim.SGD(0.1, momentum), args=LocalArgs(1, 4, 5), stack=stack)
        for config in (FedNova(), FedAvg())
    ]
    for run in runs:
        run.run()
    assert relative(runs[0].vector, runs[1].vector) <= 1e-5
    ragged = [
        federation(problem, tmp_path, config, optimizer=optim.SGD(0.1, momentum), stack=stack)
        for config in (FedNova(), FedAvg())
    ]
    for run in ragged:
        run.run()
    assert relative(ragged[0].vector, ragged[1].vector) > 1e-3


@pytest.mark.parametrize("sampler", [Full(), Uniform(2), Poisson(0.3)], ids=repr)
def test_scaffolds_control_variate_is_the_mean_of_all_clients_own(sampler: Sampler, tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, Scaffold(), sampler=sampler, rounds=5)
    run.run()
    rows = StateRows(tmp_path, run.job.state_widths())
    everyone = np.arange(6)
    own, known = rows.read(everyone, run.state.store.of(everyone), torch.device("cpu"))
    rows.close()
    assert any(known)
    server = run.plan.algorithm.server.state_dict()["control"]
    assert relative(own["control"].mean(dim=0), server) <= 1e-5


def test_every_round_has_noise_of_its_own(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, args=LocalArgs(0, 4), transforms=[Clip(2.0), Gaussian(0.5)], rounds=3)
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


@pytest.mark.parametrize(
    ("config", "exact"),
    [(FedSGD(), True), (Scaffold(), True), (FedAvg(), False), (FedProx(mu=0.1), False), (FedNova(), False)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_where_it_comes_to_rest(config: AlgorithmConfig, exact: bool, tmp_path: Path) -> None:
    problem = drifting()
    run = federation(
        problem, tmp_path, config, optimizer=optim.SGD(0.1), args=LocalArgs(1, None, 5), rounds=400, stack=5
    )
    run.run()
    norm = float(pooled_gradient(problem, run, run.vector).norm())
    if exact:
        assert norm <= 3e-6
    else:
        assert 0.02 <= norm <= 1.0
    # At rest either way: another round changes nothing that shows.
    before = run.vector.clone()
    run.run(401)
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
    private = federation(problem, tmp_path, FedAvg(), transforms=[Clip(0.1), Gaussian(0.0)])
    clipped = federation(problem, tmp_path, FedAvg(weight="uniform"), transforms=[Clip(0.1)])
    same(private, clipped)


def test_no_momentum_is_fedavg(tmp_path: Path) -> None:
    problem = class_problem()
    same(federation(problem, tmp_path, FedAvgM(momentum=0.0)), federation(problem, tmp_path))


def test_trimming_nothing_is_the_plain_mean(tmp_path: Path) -> None:
    problem = class_problem()
    trimmed = federation(problem, tmp_path, aggregator=TrimmedMean(0.0))
    plain = federation(problem, tmp_path, FedAvg(weight="uniform"))
    trimmed.run()
    plain.run()
    assert relative(trimmed.vector, plain.vector) <= 1e-6


def test_the_median_of_one_client_is_that_client(tmp_path: Path) -> None:
    problem = class_problem((9,))
    median, mean = federation(problem, tmp_path, aggregator=Median()), federation(problem, tmp_path)
    median.run()
    mean.run()
    assert relative(median.vector, mean.vector) <= 1e-6


def test_the_server_step_size_scales_one_round(tmp_path: Path) -> None:
    problem = class_problem()
    whole, half = (
        federation(problem, tmp_path, rounds=1),
        federation(problem, tmp_path, FedAvg(server_lr=0.5), rounds=1),
    )
    start = whole.vector.clone()
    whole.run()
    half.run()
    assert relative(2.0 * (half.vector - start), whole.vector - start) <= 1e-5

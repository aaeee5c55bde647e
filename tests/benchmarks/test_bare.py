"""The bare loop is the yardstick, so it must itself be federated averaging."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import fedray
from benchmarks.bare import Pool, Scaffold, Trainer, bare_round
from benchmarks.models import tiny_model
from benchmarks.workloads import WORKLOADS, Workload, make_cohort, make_data

SMALL = Workload("small", tiny_model, (64,), clients=12, examples=8, cohort=5, batch=8, lr=0.1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def parts(workload: Workload) -> tuple[Trainer, list[torch.Tensor], list[torch.Tensor]]:
    trainer = Trainer(workload, make_data(workload))
    model = [value.clone() for value in trainer.values]
    return trainer, model, [torch.empty_like(value) for value in model]


COUNTS = [
    ("tiny", 4_810, 0),
    ("cnn", 1_626_442, 0),
    ("wide", 50_376_714, 0),
    ("blaze", 62_006, 0),
    ("resnet", 11_173_962, 0),
    ("lora", 393_216, 19_952_640),
]


@pytest.mark.parametrize(("name", "trained", "frozen"), COUNTS)
def test_parameter_counts(name: str, trained: int, frozen: int) -> None:
    # Where there is frozen text, for real: what draws an embedding on no device is slow to import.
    with torch.device("cpu" if frozen else "meta"):
        model = WORKLOADS[name].model_fn()
    counts = {True: 0, False: 0}
    for param in model.parameters():
        counts[param.requires_grad] += param.numel()
    assert counts == {True: trained, False: frozen}


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_fit_together(name: str) -> None:
    workload = WORKLOADS[name]
    with torch.device("cpu" if workload.tokens else "meta"):
        inputs = torch.zeros(workload.batch, *workload.shape, dtype=torch.int64 if workload.tokens else torch.float32)
        output = workload.model_fn()(inputs)
    assert output.shape == (workload.batch, workload.classes, *(workload.shape if workload.tokens else ()))
    assert workload.cohort <= workload.clients
    assert workload.batch <= workload.examples
    assert len(workload.sizes) == workload.clients
    assert max(workload.sizes) == workload.examples
    assert min(workload.sizes) == (workload.fewest or workload.examples)


def test_one_full_step_each_is_centralised_gradient_descent() -> None:
    everyone = dataclasses.replace(SMALL, cohort=SMALL.clients)
    trainer, model, total = parts(everyone)
    x, y = trainer.data
    loss = cross_entropy(trainer.model(x), y)
    gradients = torch.autograd.grad(loss, trainer.params)
    expected = [value - everyone.lr * gradient for value, gradient in zip(model, gradients, strict=True)]
    bare_round(trainer, model, total, list(range(everyone.clients)), seed=3)
    torch.testing.assert_close(model, expected, rtol=1e-5, atol=1e-6)


def test_a_round_is_the_mean_of_its_clients_alone() -> None:
    workload = dataclasses.replace(SMALL, batch=3, epochs=2)
    trainer, model, total = parts(workload)
    start = [value.clone() for value in model]
    cohort = make_cohort(workload, torch.Generator().manual_seed(5))
    assert len(set(cohort)) == workload.cohort
    bare_round(trainer, model, total, cohort, seed=7)

    generator = torch.Generator().manual_seed(7)
    mean = [torch.zeros_like(value, dtype=torch.float64) for value in start]
    for client in cohort:
        trainer.load(start)
        trainer.train(client, generator)
        for entry, value in zip(mean, trainer.values, strict=True):
            entry += value.double() / workload.cohort
    torch.testing.assert_close(model, [entry.float() for entry in mean], rtol=1e-5, atol=1e-6)
    assert all(not torch.equal(value, before) for value, before in zip(model, start, strict=True))


def test_a_client_trains_on_its_own_rows_and_counts_by_how_many_they_are() -> None:
    workload = dataclasses.replace(SMALL, fewest=2, batch=3, cohort=SMALL.clients)
    assert len(set(workload.sizes)) > 2
    trainer, model, total = parts(workload)
    start = [value.clone() for value in model]
    x, y = trainer.data
    assert len(x) == len(y) == sum(workload.sizes)
    for client, (first, size) in enumerate(zip(workload.starts, workload.sizes, strict=True)):
        others = torch.ones(len(x), dtype=torch.bool)
        others[first : first + size] = False
        trainer.load(start)
        trainer.data = x.masked_fill(others[:, None], torch.nan), y
        trainer.train(client, torch.Generator().manual_seed(1))
        assert all(value.isfinite().all() for value in trainer.values)
    trainer.data = x, y
    full = Trainer(dataclasses.replace(workload, batch=workload.examples), (x, y))
    bare_round(full, model, total, list(range(workload.clients)), seed=1)
    trainer.load(start)
    gradients = torch.autograd.grad(cross_entropy(trainer.model(x), y), trainer.params)
    expected = [value - workload.lr * gradient for value, gradient in zip(start, gradients, strict=True)]
    torch.testing.assert_close(model, expected, rtol=1e-5, atol=1e-6)


def test_no_epochs_return_the_model_unchanged() -> None:
    trainer, model, total = parts(dataclasses.replace(SMALL, epochs=0, cohort=4))
    start = [value.clone() for value in model]
    bare_round(trainer, model, total, [0, 3, 5, 7], seed=0)
    assert all(torch.equal(value, before) for value, before in zip(model, start, strict=True))


def test_training_learns() -> None:
    trainer, model, total = parts(dataclasses.replace(SMALL, cohort=SMALL.clients, epochs=5))
    x, y = trainer.data
    before = cross_entropy(trainer.model(x), y).item()
    for seed in range(10):
        bare_round(trainer, model, total, list(range(SMALL.clients)), seed)
    trainer.load(model)
    after = cross_entropy(trainer.model(x), y).item()
    assert before == pytest.approx(math.log(SMALL.classes), abs=0.2)
    assert after < 0.7 * before


@pytest.mark.slow
def test_two_processes_equal_one() -> None:
    trainer, alone, total = parts(SMALL)
    shared = [value.clone() for value in alone]
    cohort = make_cohort(SMALL, torch.Generator().manual_seed(1))
    pool = Pool(SMALL, trainer.data, shared, processes=2, threads=1)
    # One full batch per client: the permutation, drawn per process, does not matter.
    for seed in (0, 1):
        pool.round(cohort, seed)
        bare_round(trainer, alone, total, cohort, seed)
    pool.close()
    torch.testing.assert_close(shared, alone, rtol=1e-5, atol=1e-6)


def test_controls_of_everybody_cancel_and_are_mean_gradients() -> None:
    everyone = dataclasses.replace(SMALL, cohort=SMALL.clients, algorithm="scaffold")
    plain, scaffold = Trainer(everyone, make_data(everyone)), Scaffold(everyone, make_data(everyone))
    start = [value.clone() for value in plain.values]
    alone, model, total = ([value.clone() for value in start] for _ in range(3))
    for seed in (0, 1):
        plain.load(model)
        x, y = plain.data
        gradients = torch.autograd.grad(cross_entropy(plain.model(x), y), plain.params)
        bare_round(plain, alone, total, list(range(SMALL.clients)), seed)
        bare_round(scaffold, model, total, list(range(SMALL.clients)), seed)
        # One step each: the mean of c - c_i over all clients is 0.
        torch.testing.assert_close(model, alone, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(scaffold.control, list(gradients), rtol=1e-4, atol=1e-5)


def test_controls_of_some_are_those_of_the_engine(tmp_path: Path) -> None:
    workload = dataclasses.replace(SMALL, batch=SMALL.examples, epochs=2, algorithm="scaffold")
    trainer = Scaffold(workload, make_data(workload))
    model = [value.clone() for value in trainer.values]
    total = [torch.empty_like(value) for value in model]
    first = copy.deepcopy(trainer.model)
    sampler = fedray.Uniform(workload.cohort)
    for round in (1, 2, 3):
        cohort = sampler.cohort(np.array(workload.sizes), 0, round).tolist()
        bare_round(trainer, model, total, cohort, seed=round)
    x, y = trainer.data
    result = fedray.train(
        fedray.FederatedModel(lambda: copy.deepcopy(first), fedray.optim.SGD(lr=workload.lr), cross_entropy),
        fedray.FederatedData.from_arrays(x, y, torch.arange(12).repeat_interleave(workload.examples)),
        fedray.TrainArgs(rounds=3, epochs=2, batch_size=workload.batch, tracking=[]),
        algorithm=workload.algorithm,
        sampler=sampler,
        cluster="inline",
        run_dir=tmp_path / "run",
        progress=False,
    )
    torch.testing.assert_close(list(result.model.parameters()), model, rtol=1e-4, atol=1e-6, check_device=False)

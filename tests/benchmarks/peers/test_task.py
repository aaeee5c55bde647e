"""What peers are given is what the bare loop does: the same clients, the same rows, in the same order."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.bare import WARMUP, Trainer, example_weights, measure
from benchmarks.models import tiny_model
from benchmarks.peers.run import TOLERANCE, distance
from benchmarks.peers.task import Clock, Task, read, vector, write
from benchmarks.workloads import WORKLOADS, Workload, make_cohort, make_data

SMALL = Workload("small", tiny_model, (64,), clients=12, examples=8, cohort=5, batch=3, lr=0.1)


def small(monkeypatch: pytest.MonkeyPatch, folder: Path, rounds: int = 2, processes: int = 1) -> Task:
    monkeypatch.setitem(WORKLOADS, "small", SMALL)
    write(folder, SMALL, rounds, processes)
    return read(folder)


def averaged(task: Task) -> torch.Tensor:
    """Federated averaging of a task in float64, written from the equation."""
    model = task.model().double()
    for number in range(task.rounds):
        ends = []
        for place in range(task.workload.cohort):
            alone = copy.deepcopy(model)
            for x, y in task.batches(number, place):
                gradients = torch.autograd.grad(cross_entropy(alone(x.double()), y), list(alone.parameters()))
                with torch.no_grad():
                    for param, gradient in zip(alone.parameters(), gradients, strict=True):
                        param.sub_(task.workload.lr * gradient)
            ends.append(vector(alone))
        torch.nn.utils.vector_to_parameters(torch.stack(ends).mean(0), model.parameters())
    return vector(model)


def test_its_rounds_end_where_the_bare_loop_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = small(monkeypatch, tmp_path)
    measure(SMALL, rounds=2, save=tmp_path / "bare.npy")
    bare = np.load(tmp_path / "bare.npy")
    assert distance(averaged(task).float().numpy(), bare, task.start.numpy()) < TOLERANCE / 100


def test_another_order_of_batches_ends_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = small(monkeypatch, tmp_path)
    turned = dataclasses.replace(task, orders=task.orders.flip(-1))
    other, one = (averaged(each).float().numpy() for each in (turned, task))
    assert distance(other, one, task.start.numpy()) > 5 * TOLERANCE


def test_each_process_of_the_bare_loop_draws_its_own_stretch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task, processes = small(monkeypatch, tmp_path, processes=2), 2
    torch.default_generator.manual_seed(0)
    trainer, cohorts = Trainer(SMALL, make_data(SMALL)), torch.Generator().manual_seed(0)
    assert torch.equal(vector(trainer.model), task.start)
    model = [value.clone() for value in trainer.values]
    for number in range(WARMUP + 2):
        cohort = make_cohort(SMALL, cohorts)
        assert cohort == task.cohorts[number].tolist()
        weights, totals = example_weights(SMALL, cohort), []
        for rank, stretch in enumerate((slice(0, 3), slice(3, 5))):  # of five, the first of two takes three
            total = [torch.zeros_like(value) for value in model]
            trainer.add(total, model, cohort[stretch], weights[stretch], seed=number * processes + rank)
            totals.append(total)
        model = [first + second for first, second in zip(*totals, strict=True)]
    trainer.load(model)
    assert distance(vector(trainer.model).numpy(), averaged(task).float().numpy(), task.start.numpy()) < 1e-5


def test_who_trains_no_epoch_has_rows_and_no_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = small(monkeypatch, tmp_path, rounds=1)
    still = dataclasses.replace(task, workload=dataclasses.replace(SMALL, epochs=0))
    assert [len(x) for x, _ in task.batches(0, 0)] == [3, 3, 2]
    assert list(still.batches(0, 0)) == []
    assert still.orders.shape == (WARMUP + 1, SMALL.cohort, SMALL.examples)


def test_rows_of_a_client_are_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = small(monkeypatch, tmp_path)
    assert torch.equal(task.orders // SMALL.examples, task.cohorts[..., None].expand_as(task.orders))
    assert torch.equal(task.orders.sort(-1).values % SMALL.examples, torch.arange(8).expand_as(task.orders))


@pytest.mark.parametrize("name", ["ragged", "stateful", "lora"])
def test_what_no_peer_is_asked_for_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}: .* is wanted"):
        write(tmp_path, WORKLOADS[name], rounds=1, processes=1)


def test_the_rounds_that_warm_up_are_not_timed() -> None:
    assert Clock([1.0, 4.0, 4.5, 5.5]).seconds == [0.5, 1.0]

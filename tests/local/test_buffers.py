"""What becomes of buffers: averaged, kept as they were, or each client's own; integers keep their type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedray.aggregators import Median
from fedray.algorithms import FedAvg
from fedray.config.sections import BufferPolicy, EvaluateSection, LocalSection
from fedray.core.layout import Layout
from fedray.local.stacking import Stack
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Item, Report
from fedray.rundir.state_rows import StateRows
from fedray.sampling import Full, Uniform
from fedray.transforms import Clip, Gaussian
from tests.helpers import Problem, class_problem, federation, local_task, relative, train

SIZES = (10, 4, 6)


def norm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))


class Rebinding(nn.Module):
    """Keeps statistics by assignment, ``self.average = ...``, where BatchNorm changes its own in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("average", torch.zeros(6))
        self.register_buffer("seen", torch.tensor(0))
        self.average: Tensor
        self.seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average = 0.5 * self.average + 0.5 * x.detach().mean(dim=0)
            self.seen = self.seen + len(x)
        out: Tensor = self.layer(x - self.average)
        return out


class Masked(nn.Module):
    """Attends to all of its inputs but the last, by a mask of minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.out = nn.Linear(6, 6), nn.Linear(6, 3)
        self.register_buffer("mask", torch.tensor([0.0] * 5 + [-torch.inf]))
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.softmax(self.score(x) + self.mask, dim=-1) * x)
        return out


class Counting(nn.Module):
    """Counts its calls, in place and when it is evaluated too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.layer(x) + 0.1 * self.calls
        return out


def problem(model_fn: Callable[[], nn.Module] | None = None) -> Problem:
    return class_problem(SIZES, model_fn=model_fn or norm)


def own_training(task_problem: Problem, client: int, start: Tensor, optimizer_lr: float = 0.1) -> Tensor:
    """The vector of a client after one full-batch step from ``start``, in plain PyTorch."""
    module = task_problem.model_fn().train()
    layout = Layout.of(module)
    layout.load(module, start)
    x, y = task_problem.data.rows(torch.tensor([client]).numpy()).take(torch.arange(SIZES[client]).numpy()[None])
    loss = task_problem.loss_fn(module(x[0]), y[0])
    module.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter.sub_(optimizer_lr * parameter.grad)
    return layout.pack(dict(module.state_dict()))


FULL_BATCH = LocalSection(1, None)
MODELS = pytest.mark.parametrize("model_fn", [norm, Rebinding], ids=["batchnorm", "rebinding"])


@MODELS
def test_mean_averages_buffers_like_parameters(model_fn: Callable[[], nn.Module], tmp_path: Path) -> None:
    run = federation(problem(model_fn), tmp_path, args=FULL_BATCH, rounds=2)
    layout = run.plan.layout
    expected = run.vector.clone()
    for _ in range(2):
        rows = torch.stack([own_training(problem(model_fn), client, expected) for client in range(3)])
        weights = torch.tensor(SIZES, dtype=torch.float32) / sum(SIZES)
        expected = expected + weights @ (rows - expected)
        layout.round_integers(expected[layout.spans["buffers"]])
    run.run()
    assert relative(run.vector, expected) <= 1e-5


@MODELS
def test_keep_leaves_the_servers_buffers_alone(model_fn: Callable[[], nn.Module], tmp_path: Path) -> None:
    run = federation(problem(model_fn), tmp_path, args=FULL_BATCH, rounds=2, buffers="keep")
    trained = run.plan.layout.trained
    start = run.vector.clone()
    rows = torch.stack([own_training(problem(model_fn), client, start) for client in range(3)])
    run.run(1)
    weights = torch.tensor(SIZES, dtype=torch.float32) / sum(SIZES)
    assert relative(run.vector[:trained], (weights @ rows)[:trained]) <= 1e-5
    assert torch.equal(run.vector[trained:], start[trained:])
    run.run()
    assert torch.equal(run.vector[trained:], start[trained:])


def test_noise_does_not_reach_buffers_that_stay(tmp_path: Path) -> None:
    run = federation(
        problem(), tmp_path, transforms=[Clip(1.0), Gaussian(1.0, noise="seeded")], args=FULL_BATCH, buffers="keep"
    )
    trained = run.plan.layout.trained
    start = run.vector.clone()
    run.run()
    assert torch.equal(run.vector[trained:], start[trained:])
    assert not torch.equal(run.vector[:trained], start[:trained])


@MODELS
def test_local_lets_each_client_go_on_with_its_own(model_fn: Callable[[], nn.Module], tmp_path: Path) -> None:
    run = federation(problem(model_fn), tmp_path, args=FULL_BATCH, rounds=3, buffers="local")
    trained = run.plan.layout.trained
    start = run.vector.clone()
    buffers = [start[trained:].clone() for _ in range(3)]
    expected = start.clone()
    weights = torch.tensor(SIZES, dtype=torch.float32) / sum(SIZES)
    for _ in range(3):
        rows = [own_training(problem(model_fn), c, torch.cat([expected[:trained], buffers[c]])) for c in range(3)]
        buffers = [row[trained:] for row in rows]
        expected[:trained] = weights @ torch.stack(rows)[:, :trained]
    run.run()
    assert relative(run.vector[:trained], expected[:trained]) <= 1e-5
    assert torch.equal(run.vector[trained:], start[trained:])


def test_local_on_a_model_without_buffers_is_mean(tmp_path: Path) -> None:
    for stack in (3, 1):
        local = federation(class_problem(), tmp_path, stack=stack, buffers="local")
        mean = federation(class_problem(), tmp_path, stack=stack)
        local.run()
        mean.run()
        assert torch.equal(local.vector, mean.vector)
        assert not local.state.store.rows


def test_local_buffers_survive_rounds_in_which_a_client_is_away(tmp_path: Path) -> None:
    run = federation(problem(), tmp_path, args=FULL_BATCH, rounds=6, buffers="local", sampler=Uniform(1))
    run.run()
    layout = run.plan.layout
    count = next(e for e in layout.integers if e.name.endswith("num_batches_tracked"))
    rounds = [run.plan.cohort(r).tolist() for r in range(1, 7)]
    clients = sorted({client for cohort in rounds for client in cohort})
    rows = StateRows(tmp_path, run.job.state_fields())
    for client in clients:
        state, known = rows.read(torch.tensor([client]).numpy(), run.state.store.rows, torch.device("cpu"))
        assert known.tolist() == [True]
        seen = float(state["personal"][0, count.start - layout.trained])
        assert seen == sum(client in cohort for cohort in rounds)
    rows.close()


@pytest.mark.parametrize("aggregator", [None, Median()])
def test_integer_buffers_stay_integers_in_the_model(aggregator: Median | None, tmp_path: Path) -> None:
    run = federation(
        problem(), tmp_path, FedAvg(), args=LocalSection(1, 4), rounds=2, aggregator=aggregator, sampler=Full()
    )
    run.run()
    count = next(e for e in run.plan.layout.integers)
    # Two rounds of 3, 1 and 2 steps; the mean over clients (by examples, or the median) is rounded in each.
    per_round = round((10 * 3 + 4 * 1 + 6 * 2) / 20) if aggregator is None else 2
    assert float(run.vector[count.start]) == 2 * per_round
    module = norm()
    run.plan.layout.load(module, run.vector)
    tracked = module[1].num_batches_tracked  # type: ignore[index]
    assert tracked.dtype == torch.int64
    assert int(tracked) == 2 * per_round


def test_a_clients_buffers_do_not_reach_the_next_client() -> None:
    models: list[Callable[[], nn.Module]] = [norm, Rebinding]
    for model_fn in models:
        task = local_task(problem(model_fn), args=FULL_BATCH, stack=1)
        together = train(task, [0, 1, 2]).parts["delta"]
        for client in range(3):
            assert torch.equal(train(task, [client]).parts["delta"][0], together[client])


@pytest.mark.parametrize("stack", [1, 3, "off"])
@pytest.mark.parametrize("buffers", ["mean", "keep", "local"])
def test_an_infinite_buffer_stays_as_it_is(buffers: BufferPolicy, stack: Stack, tmp_path: Path) -> None:
    run = federation(problem(Masked), tmp_path, stack=stack, buffers=buffers)
    trained, start = run.plan.layout.trained, run.vector.clone()
    records = run.run()
    assert [record.clients["failed"] for record in records] == [0, 0, 0]
    assert torch.equal(run.vector[trained:], start[trained:])
    assert bool(torch.isfinite(run.vector[:trained]).all())
    assert not torch.equal(run.vector[:trained], start[:trained])


class Backwards(InlineExecutor):
    """Does its work in another order than it was given, as several workers may."""

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        return super().run(items[::-1], stopping)


@pytest.mark.parametrize("buffers", ["mean", "keep", "local"])
def test_evaluation_leaves_the_buffers_of_the_global_model_alone(buffers: BufferPolicy, tmp_path: Path) -> None:
    counting = class_problem(SIZES, model_fn=Counting, test=9, holdout=0.3)
    often, never = (
        federation(
            counting, tmp_path / str(every), buffers=buffers, evaluated_rows=4, evaluate=EvaluateSection(every, every)
        )
        for every in (1, 0)
    )
    records = often.run()
    never.run()
    assert torch.equal(often.vector, never.vector)
    # Each chunk starts from the same buffers, whoever evaluated what before.
    again = federation(counting, tmp_path / "again", buffers=buffers, evaluated_rows=4, evaluate=EvaluateSection(1, 1))
    again.executor = Backwards
    assert [record.test for record in again.run()] == [record.test for record in records]

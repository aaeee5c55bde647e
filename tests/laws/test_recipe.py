"""Laws of a client's recipe, over algorithms: it resumes, and neither workers nor stacks show in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.algorithms import Ditto, FedAvg, FedNova, FedRolex, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import FailuresSection, LocalSection
from fedray.core.messages import Broadcast
from fedray.data.augment import Flip, Normalize
from fedray.data.augment_chain import Augment
from fedray.local.rate import LearningRate
from fedray.optim import SGD, Cosine
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Item, Job, Report, Worker
from fedray.sampling import Uniform
from tests.helpers import Federation, class_problem, federation, relative

PROBLEM = class_problem((7, 3, 12, 9, 1, 5, 8), test=20)
DRAWN = {"name": "uniform", "low": 1, "high": 4}
RECIPES = {
    "epochs": LocalSection(DRAWN, 4),
    "steps": LocalSection(1, 4, DRAWN, clip_grad_norm=0.3),
    "accumulate": LocalSection(2, 2, accumulate=3, clip_grad_norm=0.5),
    "kept": LocalSection(DRAWN, 4, keep_optimizer=True),
    "clients": LocalSection(DRAWN, 4, by_client={"2": {"steps": 5}, "4": {"epochs": 0}, "6": {"batch_size": 3}}),
    "rates": LocalSection(2, 4, by_client={"1": {"lr": 0.3}, "2": {"lr": 0.02, "epochs": 3}, "5": {"lr": 0.3}}),
}
ALGORITHMS: list[Algorithm] = [FedAvg(), Scaffold(), FedNova(), Ditto(epochs=2), FedRolex()]
EVERY_RECIPE = pytest.mark.parametrize(
    ("recipe", "algorithm"),
    [
        # Each recipe meets two algorithms, and each algorithm two recipes at least; the others are slow.
        pytest.param(
            name,
            algorithm,
            id=f"{name}-{algorithm.name}",
            marks=[] if (row + place) % 5 in (0, 2) else pytest.mark.slow,
        )
        for row, (name, args) in enumerate(RECIPES.items())
        for place, algorithm in enumerate(ALGORITHMS)
        # Models of different size are refused beside kept optimizers.
        if not (args.keep_optimizer and algorithm.variants())
    ],
)


class Several(InlineExecutor):
    """So many workers, who share out the items and add up what they folded."""

    count = 3

    def __init__(self, job: Job, devices: Sequence[torch.device] = (torch.device("cpu"),)) -> None:
        super().__init__(job, devices)
        self._others = [Worker(job, devices) for _ in range(self.count - 1)]

    def publish(self, down: Broadcast) -> None:
        for worker in (self._worker, *self._others):
            worker.begin(down)

    def run(self, items: Sequence[Item], stopping: Any) -> list[Report]:
        everybody = [*self._others, self._worker]
        return [everybody[number % self.count].handle(item) for number, item in enumerate(items)]

    def collect(self) -> Accumulator:
        total = self._worker.finish()
        for worker in self._others:
            self._worker.job.algorithm.aggregator.merge(total, worker.finish())
        return total

    def close(self) -> None:
        for worker in self._others:
            worker.close()
        super().close()


def made(folder: Path, args: LocalSection, algorithm: Algorithm, **options: Any) -> Federation:
    drop = FailuresSection(dropout=0.2)
    if args.keep_optimizer:
        options["optimizer"] = SGD(0.1, momentum=0.5)
    run = federation(PROBLEM, folder, algorithm, args=args, sampler=Uniform(6), rounds=3, failures=drop, **options)
    changes = Augment((Flip(), Normalize([0.1], [2.0])))
    task = replace(run.plan.task, rate=LearningRate(Cosine(warmup=1, eta_min=0.01), 4, 0.1), augment=changes)
    run.plan, run.job = replace(run.plan, task=task), replace(run.job, task=task)
    return run


def bits(run: Federation, rounds: int | None = None) -> list[tuple[str | None, Any]]:
    return [(record.model_sha256, record.train) for record in run.run(rounds)]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, LocalSection, Algorithm], tuple[Any, Any]]:
    """Return a run in stacks of three with its bits, made once, with a checkpoint after two rounds."""
    done: dict[str, tuple[Any, Any]] = {}

    def get(recipe: str, args: LocalSection, algorithm: Algorithm) -> tuple[Any, Any]:
        key = f"{recipe} {algorithm!r}"
        if key not in done:
            run = made(tmp_path_factory.mktemp("whole"), args, algorithm, checkpoint_every=2)
            found = bits(run)
            done[key] = run, found
        return done[key]

    return get


@EVERY_RECIPE
@pytest.mark.one_in(4)
def test_it_resumes_and_any_number_of_workers_gives_its_bits(
    recipe: str, algorithm: Algorithm, whole: Any, tmp_path: Path
) -> None:
    args = RECIPES[recipe]
    run, expected = whole(recipe, args, algorithm)
    assert len({sha for sha, _ in expected}) == 3
    assert len({train["lr"] for _, train in expected}) == 3
    several = made(tmp_path, args, algorithm)
    several.executor = Several
    assert bits(several) == expected
    # In its folder, where what it wrote after the checkpoint is still there, as it is after a crash.
    second = made(run.job.state_folder, args, algorithm)
    second.restore(run.saves[0])
    assert bits(second) == expected[1:]


@EVERY_RECIPE
@pytest.mark.slow
def test_the_size_of_a_stack_does_not_show(recipe: str, algorithm: Algorithm, whole: Any, tmp_path: Path) -> None:
    args = RECIPES[recipe]

    def vector(stack: Any) -> Tensor:
        run = made(tmp_path / str(stack), args, algorithm, stack=stack)
        run.run()
        return run.vector

    alone = vector("off")
    for stacked in (whole(recipe, args, algorithm)[0].vector, vector(7)):
        assert relative(stacked, alone) <= 1e-5


def test_drawn_work_is_another_number_of_examples_in_each_round(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path, args=LocalSection(DRAWN, None), rounds=3)
    examples = [record.examples for record in run.run()]
    assert len(set(examples)) == 3
    assert all(int(PROBLEM.data.sizes.sum()) <= n <= 4 * int(PROBLEM.data.sizes.sum()) for n in examples)

"""A rank of a worker: with one rank, what a worker folds; what no rank may fold, none does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import fedray
from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.messages import BlockReport, Broadcast
from fedray.run.rank import RanksBroken, RankWorker
from fedray.run.worker import Worker
from fedray.transforms.base import Transform
from tests.helpers import Federation, class_problem, federation

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def done(worker: Worker, one: Federation) -> tuple[list[BlockReport], dict[str, Tensor]]:
    """The first round's reports, and what was folded."""
    blocks = one.plan.blocks(1, one.plan.cohort(1), one.state.store)
    worker.begin(Broadcast(1, {"model": one.vector}, one.plan.weight(one.plan.cohort(1))))
    reports = [report for block in blocks if isinstance(report := worker.handle(block), BlockReport)]
    into = {name: torch.zeros_like(part) for name, part in worker.finish().items()}
    worker.put(into)
    return reports, into


@pytest.mark.parametrize("transforms", [[], [fedray.Clip(norm=0.05), fedray.BF16()]])
def test_one_rank_folds_what_a_worker_folds(transforms: list[Transform], tmp_path: Path) -> None:
    one = federation(class_problem(), tmp_path, transforms=transforms, args=LocalSection(2, 4), stack="off")
    whole, rank = Worker(one.job, [CPU]), RankWorker(one.job, [CPU], 0, 1)
    (reports, total), (others, parts) = done(whole, one), done(rank, one)
    assert {name: part.tolist() for name, part in parts.items()} == {
        name: part.tolist() for name, part in total.items()
    }
    assert bool(total["delta"].any())
    assert [report.loss.tolist() for report in reports] == [report.loss.tolist() for report in others]


def test_one_rank_goes_on_from_what_clients_kept_of_their_optimizers(tmp_path: Path) -> None:
    """Two rounds of Adam, the second with the moments of the first: sums and files of rows have a worker's bits."""
    args, found = LocalSection(2, 4, keep_optimizer=True), []
    for name, make in (("whole", Worker), ("rank", lambda job, devices: RankWorker(job, devices, 0, 1))):
        one = federation(class_problem((5, 4)), tmp_path / name, optimizer=optim.Adam(0.1), args=args, stack="off")
        worker, totals = make(one.job, [CPU]), []
        for _ in range(2):
            reports, total = done(worker, one)
            one.state.store.commit(*(report.state for report in reports))
            totals.append(total["delta"].tolist())
        (file,) = (tmp_path / name).glob("*.rows")
        found.append((totals, file.read_bytes()))
    assert found[0] == found[1]
    assert found[0][0][0] != found[0][0][1]


def test_an_update_that_is_out_of_range_is_a_failure_of_its_client(tmp_path: Path) -> None:
    one = federation(class_problem((5, 4)), tmp_path, optimizer=optim.SGD(1e30), args=LocalSection(2, 2), stack="off")
    reports, total = done(RankWorker(one.job, [CPU], 0, 1), one)
    stages = [failure.stage for report in reports for failure in report.failures]
    assert stages == ["update", "update"]
    assert not total["delta"].any()


def torn(output: Tensor, target: Tensor) -> Tensor:
    """Leave behind what a rank that is gone does: an error of torch's own calls."""
    dist.all_reduce(torch.zeros(1, dtype=torch.float64), group=dist.group.WORLD, op=dist.ReduceOp.BAND)
    raise AssertionError("torch raises before")


def bad(output: Tensor, target: Tensor) -> Tensor:
    """Fail as code of one's own does."""
    raise ValueError("no loss today")


def full(output: Tensor, target: Tensor) -> Tensor:
    """Fail as torch does where the host has no more memory."""
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")


@pytest.mark.parametrize(
    ("loss", "stage", "words"),
    [
        (bad, "train", "ValueError: no loss today"),
        (full, "memory", "can't allocate memory"),
        (torn, None, "RuntimeError: "),
    ],
)
def test_whatever_else_a_rank_raises_breaks_all_of_them_and_is_told_from_a_death(
    loss: Callable[[Tensor, Tensor], Tensor], stage: str | None, words: str, tmp_path: Path
) -> None:
    """The others wait for it somewhere."""
    one = federation(class_problem((5, 4)), tmp_path, stack="off")
    worker = RankWorker(replace(one.job, task=replace(one.job.task, loss_fn=loss)), [CPU], 0, 1)
    with pytest.raises(RanksBroken, match=words) as caught:
        done(worker, one)
    failure = caught.value.failure
    assert (failure.stage if failure else None) == stage
    if failure:
        assert failure.client in (0, 1)
        assert words in failure.error
        assert (f"in {loss.__name__}" in failure.trace) == (stage == "train")

"""Evaluations by ranks: the numbers of one process, bit for bit, and training that does not see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from fedray.config.sections import EvaluateSection, LocalSection
from fedray.core.errors import RunFailed
from fedray.core.messages import BlockReport, Broadcast
from fedray.local.task import Sharing
from fedray.run.evaluation import HoldoutReport, TestReport
from fedray.run.rank import RankWorker
from fedray.run.rank_examiner import RankExaminer
from fedray.run.worker import Worker
from tests.helpers import Federation, class_problem, federation

CPU = torch.device("cpu")


def problem(folder: Path, ranks: int = 1, **options: Any) -> Federation:
    """Seven clients, six of which hold rows out, and a test set of eight pieces, of which the last is shorter."""
    one = federation(
        class_problem((7, 3, 12, 9, 1, 6, 5), test=37, holdout=0.3),
        folder,
        args=LocalSection(1, 4),
        evaluate=EvaluateSection(1, 1),
        evaluated_rows=5,
        stack="off",
        **options,
    )
    task = replace(one.plan.task, sharing=Sharing(ranks=ranks, bare=True))
    return replace(one, plan=replace(one.plan, task=task), job=replace(one.job, task=task))


def evaluated(one: Federation, worker: Worker) -> list[Any]:
    """The numbers of all evaluations of a round."""
    found: list[Any] = []
    for item in one.plan.evaluations(1, 3, one.state.store):
        report = worker.handle(item)
        if isinstance(report, TestReport):
            pieces = report.pieces
            found += [
                (p.index, p.metrics, {t: {k: v.tolist() for k, v in s.items()} for t, s in p.states.items()})
                for p in pieces
            ]
        else:
            assert isinstance(report, HoldoutReport)
            sums = {view: {name: part.tolist() for name, part in of.items()} for view, of in report.sums.items()}
            found.append((report.clients.tolist(), sums, report.examples.tolist()))
    return found


def trained(one: Federation, worker: Worker) -> list[list[float]]:
    """What is folded of the round's blocks."""
    for block in one.plan.blocks(1, one.plan.cohort(1), one.state.store):
        report = worker.handle(block)
        assert isinstance(report, BlockReport)
        assert not report.failures
    return [part.tolist() for _, part in sorted(worker.finish().items())]


def begun(one: Federation, worker: Worker) -> Worker:
    worker.begin(Broadcast(1, {"model": one.vector}, one.plan.weight(one.plan.cohort(1))))
    return worker


def expected(folder: Path) -> list[Any]:
    """The numbers of one process."""
    one = problem(folder)
    found = evaluated(one, begun(one, Worker(one.job, [CPU])))
    assert [number for number, *_ in found[:8]] == list(range(8))
    assert len(found) > 8
    return found


@pytest.fixture
def alone(tmp_path: Path) -> Any:
    """A process group of this process."""
    dist.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_rank_evaluates_as_one_process_and_trains_as_if_it_had_not(tmp_path: Path, alone: None) -> None:
    one = problem(tmp_path / "one")
    undisturbed = trained(one, begun(one, RankWorker(one.job, [CPU], 0, 1)))
    rank = begun(one, RankWorker(one.job, [CPU], 0, 1))
    numbers = expected(tmp_path / "whole")
    assert evaluated(one, rank) == numbers
    assert trained(one, rank) == undisturbed
    assert evaluated(one, rank) == numbers


def test_an_item_of_several_ranks_has_a_piece_for_each(tmp_path: Path) -> None:
    chunks = problem(tmp_path, 3).plan.evaluations(1, 3, problem(tmp_path / "b").state.store)[:3]
    assert [(chunk.index, chunk.start, chunk.stop) for chunk in chunks] == [  # type: ignore[union-attr]
        (0, 0, 15),
        (3, 15, 30),
        (6, 30, 37),
    ]


def test_too_little_memory_is_an_error_and_no_rows_are_halved(
    tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other ranks wait for the same pass."""
    one = problem(tmp_path / "one")
    rank = begun(one, RankWorker(one.job, [CPU], 0, 1))
    calls: list[int] = []

    def no_room(*_: Any) -> Any:
        calls.append(1)
        raise MemoryError("no room")

    monkeypatch.setattr("fedray.run.evaluation.outputs_of", no_room)
    with pytest.raises(RunFailed, match=r"the evaluation on the test set failed: MemoryError: no room"):
        evaluated(one, rank)
    assert len(calls) == 1


def on_rank(rank: int, ranks: int, folder: Path) -> None:
    """A rank's evaluations before and after it trains, and what it trains, with them and without, to a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=ranks)
    one = problem(folder / f"of {rank}", ranks)
    undisturbed = trained(one, begun(one, RankWorker(one.job, [CPU], rank, ranks)))
    worker = begun(one, RankWorker(one.job, [CPU], rank, ranks))
    before, folded, after = evaluated(one, worker), trained(one, worker), evaluated(one, worker)
    torch.save((before, after, folded == undisturbed), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_that_share_pieces_out_have_the_numbers_of_one_process(ranks: int, tmp_path: Path) -> None:
    """Eight pieces on three ranks leave one of them idle in the last turn."""
    torch.set_num_threads(1)
    numbers = expected(tmp_path / "whole")
    spawn(on_rank, (ranks, tmp_path), nprocs=ranks)
    for rank in range(ranks):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=False) == (numbers, numbers, True)


def says_on_rank(rank: int, folder: Path) -> None:
    """Three passes that the first rank asks for, and what each has run the model on, to a file."""
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    one: Any = object.__new__(RankExaminer)
    one._words, one._task = SimpleNamespace(stops=None), SimpleNamespace(data=SimpleNamespace(), seed=7)
    seen: list[Tensor] = []

    def forward(x: Tensor) -> Tensor:
        seen.append(x)
        return x + 1

    def say(forward: Any, go_on: Any, **how: Any) -> tuple[Any, ...]:
        x = torch.zeros(2, 1)
        for _ in range(3):
            x = torch.cat([x, forward(x)[:, -1:]], dim=1)
        return tuple(x.tolist())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fedray.run.examiner.end_of", lambda data: None)
        said = one.said(forward, say, SimpleNamespace(go_on=None))
    torch.save((said, seen), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_the_first_rank_says_samples_and_the_other_runs_the_model_with_it(tmp_path: Path) -> None:
    spawn(says_on_rank, (tmp_path,), nprocs=2)
    (said, seen), (others, also) = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert said == ([0.0, 1.0, 2.0, 3.0],) * 2
    assert others == ()
    assert [x.tolist() for x in also] == [x.tolist() for x in seen]
    assert len(also) == 3

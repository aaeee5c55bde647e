"""The round loop: records, evaluation, stopping, checkpoints, and what becomes of clients that fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedray import optim
from fedray.aggregators import Median
from fedray.aggregators.base import Accumulator
from fedray.aggregators.gathered import Rows, Selected
from fedray.aggregators.stored import RowsLost, StoredRows
from fedray.algorithms import FedAvg, Scaffold
from fedray.config.sections import EvaluateSection, FailuresSection, LocalSection
from fedray.core.errors import RunFailed
from fedray.core.messages import Broadcast, Ints, Parts
from fedray.core.now import Now
from fedray.core.record import RoundRecord
from fedray.data.federated import FederatedData
from fedray.data.spec import DataSpec
from fedray.run.evaluation import HoldoutChunk
from fedray.run.executor import InlineExecutor
from fedray.run.failure_policy import unseen
from fedray.run.loop import Rounds
from fedray.run.models import model_sha256
from fedray.run.usage import Reading, Usage
from fedray.run.worker import Item, Job, Report
from fedray.rundir.state_rows import StateRows
from fedray.sampling import Poisson, Sampler, Uniform
from tests.helpers import Federation, Problem, class_problem, federation, relative, seeded

MARK = 50.0


@dataclass(frozen=True)
class Without(Sampler):
    """Everyone but some."""

    away: tuple[int, ...]

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        return np.setdiff1d(np.arange(len(sizes)), self.away)

    def expected(self, sizes: Ints) -> float:
        return float(len(sizes) - len(self.away))


class Poisoned(nn.Module):
    """Says NaN where an input carries the mark."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return torch.where(x[:, :1] > MARK, torch.nan, 1.0) * out


def marked(*clients: int, sizes: tuple[int, ...] = (7, 3, 12, 9, 1, 5)) -> Problem:
    """A problem in which the first example of some clients carries the mark."""
    draw = np.random.default_rng(4)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x = draw.standard_normal((len(owner), 6)).astype("f4")
    y = draw.integers(0, 3, len(owner))
    for client in clients:
        x[np.flatnonzero(owner == client)[0], 0] = 2 * MARK
    data = FederatedData.from_arrays(x, y, owner)
    return Problem(seeded(Poisoned), nn.functional.cross_entropy, data)


class Flaky:
    """Lazy data of which one client raises at some of its calls."""

    def __init__(
        self, client: int, failing: Callable[[int], bool], sizes: tuple[int, ...] = (7, 3, 12, 9, 1, 5)
    ) -> None:
        whole = class_problem(sizes)
        rows = [whole.data.rows(np.array([c])).take(np.arange(s)[None]) for c, s in enumerate(sizes)]
        self.rows: list[tuple[NDArray[Any], NDArray[Any]]] = [(x[0].numpy(), y[0].numpy()) for x, y in rows]
        self._client, self._failing, self.calls = client, failing, 0
        self.armed = False
        data = FederatedData.from_function(self, range(len(sizes)), sizes=np.array(sizes), spec=DataSpec((6,), 3))
        self.problem = replace(whole, data=data)

    def __call__(self, client: int) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.armed and client == self._client:
            self.calls += 1
            if self._failing(self.calls):
                raise RuntimeError("the disk of hospital five is gone")
        return self.rows[client]


STACKS = pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
DROP = FailuresSection(on_failure="drop")


# Failures


@STACKS
@pytest.mark.parametrize("policy", [DROP, FailuresSection(on_failure="abort")], ids=["drop", "abort"])
def test_clients_left_out_give_the_bits_of_a_run_in_which_they_failed(
    stack: int | str, policy: FailuresSection, tmp_path: Path
) -> None:
    """Whatever they failed of, and whatever the policy: nobody is asked, so nobody fails."""
    raising = Flaky(5, lambda call: True)
    run = federation(raising.problem, tmp_path / "raising", Scaffold(), stack=stack, failures=DROP)  # type: ignore[arg-type]
    raising.armed = True
    failed = run.run()
    quiet = federation(class_problem(), tmp_path / "quiet", Scaffold(), stack=stack, failures=policy)  # type: ignore[arg-type]
    quiet.plan = replace(quiet.plan, left_out=dict.fromkeys(range(1, 4), frozenset([5])))
    records = quiet.run()
    assert [r.model_sha256 for r in records] == [r.model_sha256 for r in failed]
    assert [r.clients for r in records] == [r.clients for r in failed] == [{"sampled": 6, "ok": 5, "failed": 1}] * 3
    assert [r.weight for r in records] == [r.weight for r in failed]
    assert {f["stage"] for r in records for f in r.failures} == {"left_out"}
    poisoned = federation(marked(1, 3), tmp_path / "poisoned", stack=stack, rounds=1)  # type: ignore[arg-type]
    left_out = federation(marked(1, 3), tmp_path / "left_out", stack=stack, rounds=1, failures=policy)  # type: ignore[arg-type]
    left_out.plan = replace(left_out.plan, left_out={1: frozenset([1, 3])})
    assert poisoned.run()[0].model_sha256 == left_out.run()[0].model_sha256


@STACKS
def test_an_update_that_is_not_finite_is_dropped_and_the_others_averaged(stack: int | str, tmp_path: Path) -> None:
    run = federation(marked(1, 3), tmp_path / "a", stack=stack, rounds=1)  # type: ignore[arg-type]
    (record,) = run.run()
    assert record.clients == {"sampled": 6, "ok": 4, "failed": 2}
    assert [(f["client"], f["stage"]) for f in record.failures] == [("1", "update"), ("3", "update")]
    assert "delta is not finite" in record.failures[0]["error"]
    assert record.examples == 7 + 12 + 1 + 5
    assert record.weight == 7 + 12 + 1 + 5
    assert record.usage["failures"] == {"update": 2}
    without = federation(marked(1, 3), tmp_path / "b", stack=stack, rounds=1, sampler=Without((1, 3)))  # type: ignore[arg-type]
    (other,) = without.run()
    assert relative(run.vector, without.vector) <= 1e-6
    assert record.train["loss"] == pytest.approx(other.train["loss"], rel=1e-6)
    assert record.bytes["up"] == other.bytes["up"]


def test_a_robust_aggregator_drops_it_too(tmp_path: Path) -> None:
    run = federation(marked(2), tmp_path / "a", aggregator=Median(), rounds=1)
    without = federation(marked(2), tmp_path / "b", aggregator=Median(), rounds=1, sampler=Without((2,)))
    assert run.run()[0].clients["failed"] == 1
    without.run()
    assert relative(run.vector, without.vector) <= 1e-6


@dataclass(frozen=True)
class Counting(Selected):
    """The plain mean; keeps how often it was asked, and tells it and a draw."""

    least = 3

    def initial_state(self, sent: Mapping[str, int], device: str) -> Parts:
        assert (list(sent), device) == (["delta"], "cpu")
        return {"asked": torch.zeros((), dtype=torch.int64)}

    def shares(self, rows: Rows, now: Now) -> Tensor:
        now.state["asked"] += 1
        now.metrics["asked"] = float(now.state["asked"])
        now.metrics["draw"] = now.generator().random()
        return torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)


def test_what_an_aggregator_keeps_and_tells(tmp_path: Path) -> None:
    def told(records: list[RoundRecord]) -> list[dict[str, float]]:
        return [record.metrics["Counting"] for record in records]

    run = federation(class_problem(), tmp_path / "a", aggregator=Counting(), checkpoint_every=1)
    whole = told(run.run())
    assert [one["asked"] for one in whole] == [1.0, 2.0, 3.0]
    assert len({one["draw"] for one in whole}) == 3
    assert [int(saved.tensors["aggregator.asked"]) for saved in run.saves] == [1, 2, 3], "what is saved does not go on"
    again = federation(class_problem(), tmp_path / "b", aggregator=Counting())
    again.restore(run.saves[0])
    assert told(again.run()) == whole, "the first is told once it is complete"


def test_too_few_updates_for_an_aggregator_end_the_run_as_it_was(tmp_path: Path) -> None:
    run = federation(marked(0, 1, 2, 3), tmp_path, aggregator=Counting(), failures=FailuresSection(min_share=0.1))
    before = run.vector.clone()
    with pytest.raises(RunFailed, match=r"^aggregator: Counting\(\) needs 3 updates at least, and round 1 has 2: take"):
        run.run()
    assert torch.equal(run.vector, before)
    assert (run.state.round, run.state.whole, int(run.state.kept["asked"])) == (0, True, 0)


def test_it_may_end_the_run_with_the_model_as_it_was(tmp_path: Path) -> None:
    run = federation(marked(1), tmp_path, failures=FailuresSection(on_nonfinite="abort"))
    before = run.vector.clone()
    with pytest.raises(RunFailed, match=r"client '1' failed in round 1 \(update\): delta is not finite"):
        run.run()
    assert torch.equal(run.vector, before)
    assert run.state.round == 0


def test_too_few_survivors_end_the_run(tmp_path: Path) -> None:
    run = federation(marked(0, 1, 2, 3), tmp_path)
    with pytest.raises(RunFailed, match=r"round 1: only 2 of 6 clients survived, failures\.min_share is 0\.5"):
        run.run()


def test_a_dropped_client_keeps_its_old_state(tmp_path: Path) -> None:
    flaky = Flaky(2, lambda call: True)
    run = federation(flaky.problem, tmp_path, Scaffold(), failures=DROP, rounds=3)
    run.run(1)
    before = run.state.store.rows[2]
    flaky.armed = True
    records = run.run(2)
    assert records[-1].clients["failed"] == 1
    assert run.state.store.rows[2] == before
    rows = StateRows(tmp_path, run.job.state_fields())
    assert rows.read(np.array([2]), run.state.store.rows, torch.device("cpu"))[1].tolist() == [True]
    rows.close()


def test_client_state_does_not_grow_without_bound_between_checkpoints(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Watching(InlineExecutor):
        def collect(self) -> Accumulator:
            sizes.append(sum(path.stat().st_size for path in (tmp_path / "a").iterdir()))
            return super().collect()

    run = federation(class_problem(), tmp_path / "a", Scaffold(), sampler=Uniform(clients=3), rounds=40)
    run.executor = Watching
    run.run()
    live = sum(field.nbytes for field in run.job.state_fields().values()) * 6
    assert len(run.state.store.rows) == 6
    assert max(sizes) <= 5 * live
    other = federation(class_problem(), tmp_path / "b", Scaffold(), sampler=Uniform(clients=3), rounds=40)
    other.state.store.tidy = lambda round: None  # type: ignore[method-assign]
    other.run()
    assert torch.equal(run.vector, other.vector)


@STACKS
@pytest.mark.parametrize("times", [1, 2])
def test_a_client_that_raises_once_is_tried_again_and_nothing_shows(
    times: int, stack: int | str, tmp_path: Path
) -> None:
    flaky = Flaky(2, lambda call: call <= (times if stack == 3 else 1))
    run = federation(flaky.problem, tmp_path / "a", stack=stack, rounds=1)  # type: ignore[arg-type]
    flaky.armed = True
    (record,) = run.run()
    assert record.clients == {"sampled": 6, "ok": 6, "failed": 0}
    assert flaky.calls > 1
    calm = federation(class_problem(), tmp_path / "b", stack=stack, rounds=1)  # type: ignore[arg-type]
    calm.run()
    assert torch.equal(run.vector, calm.vector)


@STACKS
def test_a_client_that_raises_again_is_dropped_with_its_traceback_in_the_log(
    stack: int | str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flaky = Flaky(2, lambda call: True)
    run = federation(flaky.problem, tmp_path / "a", stack=stack, rounds=1, failures=DROP)  # type: ignore[arg-type]
    flaky.armed = True
    with caplog.at_level(logging.WARNING):
        (record,) = run.run()
    assert record.failures == [
        {"client": "2", "stage": "train", "error": "RuntimeError: the disk of hospital five is gone"}
    ]
    assert "round 1: client '2' gave no update (train): RuntimeError: the disk of hospital five is gone" in caplog.text
    assert "Traceback (most recent call last)" in caplog.text
    assert "in __call__" in caplog.text
    without = federation(class_problem(), tmp_path / "b", stack=stack, rounds=1, sampler=Without((2,)))  # type: ignore[arg-type]
    without.run()
    assert relative(run.vector, without.vector) <= 1e-6


def test_a_client_that_fails_again_and_again_has_one_traceback_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flaky = Flaky(2, lambda call: True)
    run = federation(flaky.problem, tmp_path, rounds=4, failures=DROP)
    flaky.armed = True
    with caplog.at_level(logging.WARNING):
        run.run()
    told = [record.getMessage() for record in caplog.records]
    assert all("client '2' gave no update (train): RuntimeError: the disk of hospital five is gone" in t for t in told)
    assert ["Traceback" in text for text in told] == [True, False, False, False]
    assert ["as before" in text for text in told] == [False, True, True, True]


@STACKS
def test_it_does_not_show_why_a_client_was_given_up(stack: int | str, tmp_path: Path) -> None:
    raises, poisoned = Flaky(2, lambda call: True), Flaky(2, lambda call: False)
    x, y = poisoned.rows[2]
    vectors = []
    for name, flaky in (("raises", raises), ("poisoned", poisoned)):
        problem = replace(flaky.problem, model_fn=seeded(Poisoned))
        run = federation(problem, tmp_path / name, stack=stack, rounds=3, failures=DROP)  # type: ignore[arg-type]
        flaky.armed = True
        poisoned.rows[2] = (x + 2 * MARK, y)
        stages = [[failure["stage"] for failure in record.failures] for record in run.run()]
        assert stages == [["train" if flaky is raises else "update"]] * 3
        vectors.append(run.vector)
    assert torch.equal(*vectors)


@STACKS
def test_by_default_a_client_that_raises_ends_the_run(stack: int | str, tmp_path: Path) -> None:
    flaky = Flaky(2, lambda call: True)
    run = federation(flaky.problem, tmp_path, stack=stack)  # type: ignore[arg-type]
    flaky.armed = True
    before = run.vector.clone()
    with pytest.raises(RunFailed, match=r"client '2' failed in round 1 \(train\): RuntimeError: the disk of hospital"):
        run.run()
    assert torch.equal(run.vector, before)


def test_a_block_that_fails_only_together_is_a_failure_not_a_crash(tmp_path: Path) -> None:
    # Raises with the others, and never when it is tried alone.
    flaky = Flaky(2, lambda call: call % 2 == 1)
    run = federation(flaky.problem, tmp_path, rounds=1, failures=FailuresSection(on_failure="drop", min_share=0.1))
    flaky.armed = True
    (record,) = run.run()
    assert record.clients["failed"] == 3
    assert record.clients["ok"] == 3


def test_a_model_that_is_no_longer_finite_ends_the_run(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, FedAvg(server_lr=1e40), rounds=3)
    with pytest.raises(RunFailed, match="the global model is no longer finite"):
        run.run()
    assert run.state.round < 3


def test_an_empty_cohort_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    run = federation(class_problem(test=9), tmp_path, Scaffold(), sampler=Poisson(0.15), rounds=12)
    records = run.run()
    empty = [record for record in records if record.clients["sampled"] == 0]
    assert empty
    assert len(empty) < 12
    hashes = {record.round: record.model_sha256 for record in records}
    for record in empty:
        assert record.clients == {"sampled": 0, "ok": 0, "failed": 0}
        assert record.bytes == {"down": 0, "up": 0, "network": 0}
        assert record.train == {}
        assert record.examples == 0
        assert record.test["loss"] > 0
        if record.round > 1:
            assert record.model_sha256 == hashes[record.round - 1]


# Records


def direct(problem: Problem, run: Federation, vector: Tensor) -> dict[str, float]:
    """Loss and accuracy on the test set, by hand."""
    test = problem.data.test
    assert test is not None
    module = problem.model_fn().eval()
    run.plan.layout.load(module, vector)
    with torch.no_grad():
        output = module(test.x)
    return {
        "loss": float(problem.loss_fn(output, test.y)),
        "accuracy": float((output.argmax(dim=1) == test.y).double().mean()),
    }


def test_records_are_complete_and_in_order(tmp_path: Path) -> None:
    problem = class_problem(test=2500)
    run = federation(problem, tmp_path, rounds=4, args=LocalSection(2, 4), sampler=Uniform(4))
    vectors, records = [], []
    for rounds in range(1, 5):
        records += run.run(rounds)
        vectors.append(run.vector.clone())
    assert [record.round for record in records] == [1, 2, 3, 4]
    for record, vector in zip(records, vectors, strict=True):
        assert record.test == pytest.approx(direct(problem, run, vector), rel=1e-6)
        assert record.model_sha256 == model_sha256(vector)
        cohort = run.plan.cohort(record.round)
        assert record.clients == {"sampled": 4, "ok": 4, "failed": 0}
        assert record.examples == 2 * int(problem.data.sizes[cohort].sum())
        size = run.plan.layout.size
        assert record.bytes == {"down": 4 * size * 4, "up": 4 * size * 4, "network": 0}
        assert set(record.phases) >= {"broadcast", "train", "aggregate", "evaluate"}
        assert record.seconds >= record.phases["train"] >= 0.0
    whole = federation(problem, tmp_path, rounds=4, args=LocalSection(2, 4), sampler=Uniform(4))
    assert [(r.round, r.test, r.model_sha256, r.train) for r in whole.run()] == [
        (r.round, r.test, r.model_sha256, r.train) for r in records
    ]


def test_the_training_loss_is_the_mean_over_examples_of_all_steps(tmp_path: Path) -> None:
    problem = class_problem((4, 9))
    run = federation(problem, tmp_path, args=LocalSection(1, None), rounds=1)
    module = problem.model_fn()
    total = 0.0
    for client, size in enumerate((4, 9)):
        x, y = problem.data.rows(np.array([client])).take(np.arange(size)[None])
        total += size * float(problem.loss_fn(module(x[0]), y[0]).detach())
    assert run.run()[0].train["loss"] == pytest.approx(total / 13, rel=1e-6)


@pytest.mark.parametrize(("every", "due"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (3, [3, 5]), (9, [5]), (0, [])])
def test_evaluation_is_every_k_rounds_and_at_the_end(every: int, due: list[int], tmp_path: Path) -> None:
    problem = class_problem(test=9, holdout=0.3)
    run = federation(problem, tmp_path, rounds=5, evaluate=EvaluateSection(every, every))
    records = run.run()
    assert [record.round for record in records] == [1, 2, 3, 4, 5]
    assert [record.round for record in records if record.test] == due
    assert [record.round for record in records if record.clients_test] == due


def test_evaluation_changes_nothing_of_the_training(tmp_path: Path) -> None:
    problem = class_problem(test=9, holdout=0.3)
    runs = [federation(problem, tmp_path, evaluate=EvaluateSection(*every)) for every in ((0, 0), (1, 2))]
    assert [r.model_sha256 for r in runs[0].run()] == [r.model_sha256 for r in runs[1].run()]


@pytest.mark.parametrize("every", [(1, 2), (2, 0), (0, 2)], ids=str)
def test_the_model_before_training_is_evaluated_as_round_0(every: tuple[int, int], tmp_path: Path) -> None:
    """On all that is evaluated at all, due or not in a round, and to no other effect."""
    problem = class_problem(test=9, holdout=0.3)
    before, without = (
        federation(problem, tmp_path / name, evaluate=EvaluateSection(*every, before=name == "before"))
        for name in ("before", "without")
    )
    initial = model_sha256(before.vector)
    first, *others = before.run()
    assert [comparable(record) for record in others] == [comparable(record) for record in without.run()]
    assert (first.round, first.model_sha256, first.clients, first.train) == (0, initial, {}, {})
    still = federation(problem, tmp_path, optimizer=optim.SGD(1e-30), rounds=1, evaluate=EvaluateSection(*every))
    (same,) = still.run()
    assert same.model_sha256 == initial
    assert (first.test, first.clients_test) == (same.test, same.clients_test)
    assert (bool(first.test), bool(first.clients_test)) == (every[0] > 0, every[1] > 0)


def comparable(record: RoundRecord) -> dict[str, Any]:
    """What a record says, but for what the round took."""
    passing = ("seconds", "phases", "usage")
    return {name: value for name, value in record.to_json().items() if name not in passing}


class Unreached(InlineExecutor):
    """Nobody can evaluate on the rows of the first two clients; the others are a piece of work of their own."""

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        reports: list[Report] = []
        for item in items:
            if isinstance(item, HoldoutChunk):
                reports.append(unseen(self._worker.job, replace(item, clients=item.clients[:2]), 1, "no node"))
                item = replace(item, index=item.index + 1, clients=item.clients[2:])
            reports += super().run([item], stopping) or []
        return reports


@pytest.mark.parametrize("missing", [0, 2])
def test_client_evaluation_is_the_weighted_mean_and_the_spread_over_clients(
    missing: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Over those who can be reached, and it is said how many cannot."""
    problem = class_problem((9, 30, 14, 1, 22, 5), holdout=0.4)
    run = federation(problem, tmp_path, rounds=1, evaluate=EvaluateSection(0, 1))
    if missing:
        run.executor = Unreached
    (record,) = run.run()
    assert record.evaluated == {"clients": 5 - missing, "missing": missing, "without": 1}
    assert caplog.text.count("was not evaluated (worker): no node") == missing
    module = problem.model_fn().eval()
    run.plan.layout.load(module, run.vector)
    means, counts = [], []
    for client in range(missing, 6):
        x, y, _ = problem.data.holdout(np.array([client]))
        if len(x):
            with torch.no_grad():
                output = module(x)
            means.append([float(problem.loss_fn(output, y)), float((output.argmax(dim=1) == y).double().mean())])
            counts.append(len(x))
    assert len(counts) == 5 - missing
    for column, name in enumerate(("loss", "accuracy")):
        values = np.array(means)[:, column]
        got = record.clients_test[name]
        assert got["mean"] == pytest.approx(np.average(values, weights=counts), rel=1e-5)
        spread = [got["p10"], got["p50"], got["p90"]]
        np.testing.assert_allclose(spread, np.percentile(values, [10, 50, 90]), rtol=1e-5)
        assert [got["client_mean"], got["std"]] == pytest.approx([values.mean(), values.std()], rel=1e-5)
        assert got["worst"] == pytest.approx(values.max() if name == "loss" else values.min(), rel=1e-5)


def test_checkpoints_are_due_every_k_rounds_and_at_the_end_with_the_open_record(tmp_path: Path) -> None:
    problem = class_problem(test=9)
    run = federation(problem, tmp_path, Scaffold(), rounds=5, checkpoint_every=2)
    records = run.run()
    assert [saved.round for saved in run.saves] == [2, 4, 5]
    for saved in run.saves:
        pending = saved.state["pending"]
        assert pending["round"] == saved.round
        found = model_sha256(saved.tensors["model"])
        assert found == pending["model_sha256"] == records[saved.round - 1].model_sha256
    for saved in run.saves:
        again = federation(problem, tmp_path, Scaffold(), rounds=5)
        again.restore(saved)
        again.state.store.kept = run.state.store.kept
        # The record that was open at the checkpoint is completed first.
        rest = again.run()
        assert [(r.round, r.test, r.model_sha256) for r in rest] == [
            (r.round, r.test, r.model_sha256) for r in records[saved.round - 1 :]
        ]


@pytest.mark.parametrize("asked", [0, 1, 2, 3, 5, 8, 11])
def test_stopping_drops_the_round_in_progress_and_going_on_gives_the_same_bits(asked: int, tmp_path: Path) -> None:
    problem = class_problem(test=9)
    whole = federation(problem, tmp_path / "whole", Scaffold(), rounds=4, stack=3)
    expected = whole.run()
    run = federation(problem, tmp_path / "parts", Scaffold(), rounds=4, stack=3)
    left = [asked]

    def stopping() -> bool:
        left[0] -= 1
        return left[0] < 0

    first = run.run(stopping=stopping)
    assert run.stopped == (len(first) < 4)
    if run.state.round:
        assert model_sha256(run.vector) == expected[run.state.round - 1].model_sha256
    second = run.run()
    assert not run.stopped
    assert torch.equal(run.vector, whole.vector)
    assert [(r.round, r.test, r.model_sha256) for r in [*first, *second]] == [
        (r.round, r.test, r.model_sha256) for r in expected
    ]


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    run = federation(class_problem(test=9), tmp_path, rounds=2)
    assert len(run.run()) == 2
    before = run.vector.clone()
    assert run.run() == []
    assert torch.equal(run.vector, before)
    assert [record.round for record in run.run(3)] == [3]


class Backwards(InlineExecutor):
    """Reports in another order than the work was given, as several workers may."""

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        reports = super().run(items, stopping)
        return None if reports is None else reports[::-1]


def test_the_order_of_reports_does_not_show(tmp_path: Path) -> None:
    problem = class_problem(tuple(range(1, 30)), test=3000, holdout=0.3)
    options: dict[str, Any] = {"evaluate": EvaluateSection(1, 1), "rounds": 6, "stack": 2}
    runs = [federation(problem, tmp_path / name, Scaffold(), **options) for name in ("a", "b")]
    runs[1].executor = Backwards
    one, other = (run.run() for run in runs)
    for a, b in zip(one, other, strict=True):
        assert a.model_sha256 == b.model_sha256
        assert a.train == b.train
        assert a.test == b.test
        assert a.clients_test == b.clients_test


def test_large_models_are_hashed_where_they_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = federation(class_problem(), tmp_path / "a", rounds=5, checkpoint_every=2).run()
    monkeypatch.setattr("fedray.run.loop.HASHED_EVERY_ROUND", 10)
    large = federation(class_problem(), tmp_path / "b", rounds=5, checkpoint_every=2).run()
    assert [record.model_sha256 for record in large] == [
        record.model_sha256 if record.round in (2, 4, 5) else None for record in small
    ]


def test_a_stop_while_workers_start_begins_no_round(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path)
    before, heard = run.vector.clone(), [False]

    class Starting(InlineExecutor):
        def wait(self, stopping: Callable[[], bool] = lambda: False) -> None:
            assert not stopping()
            heard[0] = True
            assert stopping()

    run.executor = Starting
    assert run.run(stopping=lambda: heard[0]) == []
    assert run.stopped
    assert (run.state.round, torch.equal(run.vector, before)) == (0, True)
    run.executor, heard[0] = InlineExecutor, False
    assert [record.round for record in run.run()] == [1, 2, 3]


# Somebody decides between rounds


class Noted(InlineExecutor):
    """Notes the kinds of each round's work."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.events: list[Any] = []

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        self.events.append({type(item).__name__ for item in items})
        return super().run(items, stopping)


def test_an_awaited_record_is_complete_before_the_next_round_begins(tmp_path: Path) -> None:
    """With the same bits and metrics as one that is evaluated beside that round."""
    problem, evaluate = class_problem(test=9, holdout=0.3), EvaluateSection(2, 3)
    beside = federation(problem, tmp_path / "a", Scaffold(), rounds=5, evaluate=evaluate).run()
    one = federation(problem, tmp_path / "b", Scaffold(), rounds=5, evaluate=evaluate, checkpoint_every=1)
    executor = Noted(one.job)
    records = []
    for record in Rounds(one.plan, one.state, executor, lambda state: None, awaited=True):
        executor.events.append(record.round)
        records.append(record)
    executor.close()
    train, test, clients = {"Block"}, {"TestChunk"}, {"HoldoutChunk"}
    expected = [train, 1, train, test, 2, train, clients, 3, train, test, 4, train, test | clients, 5]
    assert executor.events == expected
    for name in ("round", "train", "test", "clients_test", "evaluated", "model_sha256"):
        assert [getattr(r, name) for r in records] == [getattr(r, name) for r in beside], name


def test_what_an_awaited_evaluation_takes_is_counted(tmp_path: Path) -> None:
    class Costly(InlineExecutor):
        def usage(self) -> Usage:
            return Usage((Reading("w", cpu_seconds=10.0),), network=5)

    one = federation(class_problem(test=9), tmp_path, rounds=3, evaluate=EvaluateSection(2))
    executor = Costly(one.job)
    records = list(Rounds(one.plan, one.state, executor, lambda state: None, awaited=True))
    executor.close()
    assert [record.usage["cpu_seconds"] for record in records] == [10.0, 20.0, 20.0]
    assert [record.bytes["network"] for record in records] == [5, 10, 10]
    assert (one.state.totals.cpu_seconds, one.state.totals.network) == (50.0, 25)
    assert one.state.totals.wall_seconds == pytest.approx(sum(record.seconds for record in records))


def test_a_round_whose_rows_are_lost_is_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where a node is gone after its work was done, before an aggregator has looked at it, or while it does."""
    published: list[int] = []

    class Gone:
        """A row that is gone when it is looked at."""

        clients, weight = np.zeros(1, dtype=np.int64), np.ones(1)

        def read(self, part: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
            raise RowsLost("node n2 is lost")

        def close(self) -> None:
            """Nothing is left of it."""

    class Forgetful(InlineExecutor):
        def publish(self, down: Broadcast) -> None:
            published.append(down.round)
            super().publish(down)

        def collect(self) -> Any:
            if published == [1, 2]:
                raise RowsLost("node n2 is lost")
            return StoredRows([Gone()], {"delta": 83}) if published == [1, 2, 2, 3] else super().collect()

    def run(name: str) -> Federation:
        return federation(class_problem(test=20), tmp_path / name, Scaffold(), aggregator=Median(), rounds=4)

    quiet, one = run("a"), run("b")
    expected = quiet.run()
    one.executor = Forgetful
    records = one.run()
    assert published[:6] == [1, 2, 2, 3, 3, 4]
    assert [r.model_sha256 for r in records] == [r.model_sha256 for r in expected]
    assert [r.test for r in records] == [r.test for r in expected]
    assert [r.clients for r in records] == [r.clients for r in expected]
    assert caplog.text.count("node n2 is lost; the round is done again") == 2

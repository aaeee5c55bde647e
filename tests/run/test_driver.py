"""A run and its folder: one driver, checkpoints by time, a budget, and a summary that is true."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedray.algorithms import FedAdam, FedAvg, FedAvgM, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import BudgetSection, CheckpointSection, EvaluateSection
from fedray.core import inject
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.messages import Aggregate, Broadcast
from fedray.core.record import RoundRecord
from fedray.data import DataSpec, FederatedData
from fedray.run.budget import Totals
from fedray.run.driver import Run
from fedray.run.executor import InlineExecutor
from fedray.run.loop import Rounds
from fedray.run.usage import Reading, Usage
from fedray.run.worker import Item, Job, Report
from fedray.rundir import durable
from fedray.rundir.checkpoint import rounds_in
from fedray.rundir.folder import RunFolder
from fedray.rundir.lock import Owner
from fedray.server import Server
from fedray.tracking.jsonl import JsonLines, read_records
from fedray.transforms import TopK, Transform
from tests.helpers import Problem, class_problem, federation

ROUNDS = 6


class Costly(InlineExecutor):
    """Says that every round takes an hour of processor time and two GPUs, on two nodes."""

    def usage(self) -> Usage:
        readings = (Reading("n1/0", cpu_seconds=1800.0, rss=5), Reading("n2/0", cpu_seconds=1800.0, rss=9))
        return Usage(readings, nodes=2, gpus=2.0, retries=1, network=1000)


def run_in(
    folder: Path,
    algorithm: Algorithm | None = None,
    transforms: Sequence[Transform] = (),
    *,
    resume: bool = False,
    rounds: int = ROUNDS,
    every: int = 2,
    problem: Problem | None = None,
    before: bool = False,
    **budget: Any,
) -> Run:
    """A small run with a test set, of SCAFFOLD unless told otherwise; claimed if it is fresh."""
    made = federation(
        problem or class_problem(test=9),
        folder / "state",
        algorithm or Scaffold(),
        transforms=transforms,
        rounds=rounds,
        checkpoint_every=every,
        evaluate=EvaluateSection(before=before),
    )
    plan = replace(made.plan, budget=BudgetSection(**budget), checkpoint=CheckpointSection(every, keep=9))
    run_folder, config = RunFolder(folder), f"rounds: {rounds}\n"
    if not resume:
        run_folder.claim(config)
    return Run(plan, run_folder, "small", config, resume=resume)


def go(run: Run, executor: Callable[[Job], InlineExecutor] = Costly) -> list[RoundRecord]:
    return list(run.records(executor))


def summary(folder: Path) -> dict[str, Any]:
    return RunFolder(folder).summary()


def hashes(folder: Path) -> list[str]:
    records = read_records(folder / "metrics.jsonl")
    assert [record["round"] for record in records] == list(range(1, len(records) + 1))
    return [record["model_sha256"] for record in records]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from start to end."""
    folder = tmp_path_factory.mktemp("quiet") / "run"
    go(run_in(folder))
    return folder


def test_in_one_process_client_state_is_in_files_once_a_checkpoint_needs_it(tmp_path: Path, quiet: Path) -> None:
    folder = tmp_path / "run"
    records = run_in(folder, every=4).records(InlineExecutor)
    seen = [len(list((folder / "state").glob("*.rows"))) for _ in itertools.islice(records, 3)]
    assert seen == [0, 0, 0]
    list(records)
    assert list((folder / "state").glob("*.rows"))
    assert hashes(folder) == hashes(quiet)


# One driver


def test_a_second_driver_is_refused_and_the_first_goes_on(tmp_path: Path, quiet: Path) -> None:
    folder = tmp_path / "run"
    first = run_in(folder).records(InlineExecutor)
    next(first)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="in use by another driver"):
        go(run_in(folder, resume=True, rounds=9))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    for _ in first:
        pass
    assert hashes(folder) == hashes(quiet)
    assert len(go(run_in(folder, resume=True, rounds=ROUNDS + 1))) == 2


def test_of_two_that_claim_a_folder_at_once_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, write = RunFolder(tmp_path / "run"), durable.write

    def and_a_second_one(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(durable, "write", write)
        folder.claim("faster: true")
        write(*args, **kwargs)

    monkeypatch.setattr(durable, "write", and_a_second_one)
    with pytest.raises(ConfigError, match=f"run.dir: {folder.path} already holds a run; go on with"):
        folder.claim("faster: false")
    assert folder.config() == "faster: true"
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "config.yaml"]


def test_the_faster_one_tidies_up_what_the_slower_one_was_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = RunFolder(tmp_path / "run"), durable.write

    def and_a_second_one(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(durable, "write", write)
        write(*args, **kwargs)
        folder.claim("faster: true")
        durable.sweep(folder.path)

    monkeypatch.setattr(durable, "write", and_a_second_one)
    with pytest.raises(ConfigError, match="already holds a run"):
        folder.claim("faster: false")
    assert folder.config() == "faster: true"


def test_a_claim_is_given_up_unless_another_process_drives_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.claim("")
    lock = folder.path / "driver.lock"
    lock.write_text(json.dumps(asdict(replace(Owner.me(), host="elsewhere", token="another"))))
    before = sorted(folder.path.iterdir())
    folder.unclaim()
    assert sorted(folder.path.iterdir()) == before == sorted([folder.checkpoints, folder.path / "config.yaml", lock])
    lock.unlink()
    folder.unclaim()
    assert not folder.path.exists()


def test_a_resumed_run_writes_its_config_and_tidies_up(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    go(run_in(folder, rounds=2))
    for name in (".tmp-model.safetensors-4711", ".tmp-metrics.jsonl", "checkpoints/.tmp-round-00000002-stale/x"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("half")
    go(run_in(folder, resume=True, rounds=3))
    assert (folder / "config.yaml").read_text() == "rounds: 3\n"
    assert list(folder.rglob(".*")) == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("hurt", [flip, lambda path: os.truncate(path, 99), Path.unlink], ids=["flip", "cut", "gone"])
def test_damaged_client_state_is_noticed_and_the_checkpoint_before_is_used(
    hurt: Callable[[Path], None], tmp_path: Path, quiet: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    go(run_in(folder, rounds=4))
    (newest,) = folder.glob("state/00000004-*")
    hurt(newest)
    go(run_in(folder, resume=True))
    assert f"checkpoint unusable, trying the one before: round-00000004: client state {newest.name}" in caplog.text
    assert (summary(folder)["resumed_from"], summary(folder)["status"]) == (2, "finished")
    assert hashes(folder) == hashes(quiet)


@pytest.mark.parametrize("ends", ["stopped", "failed"])
def test_the_last_finished_round_is_told_at_once(ends: str, tmp_path: Path, quiet: Path) -> None:
    """Round 3 is finished, and its evaluation would be done beside round 4, which is not."""

    class Ends(InlineExecutor):
        round = 0

        def publish(self, down: Broadcast) -> None:
            self.round = down.round
            super().publish(down)

        def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
            if self.round < 4:
                return super().run(items, stopping)
            if ends == "failed":
                raise RunFailed("the machine is gone")
            return None

    folder = tmp_path / "run"
    records = run_in(folder).records(Ends)
    seen = [record.round for record in itertools.islice(records, 2)]
    if ends == "stopped":
        seen += [record.round for record in records]
        assert seen == [1, 2, 3]
    else:
        with pytest.raises(RunFailed, match="the machine is gone"):
            next(records)
    told = read_records(folder / "metrics.jsonl")
    assert [record["round"] for record in told] == [1, 2, 3]
    assert told[1]["test"]
    assert "test" not in told[2]
    assert summary(folder)["final"] == told[2]
    assert len(go(run_in(folder, resume=True))) == 4, "with its evaluation"
    assert hashes(folder) == hashes(quiet)
    assert [record["test"] for record in read_records(folder / "metrics.jsonl")] == [
        record["test"] for record in read_records(quiet / "metrics.jsonl")
    ]


def test_a_claim_is_given_up_with_all_that_a_run_without_a_round_has_left(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    go_on = run_in(folder.path).records(InlineExecutor, stopping=lambda: True)
    assert list(go_on) == []
    assert summary(folder.path)["status"] == "stopped"
    assert rounds_in(folder.checkpoints) == [0]
    folder.unclaim()
    assert not folder.path.exists()


def test_a_claim_is_not_given_up_once_a_round_is_done(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    go(run_in(folder.path, rounds=1))
    before = sorted(folder.path.rglob("*"))
    folder.unclaim()
    assert sorted(folder.path.rglob("*")) == before


# Another algorithm


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            (Scaffold(),),
            (FedAvg(), [TopK(0.5)]),
            r"kept control\[83\] for the clients, the config wants transforms\[0\].residual\[83\]",
        ),
        ((FedAvg(),), (FedAdam(),), r"kept nothing for the server, the config wants m, v"),
        ((FedAvgM(),), (FedAdam(variant="torch"),), r"kept momentum_buffer .* wants exp_avg, exp_avg_sq, step"),
        ((FedAvg(),), (FedAvg(), [TopK(0.5)]), r"kept nothing for the clients, the config wants .*\.residual\[83\]"),
        ((Scaffold(),), (Scaffold(), [TopK(0.5)]), r"kept control\[83\] .* wants control\[83\], .*\.residual\[83\]"),
    ],
)
def test_what_another_algorithm_kept_is_not_gone_on_with(
    before: tuple[Any, ...], after: tuple[Any, ...], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    go(run_in(folder, *before, rounds=2))
    with pytest.raises(ConfigError, match=f"the checkpoint has {words}(?s:.*)or train anew in another run.dir"):
        go(run_in(folder, *after, resume=True, rounds=3))
    assert (folder / "config.yaml").read_text() == "rounds: 2\n", "the run can still go on"
    assert len(go(run_in(folder, *before, resume=True, rounds=3))) == 2


def test_what_clients_kept_is_not_given_to_others(tmp_path: Path) -> None:
    """State belongs to a place in the list of clients; without state other clients may go on."""

    def federated(*ids: str) -> Problem:
        problem = class_problem((6, 4, 5))
        rows = [problem.data.rows(np.array([c])).take(np.arange(size)[None]) for c, size in enumerate((6, 4, 5))]
        x, y = torch.cat([x[0] for x, _ in rows]), torch.cat([y[0] for _, y in rows])
        return replace(problem, data=FederatedData.from_arrays(x, y, np.repeat(ids, (6, 4, 5))))

    for algorithm, refused in ((Scaffold(), True), (FedAvg(), False)):
        folder = tmp_path / algorithm.name
        go(run_in(folder, algorithm, rounds=2, problem=federated("a", "b", "c")))
        later = run_in(folder, algorithm, resume=True, rounds=3, problem=federated("a", "b", "d"))
        if refused:
            with pytest.raises(ConfigError, match="holds the state of other clients than those of the config, or in"):
                go(later)
            later = run_in(folder, algorithm, resume=True, rounds=3, problem=federated("a", "b", "c"))
        go(later)


# Checkpoints by time


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_checkpoints_by_time_are_counted_from_the_last_one(tmp_path: Path) -> None:
    clock = Clock()

    class Slow(InlineExecutor):
        def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
            clock.now += 10.0
            return super().run(items, stopping)

    def saved(args: CheckpointSection) -> list[int]:
        made = federation(class_problem(), tmp_path, rounds=10)
        rounds: list[int] = []
        executor = Slow(made.job)
        plan = replace(made.plan, checkpoint=args)
        loop = Rounds(plan, made.state, executor, lambda state: rounds.append(state.round), clock=clock)
        assert len(list(loop)) == 10
        executor.close()
        return rounds

    assert saved(CheckpointSection(0, 25.0)) == [3, 6, 9, 10]
    assert saved(CheckpointSection(0, 10.0)) == list(range(1, 11))
    assert saved(CheckpointSection(4, 30.0)) == [3, 4, 7, 8, 10]
    assert saved(CheckpointSection(0, 0.0)) == [10]


# Callbacks


def test_a_run_that_goes_on_without_its_callbacks_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    go(replace(run_in(folder, rounds=2), callbacks=("my.check", "my.show")))
    assert "callbacks" not in caplog.text
    run_in(folder, resume=True).warn()
    assert "the callbacks of the Python that started this run (my.check, my.show) are not there" in caplog.text
    caplog.clear()
    go(replace(run_in(folder, resume=True, rounds=3), callbacks=("my.show",)))
    assert "(my.check) are not there: it goes on without them" in (folder / "log.txt").read_text()


# Budgets


def test_a_budget_ends_the_run_and_more_of_it_goes_on(tmp_path: Path, quiet: Path) -> None:
    folder = tmp_path / "run"
    records = go(run_in(folder, cpu_hours=2.5))
    assert [record.round for record in records] == [1, 2, 3]
    said = summary(folder)
    assert (said["status"], said["rounds"]) == ("budget", 3)
    assert said["budget"] == "budget.cpu_hours is used up: 3 of 2.5"
    assert said["budget"] in (folder / "log.txt").read_text()
    assert rounds_in(folder / "checkpoints") == [3, 2]
    assert (folder / "model.safetensors").exists()
    assert said["final"]["test"].keys() == {"loss", "accuracy"}
    assert go(run_in(folder, resume=True, cpu_hours=2.5)) == []
    assert summary(folder)["status"] == "budget"
    go(run_in(folder, resume=True, cpu_hours=5))
    assert (summary(folder)["status"], summary(folder)["rounds"]) == ("budget", 5)
    go(run_in(folder, resume=True))
    assert summary(folder)["status"] == "finished"
    assert "budget" not in summary(folder)
    assert hashes(folder) == hashes(quiet)
    model, expected = load_file(folder / "model.safetensors"), load_file(quiet / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in model.items()} == {
        name: tensor.tolist() for name, tensor in expected.items()
    }


def test_the_model_a_budget_ends_with_is_evaluated(tmp_path: Path) -> None:
    made = run_in(tmp_path / "run", cpu_hours=2.5)
    plan = replace(made.plan, evaluate=replace(made.plan.evaluate, every=100))
    records = go(replace(made, plan=plan))
    assert [record.round for record in records if record.test] == [3]


def test_a_budget_that_the_last_round_reaches_is_a_finished_run(tmp_path: Path) -> None:
    go(run_in(tmp_path / "run", cpu_hours=ROUNDS))
    assert summary(tmp_path / "run")["status"] == "finished"
    assert "budget" not in summary(tmp_path / "run")


def stopped_after(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("asked", [0, 1, 9, 16])
def test_totals_are_those_of_all_rounds_and_resumes(asked: int, tmp_path: Path, quiet: Path) -> None:
    folder = tmp_path / "run"
    list(run_in(folder, every=4).records(Costly, stopped_after(asked)))
    assert summary(folder)["status"] == "stopped"
    go(run_in(folder, resume=True))
    totals = Totals.from_json(summary(folder)["totals"])
    expected = Totals()
    for record in read_records(folder / "metrics.jsonl"):
        expected.add(RoundRecord.from_json(record))
    assert totals.wall_seconds == pytest.approx(expected.wall_seconds)
    assert totals.gpu_seconds == pytest.approx(expected.gpu_seconds, abs=1e-4)
    assert totals.gpu_seconds == pytest.approx(2 * totals.wall_seconds, abs=1e-4)
    assert (totals.cpu_seconds, totals.network, totals.retries, totals.rss) == (3600 * ROUNDS, 6000, 6, 9)
    assert summary(folder)["examples"] == totals.examples == expected.examples > 0
    assert summary(folder)["seconds"] == pytest.approx(totals.seconds, abs=1e-3)
    assert totals.seconds >= totals.wall_seconds
    assert hashes(folder) == hashes(quiet)


def test_a_round_says_what_it_took(quiet: Path) -> None:
    for line in (quiet / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["usage"]["nodes"] == 2
        assert record["usage"]["worker"] == ["n1/0", "n2/0"]
        assert record["usage"]["idle"] == pytest.approx([record["phases"]["train"]] * 2, abs=1e-5)
        assert record["bytes"]["network"] == 1000
        assert record["weight"] == 6.0  # Scaffold weighs all alike


def test_inline_reads_its_own_process(tmp_path: Path) -> None:
    for record in go(run_in(tmp_path / "run"), InlineExecutor):
        usage = record.usage
        assert (usage["nodes"], usage["worker"], usage["gpu_seconds"]) == (1, ["inline/0"], 0.0)
        assert usage["cpu_seconds"] > 0
        assert 0 <= usage["idle"][0] <= record.phases["train"]
        assert usage["rss"][0] > 1 << 20


# The start


def test_lazy_data_stays_lazy(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    assert run.info().label_counts is not None
    called: list[int] = []

    def load(client: int) -> tuple[Any, Any]:
        called.append(client)
        return np.zeros((2, 6), dtype="f4"), np.array([0, client])

    lazy = FederatedData.from_function(load, range(3), sizes=[2, 2, 2], spec=DataSpec((6,), 3))
    run = replace(run, plan=replace(run.plan, task=replace(run.plan.task, data=lazy)))
    assert run.info().label_counts is None
    assert called == []
    for _ in range(2):
        assert lazy.label_counts().tolist() == [[2, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert called == [0, 1, 2]
    told = run.info().label_counts
    assert told is not None
    assert np.shares_memory(told, lazy.label_counts()), "counted once"


# Ends


@pytest.mark.parametrize("resume", [False, True])
def test_a_stop_before_the_first_round_loses_nothing(resume: bool, tmp_path: Path, quiet: Path) -> None:
    folder = tmp_path / "run"
    run = run_in(folder)
    assert list(replace(run, resume=resume).records(Costly, lambda: True)) == []
    assert (summary(folder)["status"], summary(folder)["rounds"]) == ("stopped", 0)
    assert rounds_in(folder / "checkpoints") == [0]
    go(run_in(folder, resume=True))
    assert hashes(folder) == hashes(quiet)


def test_a_stop_before_the_model_before_training_is_evaluated_leaves_nothing(tmp_path: Path, quiet: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    asked = iter([False])
    assert list(run_in(folder.path, before=True).records(Costly, lambda: next(asked, True))) == []
    assert (folder.path / "metrics.jsonl").read_text() == ""
    go(run_in(folder.path, resume=True, before=True))
    records = read_records(folder.path / "metrics.jsonl")
    assert [record["round"] for record in records] == list(range(ROUNDS + 1))
    assert records[0]["test"]
    assert [record["model_sha256"] for record in records[1:]] == hashes(quiet)


@pytest.mark.parametrize("point", ["driver.round", "driver.fold", "driver.aggregate"])
def test_a_first_round_that_fails_is_done_again_after_the_model_before_training(
    point: str, tmp_path: Path, quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plan = tmp_path / "run", tmp_path / "plan.json"
    plan.write_text(json.dumps([{"point": point, "round": 1, "action": "raise"}]))
    monkeypatch.setenv(inject.PLAN, str(plan))
    with pytest.raises(RunFailed, match="fault injected"):
        go(run_in(folder, before=True))
    told = [record["round"] for record in read_records(folder / "metrics.jsonl")]
    assert told == ([] if point == "driver.round" else [0])
    assert [record.round for record in go(run_in(folder, resume=True, before=True))] == list(range(ROUNDS + 1))
    records = read_records(folder / "metrics.jsonl")
    assert [record["round"] for record in records] == list(range(ROUNDS + 1))
    assert [record["model_sha256"] for record in records[1:]] == hashes(quiet)


def test_it_is_too_late_for_the_model_before_training_once_a_round_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, config = tmp_path / "run", "evaluate:\n  before: {}\n"
    go(replace(run_in(folder, rounds=2), config=config.format("false")))
    late = replace(run_in(folder, rounds=3, resume=True, before=True), config=config.format("true"))
    assert [record.round for record in go(late)] == [2, 3]
    assert "evaluate.before: the model before training is not evaluated any more" in caplog.text
    caplog.clear()
    go(replace(run_in(folder, rounds=4, resume=True, before=True), config=config.format("true")))
    assert "evaluate.before" not in caplog.text


def test_it_is_finished_only_when_the_model_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"

    def full(*_: object) -> None:
        assert not (folder / "summary.json").exists()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fedray.run.driver.write_model", full)
        with pytest.raises(RunFailed, match="No space left on device"):
            go(run_in(folder))
    assert (summary(folder)["status"], summary(folder)["rounds"]) == ("failed", ROUNDS)
    go(run_in(folder, resume=True))
    assert summary(folder)["status"] == "finished"


def test_a_step_that_raises_half_way_is_in_no_checkpoint(
    tmp_path: Path, quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, steps, whole = tmp_path / "run", itertools.count(1), Scaffold.step

    def half(self: Scaffold, s: Server, total: Aggregate) -> None:
        if next(steps) == 4:
            s.move(total["delta"])
            raise MemoryError("by hand")
        whole(self, s, total)

    with monkeypatch.context() as patch:
        patch.setattr(Scaffold, "step", half)
        with pytest.raises(RunFailed, match="round 4: MemoryError: by hand"):
            go(run_in(folder))
    assert rounds_in(folder / "checkpoints") == [2]
    go(run_in(folder, resume=True))
    assert hashes(folder) == hashes(quiet)


def test_a_record_that_could_not_be_told_is_told_after_resuming(
    tmp_path: Path, quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tell = tmp_path / "run", JsonLines.round

    def full(self: JsonLines, record: RoundRecord) -> None:
        if record.round == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        tell(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "round", full)
        with pytest.raises(RunFailed, match="No space left"):
            go(run_in(folder, every=0))
    assert rounds_in(folder / "checkpoints") == [3]
    go(run_in(folder, resume=True))
    assert hashes(folder) == hashes(quiet)
    tests = [[record["test"] for record in read_records(path / "metrics.jsonl")] for path in (folder, quiet)]
    assert tests[0] == tests[1]


def test_a_reader_that_leaves_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    records: Iterator[RoundRecord] = run_in(folder, every=0).records(Costly)
    next(records)
    records.close()  # type: ignore[attr-defined]
    assert summary(folder)["status"] == "failed"
    assert rounds_in(folder / "checkpoints") == [1]
    assert not (folder / "driver.lock").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fedray.run.examiner.take_from", "round 1: the evaluation on the test set failed: IndexError: by hand"),
        (
            "fedray.rundir.client_state.StateRows.write",
            r"round 1: the block of clients '2', .* failed: IndexError: by hand",
        ),
        ("fedray.aggregators.Mean.finish", "round 1: IndexError: by hand"),
    ],
)
def test_what_raises_outside_of_training_is_told_with_its_round_and_logged(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise IndexError("by hand")

    monkeypatch.setattr(name, broken)
    with pytest.raises(RunFailed, match=words):
        go(run_in(tmp_path / "run"), InlineExecutor)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "in broken" in log
    assert re.search(words, log)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    go(run_in(folder, rounds=1))

    def refused(path: Path, *_: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("fedray.rundir.lock._create", refused)
        with pytest.raises(RunFailed, match=f"Read-only file system: {folder}/driver.lock; mend it, then"):
            go(run_in(folder, resume=True))
    (folder / "log.txt").unlink()
    (folder / "log.txt").mkdir()
    with pytest.raises(ConfigError, match=f"run.dir: {folder} cannot be written: Is a directory"):
        go(run_in(folder, resume=True))

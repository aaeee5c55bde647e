"""Early stopping, and the best model: the same decisions however a run came to them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

import fedray
from fedray import optim
from fedray.aggregators import Mean
from fedray.algorithms import FedExP, Scaffold
from fedray.algorithms.composition import compose
from fedray.config.sections import CheckpointSection, EvaluateSection, LocalSection, StopSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.monitor import Monitor
from fedray.core.record import RoundRecord
from fedray.metrics import Recall
from fedray.metrics.measures import measured
from fedray.run.driver import Run
from fedray.run.executor import InlineExecutor
from fedray.run.models import model_sha256
from fedray.run.watch import STOP, Watch, check_named, check_watched, judge, monitors, patience_used_up
from fedray.rundir.checkpoint import newest_state, rounds_in
from fedray.rundir.client_table import read_clients
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import LOCK
from fedray.tasks.inferred import task_of
from fedray.tracking.jsonl import JsonLines, read_records
from fedray.transforms import Clip
from tests.helpers import class_problem, federation, local_task

# The decision, against another's


def decided(values: list[float], stop: StopSection) -> int | None:
    """The number of values after which the run ends."""
    watches: dict[str, Watch] = {}
    for number, value in enumerate(values, 1):
        judge(stop, CheckpointSection(), watches, RoundRecord(number, test={"score": value}))
        if patience_used_up(stop, watches):
            return number
    return None


def torchs(values: list[float], patience: int, min_delta: float, mode: Literal["min", "max"]) -> int | None:
    """The same by torch's scheduler, which lowers a learning rate instead."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, factor=0.5, patience=patience - 1, threshold=min_delta, threshold_mode="abs"
    )
    for number, value in enumerate(values, 1):
        plateau.step(value)
        if optimizer.param_groups[0]["lr"] < 1.0:
            return number
    return None


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, math.nan]), max_size=15),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.07, 0.1]),
    st.sampled_from(["min", "max"]),
)
def test_patience_is_used_up_when_torch_would_lower_the_learning_rate(
    values: list[float], patience: int, min_delta: float, mode: Literal["min", "max"]
) -> None:
    stop = StopSection("test.score", patience, min_delta, mode)
    assert decided(values, stop) == torchs(values, patience, min_delta, mode)


def test_rounds_without_the_metric_and_rounds_that_are_told_again_do_not_count() -> None:
    stop = StopSection("test.loss", patience=2)
    watches: dict[str, Watch] = {}
    for number in (1, 2, 3, 4, 4, 4, 6, 6):
        record = RoundRecord(number, train={"loss": 1.0}, test={"loss": 1.0} if number in (2, 4, 6) else {})
        judge(stop, CheckpointSection(), watches, record)
        assert (patience_used_up(stop, watches) is not None) == (number == 6)
    assert (
        patience_used_up(stop, watches)
        == "stop.patience is used up: 2 rounds with no test.loss better than 1, of round 2"
    )
    assert patience_used_up(StopSection(), watches) is None
    assert patience_used_up(replace(stop, patience=3), watches) is None


def test_a_metric_that_is_never_a_number_uses_up_patience_too() -> None:
    assert decided([math.nan] * 5, StopSection("test.score", patience=3)) == 3
    watches = {STOP: Watch(waited=3, seen=3)}
    words = patience_used_up(StopSection("test.score", patience=3), watches)
    assert words == "stop.patience is used up: 3 rounds with no test.score that is a number"


def test_what_was_watched_comes_back_from_json_and_another_metric_begins_anew() -> None:
    watch, loss = Watch(0.25, 3, 2, 5), Monitor("test.loss")
    assert Watch.from_json(watch.to_json(loss), loss) == watch
    assert Watch.from_json(watch.to_json(loss), Monitor("test.loss", "min")) == watch
    for other in (Monitor("train.loss"), Monitor("test.loss", "max")):
        assert Watch.from_json(watch.to_json(loss), other) == Watch()
    assert Watch.from_json(None, loss) == Watch()


@pytest.mark.parametrize(
    ("metric", "evaluate", "test", "message"),
    [
        ("test.loss", EvaluateSection(), 0, "no record will have it, as there is no test set"),
        ("test.loss", EvaluateSection(0), 9, "no record will have it, as evaluate.every is 0"),
        ("clients_test.loss", EvaluateSection(), 9, "no record will have it, as evaluate.clients_every is 0"),
    ],
)
def test_a_metric_that_no_record_will_have_is_refused_before_the_run(
    metric: str, evaluate: EvaluateSection, test: int, message: str
) -> None:
    data = class_problem(test=test).data
    for key, watched in (
        ("stop.metric", monitors(StopSection(metric), CheckpointSection())),
        ("checkpoint.best", monitors(StopSection(), CheckpointSection(best=metric))),
    ):
        with pytest.raises(ConfigError, match=f"^{key}={metric}: {message}"):
            check_watched(watched, evaluate, data)
    check_watched(monitors(StopSection("train.loss"), CheckpointSection()), EvaluateSection(0), data)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("test.acuracy", r"no record will have it .did you mean 'accuracy'.*; there is test.loss, test.accuracy$"),
        ("test.accuracy.p10", "no record will have it; there is test.accuracy$"),
        ("clients_test.f1", "no record will have it; there is clients_test.loss, clients_test.accuracy$"),
        ("clients_test.loss.p20", r"no record will have it; there is clients_test.loss.{mean,client_mean,std,p10,.*}$"),
        ("clients_personal.loss.p10.p10", r"no record will have it; there is clients_personal.loss.{mean,"),
        ("train.accuracy", "no record will have it; there is train.loss, train.lr$"),
        (
            "metrics.fedexq.step",
            "no record will have it .did you mean 'fedexp'.*; parts that may tell metrics are mean",
        ),
        ("metrics.fedexp", r"no record will have it; name what fedexp tells, as in metrics.fedexp.NAME$"),
    ],
)
def test_a_wrong_name_within_a_section_is_told_before_the_run(metric: str, words: str) -> None:
    measures = local_task(class_problem()).measures
    parts = compose(FedExP(), [Clip(1.0), Clip(2.0)], Mean(), LocalSection()).tellers
    assert parts == ("mean", "clip", "clip_2", "fedexp", "sgd")
    with pytest.raises(ConfigError, match=f"^stop.metric={metric}: {words}"):
        check_named({"stop.metric": Monitor(metric)}, ("loss", "accuracy"), measures, parts)


@pytest.mark.parametrize(
    "metric", ["test.loss", "clients_test.loss", "clients_test.loss.worst", "train.lr", "metrics.clip_2.share"]
)
def test_a_name_that_a_record_may_have_is_taken(metric: str) -> None:
    measures = local_task(class_problem()).measures
    check_named({"stop.metric": Monitor(metric)}, ("loss", "accuracy"), measures, ["clip_2"])


def test_names_are_not_doubted_where_nothing_was_tried_or_sums_may_tell_more() -> None:
    check_named({"stop.metric": Monitor("test.anything")}, None, local_task(class_problem()).measures, [])
    many = measured(cross_entropy, task_of(class_problem().data.spec), [Recall()])
    check_named({"stop.metric": Monitor("test.recall_2")}, ("loss", "recall"), many, [])


def test_a_config_is_refused_for_a_wrong_name_before_it_starts(tmp_path: Path) -> None:
    args = fedray.TrainArgs(stop_metric="test.acc", evaluate_clients_every=1)
    with pytest.raises(
        ConfigError, match=r"^stop.metric=test.acc: no record will have it .*there is test.loss, test.acc"
    ):
        fedray.train(fedray.FederatedModel(PROBLEM.model_fn), PROBLEM.data, args, cluster="inline", run_dir=tmp_path)
    assert not list(tmp_path.iterdir())


# Runs

PROBLEM = class_problem(test=15, holdout=0.3)
ROUNDS = 12
STOPPING = StopSection("test.loss", patience=3)
BEST = CheckpointSection(every=2, keep=1, best="test.accuracy")


def run_in(
    folder: Path,
    stop: StopSection = STOPPING,
    kept: CheckpointSection = BEST,
    evaluate: EvaluateSection | None = None,
    *,
    resume: bool = False,
) -> Run:
    """A run of SCAFFOLD at a learning rate at which the loss goes up and down; claimed if it is fresh."""
    algorithm, optimizer = Scaffold(), optim.SGD(1.0)
    shown = evaluate or EvaluateSection(1, 2)
    made = federation(PROBLEM, folder / "state", algorithm, rounds=ROUNDS, optimizer=optimizer, evaluate=shown)
    run_folder, config = RunFolder(folder), f"rounds: {ROUNDS}\n"
    if not resume:
        run_folder.claim(config)
    plan = replace(made.plan, stop=stop, checkpoint=kept)
    return Run(plan, run_folder, "small", config, resume=resume, trackers=())


def go(run: Run, each: Callable[[RoundRecord], None] = lambda record: None) -> list[RoundRecord]:
    records = []
    for record in run.records(InlineExecutor):
        each(record)
        records.append(record)
    return records


def ending(folder: Path) -> dict[str, Any]:
    """What was decided, and what is left of it."""
    summary = RunFolder(folder).summary()
    keys = ("status", "early_stopped", "best", "rounds")
    lines = [(r["round"], r.get("test"), r["model_sha256"]) for r in read_records(folder / "metrics.jsonl")]
    models = [load_file(folder / name) for name in ("model.safetensors", "best.safetensors")]
    values = [{name: tensor.tolist() for name, tensor in model.items()} for model in models]
    clients = read_clients(folder).to_pylist()
    return {**{key: summary.get(key) for key in keys}, "records": lines, "models": values, "clients": clients}


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> list[RoundRecord]:
    """The records of a run in which nothing is decided."""
    return go(run_in(tmp_path_factory.mktemp("endless") / "run", StopSection(), CheckpointSection()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end of a run that stopped early, never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    go(run_in(folder))
    return ending(folder)


def test_a_run_stops_where_its_metrics_say_and_is_else_the_run_that_goes_on(
    endless: list[RoundRecord], whole: dict[str, Any]
) -> None:
    last = torchs([record.test["loss"] for record in endless], STOPPING.patience, 0.0, "min")
    assert last is not None
    assert STOPPING.patience + 1 < last < ROUNDS, "the problem is to stop in the middle"
    assert (whole["status"], whole["rounds"]) == ("early_stopped", last)
    assert whole["early_stopped"].startswith(f"stop.patience is used up: {STOPPING.patience} rounds with no test.loss")
    assert whole["records"] == [(r.round, r.test, r.model_sha256) for r in endless[:last]]


def test_the_best_model_is_the_first_with_the_best_metric(
    tmp_path: Path, endless: list[RoundRecord], whole: dict[str, Any]
) -> None:
    done = endless[: whole["rounds"]]
    best = max(done, key=lambda record: record.test["accuracy"])  # the first of equals
    said = {"metric": "test.accuracy", "value": best.test["accuracy"], "round": best.round, "file": "best.safetensors"}
    assert whole["best"] == said
    assert best.round < whole["rounds"], "the problem is to have its best model before its last"
    layout = federation(PROBLEM, tmp_path).plan.layout
    pack = [layout.pack({name: torch.tensor(value) for name, value in model.items()}) for model in whole["models"]]
    assert [model_sha256(vector) for vector in pack] == [done[-1].model_sha256, best.model_sha256]


@pytest.mark.parametrize(
    ("every", "told"),
    [
        (0, True),
        (1, False),
        (3, True),
        pytest.param(1, True, marks=pytest.mark.slow),
        pytest.param(3, False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.one_in(3)
def test_a_run_that_dies_at_any_record_comes_to_the_same_decisions(
    every: int, told: bool, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after it is told; its folder is taken as it is at that moment, as a kill would leave it."""
    kept, write = replace(BEST, every=every), JsonLines.round

    def die(tracker: JsonLines, record: RoundRecord) -> None:
        if told:
            write(tracker, record)
        copy = tmp_path / str(record.round)
        shutil.copytree(tmp_path / "run", copy)
        (copy / LOCK).unlink()
        if not told:
            write(tracker, record)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "round", die)
        go(run_in(tmp_path / "run", kept=kept))
    assert ending(tmp_path / "run") == whole
    for number in range(1, whole["rounds"] + 1):
        go(run_in(tmp_path / str(number), kept=kept, resume=True))
        assert ending(tmp_path / str(number)) == whole, number


@pytest.mark.parametrize("asked", [0, 1, 2, 3, 4, 5, 6, 12, 19, 27, 36])
@pytest.mark.one_in(3)
def test_a_run_that_is_stopped_comes_to_the_same_decisions(asked: int, tmp_path: Path, whole: dict[str, Any]) -> None:
    """In the middle of training or of an evaluation."""
    left = iter(range(asked))
    list(run_in(tmp_path / "run").records(InlineExecutor, lambda: next(left, None) is None))
    assert RunFolder(tmp_path / "run").summary()["status"] == "stopped"
    go(run_in(tmp_path / "run", resume=True))
    assert ending(tmp_path / "run") == whole


def test_the_best_checkpoint_stays_and_no_other_beyond_those_that_are_kept(tmp_path: Path) -> None:
    seen: list[tuple[list[int], int]] = []

    def look(record: RoundRecord) -> None:
        best = newest_state(tmp_path / "run" / "checkpoints")["watches"]["checkpoint.best"]["round"]
        seen.append((rounds_in(tmp_path / "run" / "checkpoints"), best))

    go(run_in(tmp_path / "run", StopSection(), replace(BEST, every=1)), look)
    assert len(seen) == ROUNDS
    for number, (rounds, best) in enumerate(seen, 1):
        assert rounds == sorted({number, best}, reverse=True)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_by_what_a_part_tells_is_kept_and_comes_out_the_same_after_any_death(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model after the round that the part told it of, evaluated or not; a kill finds each checkpoint whole."""
    kept = CheckpointSection(every=0, keep=1, best={"metric": "metrics.fedexp.step", "mode": mode})
    evaluate = EvaluateSection(5, 5)

    def one(folder: Path, resume: bool = False) -> Run:
        run = run_in(folder, StopSection(), kept, evaluate, resume=resume)
        made = federation(PROBLEM, folder / "state", FedExP(), rounds=ROUNDS, evaluate=evaluate)
        return replace(run, plan=replace(made.plan, checkpoint=kept))

    def die(tracker: JsonLines, record: RoundRecord) -> None:
        copy = tmp_path / str(record.round)
        shutil.copytree(tmp_path / "run", copy)
        (copy / LOCK).unlink()
        write(tracker, record)

    write = JsonLines.round
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "round", die)
        records = go(one(tmp_path / "run"))
    steps = [record.metrics["fedexp"]["step"] for record in records]
    best = steps.index(min(steps) if mode == "min" else max(steps)) + 1
    expected = ending(tmp_path / "run")
    assert (expected["best"]["round"], expected["best"]["value"]) == (best, steps[best - 1])
    layout = federation(PROBLEM, tmp_path / "other").plan.layout
    model = {name: torch.tensor(value) for name, value in expected["models"][1].items()}
    assert model_sha256(layout.pack(model)) == records[best - 1].model_sha256
    for number in (1, best, ROUNDS - 1):
        go(one(tmp_path / str(number), resume=True))
        assert ending(tmp_path / str(number)) == expected


def test_an_early_stop_is_an_end_and_more_patience_goes_on(tmp_path: Path, endless: list[RoundRecord]) -> None:
    folder, losses = tmp_path / "run", [record.test["loss"] for record in endless]
    first = go(run_in(folder))
    assert go(run_in(folder, resume=True)) == []
    assert (RunFolder(folder).summary()["status"], RunFolder(folder).summary()["rounds"]) == (
        "early_stopped",
        len(first),
    )
    more = replace(STOPPING, patience=STOPPING.patience + 1)
    go(run_in(folder, more, resume=True))
    last = torchs(losses, more.patience, 0.0, "min") or ROUNDS
    assert RunFolder(folder).summary()["rounds"] == last > len(first)
    go(run_in(folder, StopSection(), resume=True))
    assert RunFolder(folder).summary()["status"] == "finished"
    assert "early_stopped" not in RunFolder(folder).summary()
    assert [r["model_sha256"] for r in read_records(folder / "metrics.jsonl")] == [r.model_sha256 for r in endless]


def test_where_the_training_loss_decides_the_last_model_is_evaluated_all_the_same(
    tmp_path: Path, endless: list[RoundRecord]
) -> None:
    stop, kept = StopSection("train.loss", patience=1), CheckpointSection(best="clients_test.accuracy")
    records = go(run_in(tmp_path / "run", stop, kept, EvaluateSection(100, 100)))
    assert len(records) == torchs([record.train["loss"] for record in endless], 1, 0.0, "min")
    assert [record.round for record in records if record.test and record.clients_test] == [len(records)]
    assert RunFolder(tmp_path / "run").summary()["best"]["round"] == len(records)


@pytest.mark.parametrize("key", ["stop.metric", "checkpoint.best"])
def test_a_metric_that_no_record_has_ends_the_run_at_its_first_evaluation_and_nothing_is_lost(
    key: str, tmp_path: Path, endless: list[RoundRecord]
) -> None:
    folder = tmp_path / "run"
    stop = StopSection("test.f1") if key == "stop.metric" else StopSection()
    kept = CheckpointSection(best="test.f1") if key == "checkpoint.best" else CheckpointSection()
    with pytest.raises(
        RunFailed, match=f"^{key}: no record has test.f1; there is test.loss, test.accuracy; resume with"
    ):
        go(run_in(folder, stop, kept, EvaluateSection(2)))
    assert (RunFolder(folder).summary()["status"], RunFolder(folder).summary()["rounds"]) == ("failed", 2)
    go(run_in(folder, StopSection("test.loss", patience=100), CheckpointSection(), EvaluateSection(2), resume=True))
    records = read_records(folder / "metrics.jsonl")
    assert [record["model_sha256"] for record in records] == [record.model_sha256 for record in endless]
    assert [record["test"] for record in records if "test" in record] == [record.test for record in endless[1::2]]


def test_a_best_checkpoint_that_is_gone_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    go(run_in(folder))
    best = RunFolder(folder).summary()["best"]["round"]
    shutil.rmtree(folder / "checkpoints" / f"round-{best:08d}")
    go(run_in(folder, StopSection(), resume=True))
    assert f"the checkpoint of the best round, {best}, is gone" in (folder / "log.txt").read_text()
    assert RunFolder(folder).summary()["best"]["round"] > best


def test_a_best_checkpoint_that_is_damaged_is_not_exported_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def damage(state: Path, round: int, *others: Any) -> Any:
        raise ValueError(f"round {round} does not match its checksum")

    with monkeypatch.context() as patch:
        patch.setattr("fedray.rundir.checkpoint.read", damage)
        go(run_in(folder))
    assert "the best model is not exported, as its checkpoint is damaged: round" in (folder / "log.txt").read_text()
    assert RunFolder(folder).summary()["best"].keys() == {"metric", "value", "round"}
    assert (folder / "model.safetensors").exists()
    assert not (folder / "best.safetensors").exists()

"""A run as MLflow has it: the mapping without the package, the rest read back by MLflow's own client."""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedray
from fedray.core.record import RoundRecord
from fedray.rundir.names import SUMMARY
from fedray.tracking.base import RunInfo
from fedray.tracking.mlflow import LONGEST_KEY, LONGEST_VALUE, MLflow, metrics, params, store
from fedray.tracking.tensorboard import scalars
from tests.helpers import class_problem

REAL = pytest.mark.trackers


def record(number: int, **test: float) -> RoundRecord:
    return RoundRecord(number, seconds=0.5, train={"loss": 1 / number}, test=test)


# Without the package


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.lists(st.integers()), max_size=5))
def test_parameters_have_keys_and_values_that_mlflow_takes(config: dict[str, Any]) -> None:
    for key, value in params(config).items():
        assert re.fullmatch(r"[/\w.\- :]+", key)
        assert posixpath.normpath(f"x/{key}") == f"x/{key}"
        assert not key.startswith("..")
        assert len(key) <= LONGEST_KEY
        assert len(value) <= LONGEST_VALUE


@given(st.dictionaries(st.sampled_from(["loss", "accuracy", "auc", "top 5"]), st.floats() | st.none()))
def test_metrics_are_those_of_tensorboard(test: dict[str, Any]) -> None:
    shown = RoundRecord(3, train={"loss": 0.5}, test=test)
    assert repr(metrics(shown)) == repr(scalars(shown))


def test_a_store_is_named_as_every_process_understands_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store("runs/all") == (tmp_path / "runs/all").as_uri()
    assert store("") is None
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert MLflow().hint(Path("runs/a b")).endswith("--backend-store-uri 'runs/a b/mlruns'")
    assert MLflow().hint_of_all(Path("runs")) == ""  # each has its own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@mlflow.here:5000")
    assert MLflow().hint(Path("runs/x")) == "open MLflow: http://mlflow.here:5000"
    assert MLflow(uri="all").hint(Path("runs/x")).endswith(f"--backend-store-uri {tmp_path}/all")
    assert MLflow(uri="all").hint_of_all(Path("runs")) == MLflow(uri="all").hint(Path("runs/x"))


# With the package


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function from a store's folder to MLflow's own client of it."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    return lambda folder: MlflowClient(tracking_uri=folder.as_uri())


def only_run(client: Any, experiment: str = "fedray") -> Any:
    (found,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return found


def points(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def session(
    tracker: MLflow, folder: Path, rounds: range, resumed_from: int = 0, *, end: bool = True, config: str = "seed: 1"
) -> None:
    tracker.start(RunInfo(folder, "digits", 9, resumed_from, config_yaml=config))
    for number in rounds:
        tracker.round(record(number))
    if end:
        tracker.finish({"status": "finished"})
    tracker.close()


@pytest.fixture
def trained(tmp_path: Path) -> fedray.Result:
    """A run of three rounds, and its resume to five."""
    problem = class_problem()
    for rounds in (3, 5):
        args = fedray.TrainArgs(rounds=rounds, tracking=["mlflow"])
        result = fedray.train(
            fedray.FederatedModel(problem.model_fn),
            problem.data,
            args,
            cluster="inline",
            run_dir=tmp_path / "run",
            resume=rounds > 3,
            progress=False,
        )
    return result


@REAL
def test_a_run_and_its_resume_are_one_run_of_mlflow(trained: fedray.Result, read: Any) -> None:
    client = read(trained.run_dir / "mlruns")
    run = only_run(client)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "python")
    assert points(client, run, "train/loss") == [(one.round, one.train["loss"]) for one in trained.history]
    assert set(run.data.metrics) == {name for one in trained.history for name in scalars(one)}
    assert run.data.params["local.epochs"] == "1"
    assert run.data.params["rounds"] == "3"
    tags = run.data.tags
    assert (tags["fedray.version"], tags["fedray.run_dir"]) == (fedray.__version__, str(trained.run_dir.resolve()))
    assert re.fullmatch("[0-9a-f]{64}", tags["fedray.config_sha256"])
    assert tags["fedray.status"] == json.loads((trained.run_dir / SUMMARY).read_text())["status"] == "finished"
    assert tags["fedray.from_round_4"] == "rounds: 3 -> 5"
    assert not [name for name in os.environ if name in ("MLFLOW_DISABLE_TELEMETRY",)]


@REAL
def test_what_was_killed_is_marked_and_goes_on(tmp_path: Path, read: Any) -> None:
    session(MLflow(), tmp_path, range(1, 4), end=False)
    client = read(tmp_path / "mlruns")
    assert only_run(client).info.status == "KILLED"
    session(MLflow(), tmp_path, range(2, 5), resumed_from=2)
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert points(client, run, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]


@REAL
def test_a_number_that_is_another_one_when_its_round_is_done_again_has_both(tmp_path: Path, read: Any) -> None:
    session(MLflow(), tmp_path, range(1, 4), end=False)
    again = MLflow()
    again.start(RunInfo(tmp_path, "digits", 9, 2))
    again.round(RoundRecord(3, seconds=0.75, train={"loss": 1 / 3}, test={"accuracy": 0.5}))
    again.close()
    client = read(tmp_path / "mlruns")
    run = only_run(client)
    assert sorted(points(client, run, "time/round_seconds"))[2:] == [(3, 0.5), (3, 0.75)]
    assert points(client, run, "train/loss")[2:] == [(3, 1 / 3)]
    assert points(client, run, "test/accuracy") == [(3, 0.5)]


@REAL
def test_the_store_the_experiment_and_the_name_are_the_users(
    tmp_path: Path, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "env").as_uri())
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    session(MLflow(experiment="diagnosis", run_name="first"), tmp_path / "a", range(1, 2))
    session(MLflow(uri=str(tmp_path / "mine"), experiment="diagnosis"), tmp_path / "a", range(1, 2))
    session(MLflow(experiment="diagnosis"), tmp_path / "b", range(1, 2))
    assert only_run(read(tmp_path / "mine"), "diagnosis").info.run_name == "digits"
    client = read(tmp_path / "env")
    found = client.search_runs([client.get_experiment_by_name("diagnosis").experiment_id])
    assert sorted(run.info.run_name for run in found) == ["digits", "first"]
    assert len(json.loads((tmp_path / "a" / "mlflow.json").read_text())) == 2


@REAL
def test_a_run_that_mlflow_no_longer_has_is_begun_anew(
    tmp_path: Path, read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    session(MLflow(), tmp_path, range(1, 3))
    client = read(tmp_path / "mlruns")
    first = only_run(client).info.run_id
    client.delete_run(first)
    session(MLflow(), tmp_path, range(3, 5), resumed_from=2)
    assert f"no longer has the run {first}" in caplog.text
    assert [step for step, _ in points(client, only_run(client), "train/loss")] == [3, 4]


@REAL
def test_odd_keys_long_values_and_numbers_that_are_none_arrive(tmp_path: Path, read: Any) -> None:
    names = {f"option {i} (ü)": "x" * 9000 if i == 7 else i for i in range(230)}
    tracker = MLflow()
    odd = {"none": None, "..": 1, "/a//b/../c": 2}
    tracker.start(RunInfo(tmp_path, "digits", 1, config_yaml=json.dumps({"many": names, **odd})))
    tracker.round(record(1, **{"F1 (macro)": 0.5, "auc": float("nan"), "worst": float("-inf")}))
    tracker.close()
    run = only_run(read(tmp_path / "mlruns"))
    assert len(run.data.params) == 230 + len(odd)
    assert run.data.params["many.option 7 _ü_"] == "x" * LONGEST_VALUE
    assert run.data.params["none"] == "null"
    assert run.data.metrics["test/F1 _macro_"] == 0.5
    assert str(run.data.metrics["test/auc"]) == "nan"


@REAL
def test_a_server_that_is_not_there_is_named_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    problem = class_problem()
    args = fedray.TrainArgs(rounds=2, tracking=[{"name": "mlflow", "uri": "http://127.0.0.1:9"}])
    with caplog.at_level(logging.WARNING, "fedray"):
        result = fedray.train(
            fedray.FederatedModel(problem.model_fn),
            problem.data,
            args,
            cluster="inline",
            run_dir=tmp_path / "run",
            progress=False,
        )
    assert [one.round for one in result.history] == [1, 2]
    told = [one.getMessage() for one in caplog.records if "tracker MLflow failed" in one.getMessage()]
    assert len(told) == 1
    assert "at the start, and the run goes on without it" in told[0]


@REAL
@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_package_is_imported_by_its_run_alone_and_tells_nobody_of_it(name: str, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from fedray.experiment.build import Config
from fedray.rundir.folder import RunFolder
parts = {{"data": {{"name": "digits"}}, "model": "logistic", "rounds": 1, "cluster": {{"name": "inline"}}}}
experiment = Config.bind("x", {{}}, {{**parts, "tracking": ["{name}"]}}).experiment(RunFolder(Path("{tmp_path}/run")))
print({name!r} in sys.modules)
list(experiment.records())
print({name!r} in sys.modules)
if {name!r} == "mlflow":
    from mlflow.telemetry.client import get_telemetry_client
    print(get_telemetry_client())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", *(["None"] if name == "mlflow" else [])]

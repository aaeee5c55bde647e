"""A run as Weights & Biases has it, read back from the files that wait for `wandb sync`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedray
from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.tracking.base import RunInfo, trackers
from fedray.tracking.tensorboard import scalars
from fedray.tracking.wandb import WandB, history
from tests.faults.nodes import eventually
from tests.helpers import class_problem

REAL = pytest.mark.trackers
BLOCK = 32768


def test_the_history_is_tensorboards_with_the_round_as_an_axis() -> None:
    record = RoundRecord(7, seconds=1.0, train={"loss": 0.5}, clients_test={"accuracy": {"mean": 0.5, "p10": 0.25}})
    assert history(record) == {"round": 7, **scalars(record)}


def test_the_hint_is_the_command_that_uploads() -> None:
    assert WandB().hint(Path("runs/a b")) == "upload to W&B: wandb sync 'runs/a b'/wandb/offline-run-*"
    assert WandB(mode="online").hint(Path("runs/x")) == ""
    assert WandB().hint_of_all(Path("a b")) == "upload to W&B: wandb sync 'a b'/*/wandb/offline-run-*"
    assert WandB(mode="online").hint_of_all(Path("runs")) == ""


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^tracking\[0\]\.mode: "):
        bind_part(trackers, {"name": "wandb", "mode": "on"}, "tracking[0]")


def messages(path: Path) -> Iterator[Any]:
    """The messages of a ``.wandb`` file: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # too little is left of the block for a head
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of it, or the last part
            message = wandb_internal_pb2.Record()
            message.ParseFromString(whole)
            yield message
            whole = b""


def key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


class Written:
    """What a session has left for upload."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("run-*.wandb")
        self.history: dict[int, dict[str, Any]] = {}
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.name = self.id = self.project = ""
        self.exit_code: int | None = None
        for message in messages(path):
            kind = message.WhichOneof("record_type")
            if kind == "run":
                self.id, self.name, self.project = message.run.run_id, message.run.display_name, message.run.project
                self.config |= {key(one): json.loads(one.value_json) for one in message.run.config.update}
            elif kind == "history":
                row = {key(one): json.loads(one.value_json) for one in message.history.item}
                self.history[message.history.step.num] = row
            elif kind == "summary":
                self.summary |= {key(one): json.loads(one.value_json) for one in message.summary.update}
            elif kind == "exit":
                self.exit_code = message.exit.exit_code


def sessions(run_dir: Path) -> list[Written]:
    """What all sessions of a run have left, each with its end: the package's own process may still be writing it."""
    folders = sorted((run_dir / "wandb").glob("offline-run-*"))

    def ended() -> bool:
        return all(Written(folder).exit_code is not None for folder in folders)

    eventually(ended, "the end of each session is written")
    return [Written(folder) for folder in folders]


def record(number: int) -> RoundRecord:
    return RoundRecord(number, train={"loss": 1 / number})


@pytest.fixture(autouse=True)
def _no_account(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(home))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


@REAL
def test_a_run_and_its_resume_have_one_id_and_each_round_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing leaves the machine unless that is asked for, whatever the environment says.
    monkeypatch.setenv("WANDB_MODE", "online")
    problem = class_problem()
    for rounds in (3, 5):
        args = fedray.TrainArgs(rounds=rounds, tracking=["wandb"])
        result = fedray.train(
            fedray.FederatedModel(problem.model_fn),
            problem.data,
            args,
            cluster="inline",
            run_dir=tmp_path / "run",
            resume=rounds > 3,
            progress=False,
        )
    first, second = sessions(result.run_dir)
    assert first.id == second.id == json.loads((result.run_dir / "wandb.json").read_text())["/fedray"]
    assert (first.name, first.project, first.exit_code, second.exit_code) == ("python", "fedray", 0, 0)
    told = {**first.history, **second.history}
    assert {number: row["train/loss"] for number, row in told.items()} == {
        one.round: one.train["loss"] for one in result.history
    }
    for one in result.history:
        assert {name for name in told[one.round] if not name.startswith("_")} == {"round", *scalars(one)}
    assert first.config["local"]["epochs"] == 1
    assert (first.config["rounds"], second.config["rounds"]) == (3, 5)
    assert first.config["fedray"]["version"] == fedray.__version__
    assert second.summary["fedray/status"] == "finished"
    assert capfd.readouterr() == ("", "")


@REAL
def test_a_run_that_did_not_end_is_marked_and_rounds_done_again_replace_the_others(tmp_path: Path) -> None:
    for resumed_from, rounds in ((0, range(1, 5)), (2, range(2, 6))):
        tracker = WandB(project="diagnosis", run_name="first")
        tracker.start(RunInfo(tmp_path, "digits", 9, resumed_from, config_yaml="seed: 1"))
        for number in rounds:
            tracker.round(record(number))
        tracker.close()
        tracker.close()
    first, second = sessions(tmp_path)
    assert (first.exit_code, first.name, first.project) == (1, "first", "diagnosis")
    assert first.id == second.id
    assert list(first.history) == [1, 2, 3, 4]
    assert list(second.history) == [2, 3, 4, 5]


@REAL
def test_a_run_that_the_user_has_in_this_process_stays_the_users(tmp_path: Path) -> None:
    import wandb

    with wandb.init(mode="offline", dir=str(tmp_path), settings=wandb.Settings(silent=True)) as own:
        tracker = WandB()
        tracker.start(RunInfo(tmp_path, "digits", 9))
        tracker.round(record(1))
        tracker.close()
        own.log({"mine": 1})
        assert own.step == 1
    told = [{name for row in one.history.values() for name in row} for one in sessions(tmp_path)]
    assert sum("train/loss" in names for names in told) == sum("mine" in names for names in told) == 1
    assert not any({"train/loss", "mine"} <= names for names in told)


@REAL
def test_online_without_an_account_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^tracking: wandb with mode=online needs an account; set WANDB_API_KEY"):
        WandB(mode="online").check()
    WandB().check()

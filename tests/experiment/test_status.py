"""What a run folder tells, at every point of a run's life."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.experiment import status
from fedray.experiment.status import RECENT, Driver, failures_by_kind, pace_of, read_status, slurm_job, state_of
from fedray.run.budget import Totals
from fedray.rundir.lock import Owner, driving, starting_a_driver
from fedray.rundir.names import LOCK
from fedray.slurm.commands import SlurmJob
from fedray.slurm.requeue import HISTORY, History
from fedray.tracking.jsonl import read_records

NOW = 2_000_000_000.0


def record(round: int, seconds: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"round": round, "seconds": seconds, "workers": 3, "train": {"loss": 1 / round}, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder before its first round."""
    (tmp_path / "config.yaml").write_text("rounds: 10\ndata: {path: '${oc.env:NOT_SET_HERE}'}\n")
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def write(folder: Path, records: list[dict[str, Any]], summary: dict[str, Any] | None = None) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    os.utime(folder / "metrics.jsonl", (NOW - 7, NOW - 7))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def test_before_the_first_round(folder: Path) -> None:
    seen = read_status(folder, NOW)
    assert (seen.state, seen.round, seen.rounds, seen.pace, seen.left) == ("waiting", 0, 10, None, None)
    assert (seen.driver, seen.slurm, seen.checkpoint, seen.silent) == (None, None, None, None)
    assert not seen.over


def test_while_it_runs(folder: Path) -> None:
    lost = [{"client": "a", "stage": "train", "error": "x"}, {"client": "b", "stage": "worker", "error": "y"}]
    last = record(3, failures=lost[:1], usage={"nodes": 2})
    write(folder, [record(1, failures=lost), record(2, test={"accuracy": 0.5}), last])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 4, "sec')  # being written
    os.utime(folder / "metrics.jsonl", (NOW - 7, NOW - 7))
    for number in (1, 2):
        saved = folder / "checkpoints" / f"round-{number:08d}"
        saved.mkdir()
        os.utime(saved, (NOW - 30, NOW - 30))
    with driving(folder):
        seen = read_status(folder, NOW)
    assert seen.state == "running"
    assert (seen.round, seen.pace, seen.left, seen.silent) == (3, 2.0, 14.0, 7.0)
    assert (seen.workers, seen.nodes) == (3, 2)
    assert seen.failures == {"train": 2, "worker": 1}
    assert (seen.checkpoint, seen.checkpoint_age) == (2, 30.0)
    assert seen.test == {"accuracy": 0.5}
    assert seen.train == {"loss": pytest.approx(1 / 3)}
    assert seen.driver is not None
    assert seen.driver.alive is True
    assert f"process {os.getpid()} on " in seen.driver.words
    assert json.loads(json.dumps(seen.to_json()))["driver"]["alive"] is True


def test_after_its_driver_was_killed(folder: Path) -> None:
    write(folder, [record(1)], {"status": "stopped"})
    code = "import os, sys\nfrom pathlib import Path\nfrom fedray.rundir.lock import driving\n"
    code += "with driving(Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    seen = read_status(folder, NOW)
    assert (seen.state, seen.over) == ("interrupted", True)


def test_a_run_that_was_killed_before_its_driver_came_up_is_interrupted(folder: Path) -> None:
    """Nobody will start it: it does not wait."""
    with starting_a_driver(folder):
        assert read_status(folder, NOW).state == "running"
    code = "import os, sys\nfrom pathlib import Path\nfrom fedray.rundir.lock import starting_a_driver\n"
    code += "with starting_a_driver(Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    seen = read_status(folder, NOW)
    assert (seen.state, seen.round, seen.over) == ("interrupted", 0, True)


def test_a_run_that_ends_while_it_is_read_is_not_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, [record(1)])
    (folder / LOCK).write_text(json.dumps(asdict(Owner.me())))

    def read_as_it_ends(path: Path) -> list[dict[str, Any]]:
        found = read_records(path)
        write(folder, [record(1), record(2)], {"status": "finished"})
        (folder / LOCK).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(status, "read_records", read_as_it_ends)
    seen = read_status(folder, NOW)
    assert (seen.state, seen.round) == ("finished", 2)


@pytest.mark.parametrize("away", [False, True])
def test_a_driver_that_ends_before_it_is_looked_for_is_not_interrupted(
    away: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is gone, or its Slurm job, but so is its lock."""
    write(folder, [record(1)], {"status": "stopped"})
    driver = replace(Owner.me(), host="node9", job="12") if away else Owner.me()
    (folder / LOCK).write_text(json.dumps(asdict(driver)))

    def end() -> None:
        write(folder, [record(1)], {"status": "finished"})
        (folder / LOCK).unlink(missing_ok=True)

    def gone(owner: Owner) -> bool:
        end()
        return False

    def completed(run_dir: Path, job: str | None = None) -> SlurmJob:
        end()
        return SlurmJob("12", "COMPLETED")

    monkeypatch.setattr(status, "slurm_job", completed)
    if not away:
        monkeypatch.setattr(Owner, "alive", gone)
    assert read_status(folder, NOW).state == "finished"


@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "budget", "early_stopped"])
def test_after_it_ended(folder: Path, status: str) -> None:
    usage = {"gpu_seconds": 4.0, "rss": [5, 9], "retries": 1}
    limits = {status: "it was reached"} if status in ("budget", "early_stopped") else {}
    write(
        folder,
        [record(1, usage=usage), record(2, usage=usage, unheard_of=1)],
        {"status": status, "name": "digits", **limits},
    )
    seen = read_status(folder, NOW)
    assert (seen.name, seen.state, seen.over) == ("digits", status, True)
    assert seen.totals == Totals(wall_seconds=4.0, gpu_seconds=8.0, retries=2, rss=9)
    assert seen.limit == ("it was reached" if status in ("budget", "early_stopped") else None)


def test_a_resumed_run_wants_what_its_config_says_now(folder: Path) -> None:
    write(folder, [record(1)], {"status": "finished", "rounds_wanted": 1})
    with driving(folder):
        seen = read_status(folder, NOW)
    assert (seen.state, seen.rounds, seen.left) == ("running", 10, 18.0)


def test_a_run_from_python(folder: Path) -> None:
    (folder / "config.yaml").write_text("python: {rounds: 4}\n")
    assert read_status(folder, NOW).rounds == 4


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run folder"):
        read_status(tmp_path, NOW)


@pytest.mark.parametrize(
    ("alive", "summary", "begun", "state"),
    [
        (None, {}, False, "waiting"),
        (None, {}, True, "interrupted"),
        (None, {"status": "stopped"}, True, "stopped"),
        (Driver("here", True), {"status": "stopped"}, True, "running"),
        (Driver("there", None), {}, False, "running"),
        (Driver("here", False), {"status": "finished"}, True, "interrupted"),
    ],
)
def test_states(alive: Driver | None, summary: dict[str, Any], begun: bool, state: str) -> None:
    assert state_of(alive, summary, begun) == state


@given(st.lists(st.floats(0.001, 1e6), max_size=3 * RECENT))
def test_the_pace_lies_between_the_fastest_and_slowest_recent_round(seconds: list[float]) -> None:
    found = pace_of([{"round": 1, "seconds": second} for second in seconds])
    assert pace_of([{"round": 0, "seconds": 5.0}, *({"round": 1, "seconds": second} for second in seconds)]) == found
    recent = seconds[-RECENT:]
    if not recent:
        assert found is None
    else:
        assert found is not None
        assert min(recent) * 0.999999 <= found <= max(recent) * 1.000001


def test_failures_are_counted_most_frequent_first() -> None:
    stages = [["train"], [], ["worker", "worker"]]
    records = [{"failures": [{"stage": stage} for stage in one]} for one in stages]
    assert list(failures_by_kind(records).items()) == [("worker", 2), ("train", 1)]


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    program = folder / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$*" = "show job -o 12" ] || exit 1\nprintf %s "{answer}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_what_slurm_says_of_the_newest_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for job in (9, 12):
        (folder / f"slurm-{job}.log").touch()
    fake_slurm(folder, monkeypatch, "JobId=12 JobName=a b UserId=me(0) JobState=PENDING Reason=Resources Requeue=1")
    assert slurm_job(folder) == SlurmJob("12", "PENDING", "Resources")
    write(folder, [record(1)], {"status": "stopped"})
    seen = read_status(folder, NOW)
    assert (seen.state, seen.over) == ("stopped", False), "it is requeued"
    assert replace(seen, slurm=SlurmJob("12", "CANCELLED")).over


def test_the_job_of_an_array_is_known_by_its_history(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    History(12).write(folder / HISTORY)
    assert slurm_job(folder) == SlurmJob("12")
    History("12_3").write(folder / HISTORY)
    (folder / "slurm-9.log").touch()
    assert slurm_job(folder) == SlurmJob("12_3")


def test_a_job_that_waits_to_take_up_a_dead_drivers_run_is_the_newest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / LOCK).write_text(json.dumps(asdict(replace(Owner.me(), host="node9", job="9"))))
    History(12).write(folder / HISTORY)
    fake_slurm(folder, monkeypatch, "JobId=12 JobState=PENDING Reason=Priority")
    assert read_status(folder, NOW).slurm == SlurmJob("9"), "it may live"
    scontrol = folder / "bin" / "scontrol"
    scontrol.write_text("#!/bin/sh\ncase $4 in 9) s=CANCELLED;; 12) s=PENDING;; esac\necho JobState=$s Reason=None\n")
    seen = read_status(folder, NOW)
    assert (seen.state, seen.slurm, seen.over) == ("interrupted", SlurmJob("12", "PENDING"), False)


def test_a_driver_out_of_sight_dies_with_its_slurm_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = replace(Owner.me(), host="node9", job="12")
    (folder / LOCK).write_text(json.dumps(asdict(away)))
    seen = read_status(folder, NOW)
    assert seen.driver is not None
    assert (seen.state, seen.driver.alive, seen.over) == ("running", None, False)
    fake_slurm(folder, monkeypatch, "JobId=12 JobState=NODE_FAIL Reason=None")
    seen = read_status(folder, NOW)
    assert (seen.state, seen.slurm, seen.over) == ("interrupted", SlurmJob("12", "NODE_FAIL"), True)


def test_a_cancelled_job_that_never_began_is_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "slurm-12.log").touch()
    fake_slurm(folder, monkeypatch, "JobId=12 JobState=CANCELLED")
    seen = read_status(folder, NOW)
    assert (seen.state, seen.over) == ("interrupted", True), "nobody will start it"


def test_slurm_is_not_at_hand_or_has_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "slurm-3.log").touch()
    monkeypatch.setenv("PATH", str(folder))
    assert slurm_job(folder) == SlurmJob("3")
    fake_slurm(folder, monkeypatch, "")
    assert slurm_job(folder) == SlurmJob("3")
    assert slurm_job(folder, job="12") == SlurmJob("12")


def test_the_round_is_that_of_the_checkpoint_while_its_record_waits_for_the_next_round(folder: Path) -> None:
    write(folder, [record(1), record(2)])
    (folder / "checkpoints" / "round-00000003").mkdir()
    seen = read_status(folder, NOW)
    assert (seen.round, seen.checkpoint) == (3, 3)


def test_a_run_that_was_interrupted_before_its_first_round_does_not_wait(folder: Path) -> None:
    (folder / "log.txt").touch()
    assert (read_status(folder, NOW).state, read_status(folder, NOW).over) == ("interrupted", True)


def test_why_it_failed(folder: Path) -> None:
    write(folder, [record(1)], {"status": "failed", "error": "client 'a' failed in round 2"})
    assert read_status(folder, NOW).error == "client 'a' failed in round 2"
    with driving(folder):
        assert read_status(folder, NOW).error is None, "it has been taken up since"

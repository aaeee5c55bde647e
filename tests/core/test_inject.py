"""A driver that is killed at a named point goes on, when it is started again, to the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import fedray
from fedray.core import inject
from fedray.rundir.checkpoint import rounds_in
from fedray.rundir.names import LOCK
from tests.cluster import problem

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 6

# A checkpoint is saved every second round, and clients are evaluated after it.
KILLS = [
    ("driver.fold", 1),
    ("clients.half_written", 2),
    ("checkpoint.half_written", 4),
    ("checkpoint.before_rename", 6),
    # The other points, and the same in other rounds: before there is a checkpoint, with one, with two.
    ("driver.start", 0),
    ("driver.round", 4),
    ("driver.aggregate", 4),
    ("checkpoint.open", 4),
    ("checkpoint.after_rename", 4),
    ("clients.open", 6),
    ("driver.end", 6),
    ("driver.round", 1),
    ("checkpoint.open", 2),
    ("checkpoint.after_rename", 2),
    ("driver.fold", 4),
    ("driver.opening", 5),
    ("checkpoint.half_written", 2),
    ("checkpoint.before_rename", 4),
]

# Of one run, which is taken up after each.
AGAIN = [("driver.fold", 1), ("checkpoint.open", 2), ("driver.round", 3), ("checkpoint.after_rename", 4)]

# One process that is warm (imports, first run) serves all: a child for each folder, which is told its plan by the
# environment, and goes on with what is there.
DRIVERS = """
import json, os, sys, tempfile
from pathlib import Path
import fedray, tests.cluster.problem as problem

problem.train(Path(tempfile.mkdtemp(dir=Path(json.loads(sys.argv[1])[0]).parent)), "inline", rounds=1)
statuses = []
for folder in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        try:
            os.environ["FEDRAY_FAULTS"] = folder + ".json"
            problem.train(
                Path(folder),
                "inline",
                rounds=int(sys.argv[2]),
                resume=Path(folder, "config.yaml").exists(),
                algorithm=fedray.Scaffold(),
                clients_every=2,
            )
        finally:
            os._exit(1)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(statuses))
"""


def name(kill: tuple[str, int]) -> str:
    return f"{kill[0]}-{kill[1]}"


def lines(run_dir: Path) -> list[str]:
    """The hashes in metrics.jsonl, each round once and in order."""
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [record["round"] for record in records] == list(range(1, len(records) + 1))
    return [record["model_sha256"] for record in records]


def resume(run_dir: Path, **saving: Any) -> None:
    problem.train(run_dir, "inline", rounds=ROUNDS, resume=True, algorithm=fedray.Scaffold(), clients_every=2, **saving)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("quiet") / "run"
    problem.train(folder, "inline", rounds=ROUNDS, algorithm=fedray.Scaffold(), clients_every=2)
    return folder


@pytest.fixture(scope="module")
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder for each kill that is looked at, as the dead driver left it, and ``again``."""
    parent = tmp_path_factory.mktemp("killed")
    looked_at = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    kills = [kill for kill in KILLS if name(kill) in looked_at]
    plans = {**{name(kill): [kill] for kill in kills}, "again": AGAIN}
    folders = {run: parent / run for run in plans}
    for run, places in plans.items():
        plan = [{"point": point, "round": round, "action": "kill"} for point, round in places]
        Path(f"{folders[run]}.json").write_text(json.dumps(plan))
    paths = json.dumps([str(folders[run]) for run, places in plans.items() for _ in places])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", DRIVERS, paths, str(ROUNDS)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    assert json.loads(ended.stdout) == [-signal.SIGKILL] * (len(kills) + len(AGAIN)), ended.stderr
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("kill", [pytest.param(kill, id=name(kill)) for kill in KILLS])
def test_a_driver_killed_there_goes_on_to_the_same_bits(
    kill: tuple[str, int], killed: dict[str, Path], quiet: Path
) -> None:
    folder = killed[name(kill)]
    assert not (folder / "summary.json").exists()
    assert not (folder / "model.safetensors").exists()
    assert (folder / LOCK).exists()
    torn = [path.read_bytes() for path in folder.glob("checkpoints/.tmp-*/state.json")]
    if kill[0] == "checkpoint.open":
        assert torn == [b""]
    if kill[0] == "checkpoint.half_written":
        (half,) = torn
        assert half.startswith(b"{")
        assert not half.endswith(b"}")
    if kill[0].startswith("clients."):
        assert len([*folder.glob(".tmp-round-*")]) == 1
    resume(folder)
    assert lines(folder) == lines(quiet)
    assert problem.tables(folder) == problem.tables(quiet)
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    model, expected = load_file(folder / "model.safetensors"), load_file(quiet / "model.safetensors")
    assert {key: tensor.tolist() for key, tensor in model.items()} == {
        key: tensor.tolist() for key, tensor in expected.items()
    }
    assert "taking the run folder over from a dead driver" in (folder / "log.txt").read_text()
    assert {path.name for path in folder.iterdir()} == {path.name for path in quiet.iterdir()}
    assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []


def test_killed_again_and_again(killed: dict[str, Path], quiet: Path) -> None:
    resume(killed["again"])
    assert lines(killed["again"]) == lines(quiet)


def test_a_good_checkpoint_is_not_deleted_for_a_damaged_one(
    tmp_path: Path, quiet: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One is kept, and it must not be the damaged one, although that has the highest number."""
    folder, plan = tmp_path / "run", tmp_path / "plan.json"
    problem.train(folder, "inline", rounds=4, algorithm=fedray.Scaffold(), clients_every=2)
    assert rounds_in(folder / "checkpoints") == [4, 2]
    (folder / "checkpoints" / "round-00000004" / "state.json").write_text("{")
    plan.write_text(json.dumps([{"point": "driver.fold", "round": 4, "action": "raise"}]))
    monkeypatch.setenv(inject.PLAN, str(plan))
    with pytest.raises(fedray.RunFailed, match="fault injected at driver"):
        resume(folder, every=1, keep=1)
    assert "trying the one before: round-00000004" in caplog.text
    assert rounds_in(folder / "checkpoints") == [3]
    resume(folder, every=1, keep=1)
    assert json.loads((folder / "summary.json").read_text())["resumed_from"] == 3
    assert rounds_in(folder / "checkpoints") == [ROUNDS]
    assert lines(folder) == lines(quiet)


def test_a_disk_full_at_the_end_is_no_finished_run(
    tmp_path: Path, quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plan = tmp_path / "run", tmp_path / "plan.json"
    plan.write_text(json.dumps([{"point": "driver.end", "round": ROUNDS, "action": "disk"}]))
    monkeypatch.setenv(inject.PLAN, str(plan))
    with pytest.raises(fedray.RunFailed, match="fault injected at driver"):
        problem.train(folder, "inline", rounds=ROUNDS, algorithm=fedray.Scaffold(), clients_every=2)
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
    assert not (folder / "model.safetensors").exists()
    assert not (folder / LOCK).exists()
    resume(folder)
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    assert lines(folder) == lines(quiet)


def test_a_disk_full_for_what_clients_got_ends_the_run_which_goes_on_with_it(
    tmp_path: Path, quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plan = tmp_path / "run", tmp_path / "plan.json"
    plan.write_text(json.dumps([{"point": "clients.half_written", "round": 4, "action": "disk"}]))
    monkeypatch.setenv(inject.PLAN, str(plan))
    with pytest.raises(fedray.RunFailed, match=r"fault injected at clients\.half_written"):
        problem.train(folder, "inline", rounds=ROUNDS, algorithm=fedray.Scaffold(), clients_every=2)
    assert [*problem.tables(folder)] == ["round-00000002.parquet"]
    resume(folder)
    assert lines(folder) == lines(quiet)
    assert problem.tables(folder) == problem.tables(quiet)


def test_a_point_is_passed_by_name_round_and_block_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inject.point("worker.block", 1, 2)
    plan = tmp_path / "plan.json"
    plan.write_text(
        json.dumps(
            [
                {"point": "worker.block", "round": 1, "block": 2, "action": "raise"},
                {"point": "worker.block", "round": 2, "action": "memory"},
            ]
        )
    )
    monkeypatch.setenv(inject.PLAN, str(plan))
    for passed in (("worker.block", 1, 1), ("worker.block", 3, 2), ("worker.reply", 1, 2)):
        inject.point(*passed)
    with pytest.raises(RuntimeError, match=r"fault injected at worker\.block, round 1, block 2"):
        inject.point("worker.block", 1, 2)
    inject.point("worker.block", 1, 2)
    with pytest.raises(MemoryError):
        inject.point("worker.block", 2, 7)


def test_a_fault_that_waits_ends_with_the_file_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, looks = tmp_path / "plan.json", list[float]()
    plan.write_text(json.dumps([{"point": "driver.round", "round": 3, "action": "wait"}]))
    monkeypatch.setenv(inject.PLAN, str(plan))

    def until_the_third(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            Path(f"{plan}.go").touch()

    monkeypatch.setattr(time, "sleep", until_the_third)
    inject.point("driver.round", 3)
    assert len(looks) == 3

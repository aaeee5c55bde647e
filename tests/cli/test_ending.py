"""``fedray stop`` and ``fedray logs`` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedray.rundir.checkpoint import rounds_in
from tests.cli.command import Cli, hashes


def wait_for_rounds(run: subprocess.Popen[bytes], run_dir: Path, rounds: int) -> None:
    """Return when so many rounds are recorded."""
    metrics, limit = run_dir / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= rounds):
        assert run.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.parametrize("place", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_run_under_way_stops_with_its_checkpoint(place: str, cli: Cli, small: Path) -> None:
    words = ["rounds=1000000", f"cluster={{name: {place}, workers: 1}}", "run.dir=out", "checkpoint.every=0", "-q"]
    env = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_JOB_ID")}
    with subprocess.Popen([sys.executable, "-m", "fedray", "run", str(small), *words], env=env) as run:
        try:
            wait_for_rounds(run, Path("out"), 2)
            outcome = cli("stop", "out")
            assert outcome.status == 0, outcome.err
            assert run.wait(60) == 75
        finally:
            run.kill()
    assert f"asked process {run.pid} to stop with a checkpoint" in outcome.out
    done = json.loads(Path("out/summary.json").read_text())["rounds"]
    assert f"stopped after round {done:,}, its checkpoint is saved" in outcome.out
    assert "stopped as asked" in cli("logs", "out").out
    cli("stop", "out").refused("nothing runs in out", "fedray resume out")
    assert cli("run", small, f"rounds={done}", "run.dir=whole", "-q").status == 0
    assert hashes(Path("out")) == hashes(Path("whole"))[: len(hashes(Path("out")))]


def wait_for_runs(process: subprocess.Popen[str], folders: list[Path]) -> None:
    """Return when each of these runs has done a round."""
    limit = time.monotonic() + 120
    while not all((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_bytes() for run in folders):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)


@contextmanager
def going_on(*words: object) -> Iterator[subprocess.Popen[str]]:
    """A command in another terminal."""
    command = [sys.executable, "-m", "fedray", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


LONG = ["rounds=1000000", "data.holdout=0.25", "checkpoint.every=0"]
SEVERAL = {
    "sweep": (["sweep", "seed=1,2,3"], "sweeps/small", ["seed=1"]),
    "at-once": (["sweep", "seed=1,2,3", "--at-once", "2"], "sweeps/small", ["seed=1", "seed=2"]),
    "rungs": (
        ["sweep", "seed=1,2", "local.epochs=1,2", "--by", "test.loss", "--rungs", "500000"],
        "sweeps/small",
        ["seed=1,local.epochs=1"],
    ),
    "compare": (["compare"], "runs/small/compare", ["local_only"]),
}
LATER = {name: pytest.param(name, marks=pytest.mark.slow) for name in ("at-once", "rungs", "compare")}


@pytest.mark.parametrize("of", ["sweep", *LATER.values()])
def test_several_runs_end_by_their_folder_and_go_on_by_the_same_command(of: str, cli: Cli, small: Path) -> None:
    (command, *words), folder, first = SEVERAL[of]
    with going_on(command, small, *words, *LONG) as process:
        wait_for_runs(process, [Path(folder, name) for name in first])
        outcome = cli("stop", folder)
        _, said = process.communicate(timeout=60)
    assert outcome.status == 0, outcome.out
    assert f"stopped {len(first)} run" in outcome.out
    assert process.returncode == 75
    every = {"rungs": 4}.get(of, 3)
    assert said.splitlines()[-1] == f"stopped after 0 of {every} runs; the same command goes on"
    runs = {path.parent.name: path.parent for path in Path(folder).glob("*/config.yaml")}
    assert sorted(runs) == sorted(first), "no further one began"
    for run in runs.values():
        assert json.loads((run / "summary.json").read_text())["status"] == "stopped"
        assert rounds_in(run / "checkpoints")
    assert not list(Path(folder).glob("several-*"))
    cli("stop", folder).refused("nothing runs" if command == "sweep" else "is no run folder")


@pytest.mark.parametrize("of", ["sweep", *LATER.values()])
def test_one_of_several_runs_is_stopped_and_the_others_go_on(of: str, cli: Cli, small: Path) -> None:
    """It is none that failed, and whoever goes on goes on with it."""
    (command, *words), folder, first = SEVERAL[of]
    one = Path(folder, first[0])
    with going_on(command, small, *words, *LONG) as process:
        wait_for_runs(process, [one])
        outcome = cli("stop", one)
        assert outcome.status == 0, outcome.out
        assert "its checkpoint is saved" in outcome.out
        others = {path.parent for path in Path(folder).glob("*/config.yaml")} - {one}
        limit = time.monotonic() + 60
        while len(others) < len(first):
            assert process.poll() is None
            assert time.monotonic() < limit
            others = {path.parent for path in Path(folder).glob("*/config.yaml")} - {one}
            time.sleep(0.05)
        assert json.loads((one / "summary.json").read_text())["status"] == "stopped"
        assert cli("stop", folder).status == 0
        assert process.wait(60) == 75


def test_what_is_no_run_is_said(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    for command in ("stop", "logs"):
        cli(command, "nowhere").refused("nowhere is no run folder", "--address")
        cli(command, small.parent).refused("is no run folder")
    cli("stop", "fedray_x", "--address", "10.0.0.1:6379").refused("dashboard's URL")

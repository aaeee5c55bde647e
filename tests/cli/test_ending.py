"""``fedray stop`` and ``fedray logs`` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def test_what_is_no_run_is_said(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    for command in ("stop", "logs"):
        cli(command, "nowhere").refused("nowhere is no run folder", "--address")
        cli(command, small.parent).refused("is no run folder")
    cli("stop", "fedray_x", "--address", "10.0.0.1:6379").refused("dashboard's URL")

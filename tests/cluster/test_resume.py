"""A run that was killed goes on to the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import fedray
from tests.cluster import problem


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> list[str | None]:
    """The hashes of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("quiet")
    return problem.hashes(problem.train(folder / "run", "inline", rounds=6, algorithm=fedray.Scaffold()))


def lines(run_dir: Path) -> list[str]:
    """The hashes in metrics.jsonl."""
    return [json.loads(line)["model_sha256"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_driver_killed_in_the_middle_of_a_round(tmp_path: Path, quiet: list[str], four_cpus: None) -> None:
    """A killed driver actor: one clear error, and a resume, on other workers, to the same bits."""
    run_dir = tmp_path / "run"
    killed = threading.Event()

    def kill_driver() -> None:
        deadline = time.monotonic() + 60
        metrics = run_dir / "metrics.jsonl"
        while time.monotonic() < deadline:
            if metrics.exists() and metrics.read_text().count("\n") >= 3:
                for pid in problem.processes("ray::DriverActor"):
                    os.kill(pid, signal.SIGKILL)
                killed.set()
                return
            threading.Event().wait(0.002)

    thread = threading.Thread(target=kill_driver)
    thread.start()
    with pytest.raises(fedray.RunFailed, match=r"fedray\.train\(\.\.\., run_dir=.*, resume=True\)"):
        problem.train(run_dir, fedray.Cluster(workers=2), rounds=10_000, algorithm=fedray.Scaffold())
    thread.join()
    assert killed.is_set()
    done = len(lines(run_dir))
    problem.train(run_dir, fedray.Cluster(workers=3), rounds=max(6, done), resume=True, algorithm=fedray.Scaffold())
    assert lines(run_dir)[:6] == quiet
    assert len(lines(run_dir)) == max(6, done)


def test_resume_goes_further(tmp_path: Path, quiet: list[str]) -> None:
    """A finished run goes on with more rounds as if it had been asked for them at once."""
    problem.train(tmp_path / "run", "inline", rounds=3, algorithm=fedray.Scaffold())
    problem.train(tmp_path / "run", "inline", rounds=6, resume=True, algorithm=fedray.Scaffold())
    assert lines(tmp_path / "run") == quiet

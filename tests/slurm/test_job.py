"""What Slurm's signals do to a run, without Slurm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir.lock import Owner, owner_of
from fedray.rundir.names import LOCK
from fedray.slurm import job as jobs
from fedray.slurm.allocation import Allocation
from fedray.slurm.commands import SlurmJob
from fedray.slurm.job import release, settle
from fedray.slurm.requeue import History

# A driver that says when it is asked to stop, and ends by being killed alone; standard input stands for the nodes.
JOB = """
import os, sys, threading
from fedray.slurm.job import Signals

DRIVER = '''
import os, signal
# print may be under way, and must not be called then
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"asked\\\\n"))
print("ready", flush=True)
while True:
    signal.pause()
'''
signals = Signals()
nodes = lambda: [signals.pass_on(int(line)) for line in sys.stdin]
threading.Thread(target=nodes, daemon=True).start()
status = signals.run([sys.executable, "-c", DRIVER], dict(os.environ), lambda: True)
print(status, signals.killed, signals.for_good)
"""


def test_nodes_and_slurm_ask_once_and_a_second_signal_of_slurm_kills() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", JOB], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as job:
        assert job.stdin is not None
        assert job.stdout is not None
        assert job.stderr is not None
        assert job.stdout.readline() == "ready\n"
        for _ in range(3):  # each node was sent the signal
            job.stdin.write(f"{signal.SIGTERM:d}\n")
        job.stdin.flush()
        assert job.stderr.readline().endswith("SIGTERM on a node: stopping with a checkpoint\n")
        assert job.stdout.readline() == "asked\n"
        job.send_signal(signal.SIGTERM)
        assert job.stderr.readline().endswith("SIGTERM: stopping with a checkpoint\n"), "the same event"
        job.send_signal(signal.SIGINT)
        assert job.stderr.readline().endswith("SIGINT: ending at once\n")
        assert job.stdout.read() == f"{128 + signal.SIGKILL} True True\n", "asked once"


@pytest.mark.parametrize(
    ("said", "released"),
    [
        ("echo JobState=TIMEOUT", True),
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", True),
        ("echo JobState=RUNNING", False),
        ("echo JobState=COMPLETING", False),
        ("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1", False),
    ],
)
def test_a_driver_whose_job_has_ended_holds_nothing(
    said: str, released: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on another node, whose processes cannot be seen from here."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\n[ "$*" = "show job -o 7" ] || exit 2\n{said}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    lock = tmp_path / LOCK
    lock.write_text(json.dumps(asdict(replace(Owner.me(), host="elsewhere", job="7"))))
    release(tmp_path)
    assert lock.exists() != released


def test_who_took_the_folder_while_slurm_was_asked_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = replace(Owner.me(), host="elsewhere", job="7")
    newcomer = replace(ended, job="9", token="newcomer")

    def slow(job: str) -> SlurmJob:
        assert job == "7"
        (tmp_path / LOCK).write_text(json.dumps(asdict(newcomer)))
        return SlurmJob(job, "COMPLETED")

    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setattr(jobs, "look_up", slow)
    (tmp_path / LOCK).write_text(json.dumps(asdict(ended)))
    release(tmp_path)
    assert owner_of(tmp_path) == newcomer
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.fixture(scope="module")
def shown() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command that shows a config, once for all who ask the same."""
    said: dict[str, subprocess.CompletedProcess[str]] = {}
    run = subprocess.run

    def asked(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if str(command) not in said:
            said[str(command)] = run(command, **options)
        return said[str(command)]

    return asked


@pytest.fixture
def made(shown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder of ``c.yaml`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs.subprocess, "run", shown)  # type: ignore[attr-defined]
    Path("c.yaml").write_text("{data: {name: digits}, model: {name: logistic}, run: {dir: made}}")
    return tmp_path / "made"


@pytest.mark.slow
def test_a_start_that_ended_while_it_made_the_run_folder_is_at_home_there(made: Path) -> None:
    job = Allocation(job=7, restart=0, nodes=1, node_list="n1", node="n1", cpus=1)
    # Whatever the job does next, it may be killed before it has done it.
    assert settle(["c.yaml"], job) == settle(["c.yaml"], replace(job, restart=1)) == made
    with pytest.raises(ConfigError, match="already holds a run"):
        settle(["c.yaml"], replace(job, job=8))


def test_of_two_jobs_that_make_one_run_folder_at_once_one_does(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = History.claim

    def late(self: History, path: Path) -> bool:
        """The other job comes between the look for a run and the claim."""
        assert claim(History(7), path)
        return claim(self, path)

    monkeypatch.setattr(History, "claim", late)
    with pytest.raises(ConfigError, match=r"job 7 makes a run in .*delete slurm.json there"):
        settle(["c.yaml"], Allocation(job=8, restart=0, nodes=1, node_list="n1", node="n1", cpus=1))
    assert not (made / "config.yaml").exists()

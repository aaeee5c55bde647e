"""Ray started ahead: there for the run, gone with whoever started it, and not there where nobody will want it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from fedray.cluster.start import head
from fedray.config.sections import ClusterSection, WorkerSection
from fedray.core.cpus import usable_cpus
from fedray.core.errors import RunFailed
from tests.cli.command import SMALL

MARK = "FEDRAY_TEST_MARK"
DEADLINE = 60.0


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """What all processes that a test starts have in their environment."""
    value = f"{os.getpid()}.{time.monotonic_ns()}"
    monkeypatch.setenv(MARK, value)
    return value


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not imported Ray yet, as the command line's is when it begins."""
    for name in ("RAY_ADDRESS", "RAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", "token"))
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if name != "ray"})
    yield
    assert head.take() is None


def marked(mark: str) -> list[str]:
    """Command lines of the processes alive that have the mark, but for this one and its threads."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["environ", "cmdline"])
        if (process.info["environ"] or {}).get(MARK) == mark
    ]


def ends(mark: str) -> bool:
    """Whether all of them are gone in time."""
    deadline = time.monotonic() + DEADLINE
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not marked(mark)


def test_what_nobody_took_is_ended_at_once(without_ray: None, mark: str) -> None:
    with head.ahead(ClusterSection(), WorkerSection()):
        assert len(marked(mark)) == 1
    assert ends(mark)


@pytest.mark.parametrize(
    ("cluster", "env"),
    [
        (ClusterSection(name="inline"), {}),
        (ClusterSection(dashboard=True), {}),
        (ClusterSection(), {"RAY_ADDRESS": "10.0.0.1:6379"}),
        (ClusterSection(), {"RAY_JOB_ID": "01000000"}),
    ],
)
def test_nothing_is_started_where_nobody_would_take_it(
    cluster: ClusterSection, env: dict[str, str], without_ray: None, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with head.ahead(cluster, WorkerSection()):
        assert not marked(mark)
        assert head.take() is None


def test_a_ray_that_cannot_start_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    failed = head.Head(1)
    with pytest.raises(RunFailed, match="did not start on this machine: exit status 1"):
        failed.address()
    failed.close()


@pytest.mark.parametrize(("workers", "cpus", "wanted"), [("auto", 1.0, 0), (1, 1.0, 1), (100, 0.5, 50), (3, 40.0, 120)])
def test_there_are_as_many_cpus_as_workers_want(workers: int | str, cpus: float, wanted: int) -> None:
    count = head.local_cpus(ClusterSection(workers=workers), WorkerSection(cpus=cpus))
    assert count == max(usable_cpus().count, wanted)


def test_the_cpus_and_what_bounds_them_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert head.local_cpus(ClusterSection(), WorkerSection()) == 1
    told = head.local_cpus_in_words(ClusterSection(), WorkerSection())
    assert told == f"CPUs for workers: {usable_cpus()}"
    asked = head.local_cpus_in_words(ClusterSection(workers=3), WorkerSection(cpus=1.5))
    assert asked == f"CPUs for workers: 5, as cluster.workers and worker.cpus ask; usable are {usable_cpus()}"


@pytest.mark.slow
def test_a_command_that_is_killed_leaves_no_ray(tmp_path: Path, mark: str) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)
    words = [config, "cluster.name=ray", "cluster.workers=1", "rounds=100000", f"run.dir={tmp_path / 'run'}", "-q"]
    with subprocess.Popen([sys.executable, "-m", "fedray", "run", *map(str, words)]) as command:
        metrics = tmp_path / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 2 * DEADLINE
        while not (metrics.exists() and metrics.stat().st_size):
            assert command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert any("fedray.cluster.start.head" in line for line in marked(mark))
        assert any("raylet" in line for line in marked(mark))
        command.send_signal(signal.SIGKILL)
    assert ends(mark), marked(mark)


@pytest.mark.slow
def test_a_run_bound_to_one_cpu_has_one_worker(tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)
    bound = "import psutil; own = psutil.Process(); own.cpu_affinity(own.cpu_affinity()[:1])"
    bound += "; from fedray.cli import main; main()"
    words = [config, "cluster.name=ray", "rounds=80", f"run.dir={tmp_path / 'run'}", "-q"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_JOB_ID")}
    subprocess.run([sys.executable, "-c", bound, "run", *map(str, words)], check=True, timeout=120, env=environment)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {record["workers"] for record in records} == {1}
    assert "CPUs for workers: 1 (" in (tmp_path / "run" / "log.txt").read_text()


def test_one_is_enough(without_ray: None, mark: str) -> None:
    """Whoever trains starts one; the command line has done so already."""
    with head.ahead(ClusterSection(), WorkerSection()):
        with head.ahead(ClusterSection(), WorkerSection()):
            assert len(marked(mark)) == 1
        assert len(marked(mark)) == 1
    assert ends(mark)


@pytest.mark.parametrize(("mode", "started"), [("token", 1), (None, 0)])
def test_a_ray_that_was_imported_without_a_word_on_tokens_is_started_by_itself(
    mode: str | None, started: int, without_ray: None, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    if mode is None:
        monkeypatch.delenv("RAY_AUTH_MODE")
    with head.ahead(ClusterSection(), WorkerSection()):
        assert len(marked(mark)) == started
    assert ends(mark)

"""The Ray cluster of a Slurm job, with a program of the test's own in the place of srun and of Ray's."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from fedray.core.errors import RunFailed
from fedray.slurm import cluster
from fedray.slurm.cluster import Nodes, RayCluster, environment, srun
from fedray.slurm.node import PASSED_ON
from fedray.slurm.private import Shared

NODES = Nodes(("n1", "n2"), "n1", "10.0.0.1:6379")

# Lives until the end of its input, as the step does; then it says what the test wants.
STEP = """
import sys
sys.stdout.write({said!r}); sys.stdout.flush()
sys.stdin.read()
sys.exit({status})
"""

Make = Callable[..., RayCluster]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes a cluster of programs: what the step says, and who is told to be there."""
    made: list[RayCluster] = []
    monkeypatch.setattr(cluster, "_PERIOD", 0.001)

    def begin(
        members: str = '["n1", "n2"]', said: str = "", on_signal: Callable[[int], None] = lambda number: None
    ) -> RayCluster:
        # It stands for "python -m fedray.cluster.start.members ADDRESS".
        asked = tmp_path / "members"
        asked.write_text(f"#!/bin/sh\n[ -n '{members}' ] && echo '{members}'\nexec sleep 600\n")
        asked.chmod(0o700)
        step = [sys.executable, "-c", STEP.format(said=said, status=0)]
        monkeypatch.setattr(cluster, "srun", lambda *_: step)
        shared = Shared(tmp_path)
        made.append(RayCluster(NODES, shared, [str(asked)], None, on_signal))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def test_all_that_joined_are_waited_for(make: Make) -> None:
    running = make()
    assert running.wait(60.0, lambda: False)
    assert running.lives()
    assert running.lost() == []


def test_who_is_missing_is_named(make: Make) -> None:
    running = make('["n1"]')
    assert running.lost() == ["n2"]
    with pytest.raises(RunFailed, match=r"^only [01] of 2 nodes joined in -1 s .*; missing: .*n2$"):
        running.wait(-1.0, lambda: False)


def test_a_job_that_is_asked_to_stop_waits_for_nobody(make: Make) -> None:
    assert not make("").wait(60.0, lambda: True)


def test_why_ray_could_not_start_is_told_by_node(make: Make, tmp_path: Path) -> None:
    running = make('["n1"]')
    Shared(tmp_path).report_failure("n2", "no space on /tmp")
    with pytest.raises(RunFailed, match=r"^Ray could not start on n2: no space on /tmp"):
        running.wait(60.0, lambda: False)


def test_a_step_that_ends_meanwhile_is_not_waited_for(make: Make) -> None:
    running = make('["n1"]')
    running.close()
    with pytest.raises(RunFailed, match=r"^srun ended with status 0 while Ray started"):
        running.wait(60.0, lambda: False)
    assert (running.lives(), running.lost()) == (False, ["n1", "n2"])


def test_a_signal_to_a_node_arrives_and_all_else_is_shown(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    arrived: list[int] = []
    done = Event()

    def signalled(number: int) -> None:
        arrived.append(number)
        done.set()

    running = make(said=f"ray complains\n{PASSED_ON}{signal.SIGTERM:d}\n", on_signal=signalled)
    assert done.wait(60)
    running.close()
    assert arrived == [signal.SIGTERM]
    assert capsys.readouterr().err == "ray complains\n"


def test_the_users_settings_win_over_ours_but_not_over_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_DEDUP_LOGS", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "3")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    made = environment("10.0.0.1:6379", Path("/run/token"), "ib0")
    assert made["RAY_worker_niceness"] == "3"
    assert made["RAY_DEDUP_LOGS"] == "0"
    assert (made["NCCL_SOCKET_IFNAME"], made["GLOO_SOCKET_IFNAME"]) == ("eth7", "ib0")
    assert made["RAY_AUTH_TOKEN_PATH"] == "/run/token"
    assert "RAY_AUTH_TOKEN" not in made, "given by value it would win over the file"


def test_one_task_on_each_node_beside_other_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    words = srun(NODES, Path("/shared"), ["apptainer", "exec", "image.sif", "python"], "ib0")
    assert words[0] == "srun"
    assert {"--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=6"} <= set(words)
    program = words[words.index("apptainer") :]
    assert program[:4] == ["apptainer", "exec", "image.sif", "python"]
    assert program[-2:] == ["--interface", "ib0"]
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert not any(word.startswith("--cpus-per-task") for word in srun(NODES, Path("/s"), ["python"], None))

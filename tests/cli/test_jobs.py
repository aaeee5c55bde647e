"""``fedray submit`` against a real Ray head with its dashboard on the loopback interface."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedray.cli.jobs import status_of
from fedray.cluster.jobs.client import Ended
from tests.cli.command import SMALL, Cli, hashes

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 120.0
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "ray-client-server-port",
)


@dataclass(frozen=True)
class Head:
    """A standing cluster of one node.

    Args:
        address: of its job server.
        home: the home folder of its jobs.
        environment: of who may submit to it.
    """

    address: str
    home: Path
    environment: dict[str, str]

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "fedray", *map(str, words), "--address", self.address]

    def submit(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Submit from the current folder, and follow."""
        return subprocess.run(
            self.command("submit", *words, "--follow"),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head of our own with token authentication, ended by its process id."""
    folder = Path(tempfile.mkdtemp(prefix="fr-", dir="/tmp"))  # a Unix socket's path must be short
    home, token = folder / "home", folder / "token"
    home.mkdir()
    token.write_text(secrets.token_hex(16))
    token.chmod(0o600)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    options = [f"--{name}={port}" for name, port in ports.items()]
    options += ["--num-cpus=3", "--object-store-memory=100000000", f"--temp-dir={folder}/ray"]
    options += ["--node-ip-address=127.0.0.1", "--include-dashboard=true", "--dashboard-host=127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options],
            env=environment | {"HOME": str(home)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        _wait_until_it_answers(address, token.read_text(), process, folder / "log")
        yield Head(address, home, environment)
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            # What it started is in its process group, and goes with it in any case.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_answers(address: str, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(f"{address}/api/version", headers={"Authorization": f"Bearer {token}"})
    limit = time.monotonic() + DEADLINE
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.1)


@pytest.mark.slow
def test_a_run_on_a_standing_cluster(head: Head, cli: Cli, small: Path) -> None:
    """A model of the user's own, a file of data, an override with blanks; the run ends up in the cluster's home."""
    Path("my data").mkdir()
    for name in ("a", "c", "test"):
        Path(f"my data/{name}.csv").write_text("u,v,y\n0,1,no\n5,6,yes\n1,0,no\n6,6,yes\n")
    Path("nets.py").write_text(
        "from torch import nn\ndef build(spec, width):\n"
        "    return nn.Sequential(nn.Linear(spec.shape[0], width), nn.ReLU(), nn.Linear(width, spec.outputs))\n"
    )
    data = "data={name: csv, train: [my data/a.csv, my data/c.csv], test: my data/test.csv, target: y}"
    changes = (data, "model={name: 'nets:build', width: 4}")
    outcome = head.submit(small, *changes)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "5 files" in outcome.stdout
    assert "round 3/3" in outcome.stdout
    assert outcome.stderr == ""
    (run_dir,) = (head.home / "runs" / "small").iterdir()
    assert f"results  ~/runs/small/{run_dir.name} (on the cluster)" in outcome.stdout.splitlines()[-1]
    assert cli("run", small, *changes, "run.dir=here", "-q").status == 0
    assert hashes(run_dir) == hashes(Path("here"))


@pytest.mark.slow
def test_the_exit_status_is_that_of_the_run(head: Head, small: Path, tmp_path: Path) -> None:
    assert head.submit(small, "run.dir=/proc/none").returncode == 2
    outcome = head.submit(small, f"run.dir={tmp_path}/out", "local.optimizer.lr=1e30", "failures.on_nonfinite=abort")
    assert outcome.returncode == 1
    assert "fedray: the run failed" in outcome.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_what_cannot_be_submitted_is_said_in_one_message(head: Head, small: Path) -> None:
    def refused(*words: object, **changed: str) -> str:
        arguments = [sys.executable, "-m", "fedray", "submit", *map(str, words)]
        ran = subprocess.run(
            arguments, env=head.environment | changed, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert ran.returncode == 2, ran.stdout + ran.stderr
        lines = ran.stderr.strip().splitlines()
        assert lines[0].startswith("fedray: ")
        assert len(lines) <= 3, ran.stderr
        return ran.stderr

    wrong = small.parent / "wrong"
    wrong.write_text("0" * 32)
    assert "oken" in refused(small, "--address", head.address, RAY_AUTH_TOKEN_PATH=str(wrong))
    (port,) = free_ports(1)
    # An address in the environment, which Ray prefers, does not lead to another cluster.
    assert "Failed to connect" in refused(
        small, "--address", f"http://127.0.0.1:{port}", RAY_API_SERVER_ADDRESS=head.address
    )


@pytest.mark.slow
@pytest.mark.parametrize("by", ["ray job stop", "fedray stop"])
def test_a_stopped_run_goes_on_by_another_job(by: str, head: Head, cli: Cli, small: Path, tmp_path: Path) -> None:
    """The run saves, and the follower learns its true status, of which Ray's own stop keeps none; Ray workers train."""
    small.write_text(SMALL.replace("rounds: 3", "rounds: 1000000").replace("name: inline", "name: ray, workers: 2"))
    out = tmp_path / "out"
    command = head.command("submit", small, f"run.dir={out}", "--follow")
    follower = subprocess.Popen(command, env=head.environment, stdout=subprocess.PIPE, text=True)
    try:
        metrics, limit = out / "metrics.jsonl", time.monotonic() + DEADLINE
        while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
            assert follower.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert follower.stdout is not None
        name = follower.stdout.readline().split()[1].rstrip(":")
        stop = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "job",
            "stop",
            "--no-wait",
            "--address",
            head.address,
            name,
        ]
        if by == "fedray stop":
            stop = head.command("stop", name)
        asked = subprocess.run(stop, env=head.environment, check=True, capture_output=True, text=True, timeout=DEADLINE)
        assert by == "ray job stop" or "its checkpoint is saved" in asked.stdout
        said = follower.communicate(timeout=DEADLINE)[0]
    finally:
        follower.kill()
    assert follower.returncode == 75, said
    done = json.loads((out / "summary.json").read_text())["rounds"]
    if by == "fedray stop":

        def call(*words: str) -> subprocess.CompletedProcess[str]:
            command = head.command(*words)
            return subprocess.run(
                command, env=head.environment, check=False, capture_output=True, text=True, timeout=DEADLINE
            )

        assert "round 1/" in call("logs", name).stdout
        again = call("stop", name)
        assert (again.returncode, "has ended" in again.stderr) == (2, True), again.stderr
    outcome = head.submit(small, f"run.dir={out}", f"rounds={done + 2}", "--resume")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert cli("run", small, f"rounds={done + 2}", "cluster={name: inline}", "run.dir=whole", "-q").status == 0
    assert hashes(out) == hashes(Path("whole"))


@pytest.mark.slow
def test_ray_job_submit_as_documented(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkout: ``ray job submit --working-dir . -- python -m fedray run configs/digits.yaml``."""
    for name in ("fedray", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)

    def submit(override: str) -> str:
        words = ["job", "submit", "--address", head.address, "--working-dir", ".", "--"]
        words += ["python", "-m", "fedray", "run", "configs/digits.yaml", "rounds=2", override]
        ran = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            env=head.environment,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    kept = submit(f"run.dir={tmp_path}/out")
    assert len(hashes(tmp_path / "out")) == 2
    assert "working directory of a Ray job" not in kept
    forgotten = submit("cluster.name=inline")
    assert forgotten.count("lies in the working directory of a Ray job") == 1


def test_a_run_folder_that_ray_will_delete_is_warned_of(
    cli: Cli, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unpacked = tmp_path / "ray/session_1/runtime_resources/working_dir_files/_ray_pkg_2"
    unpacked.mkdir(parents=True)
    monkeypatch.chdir(unpacked)
    assert cli("run", small, f"run.dir={tmp_path}/out", "-q").status == 0
    assert "Ray job" not in caplog.text
    assert cli("run", small, "-q").status == 0
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    for words in ("the run folder runs/small/", "absolute", "run.dir=$HOME/runs/NAME", "fedray submit"):
        assert words in warning


def test_an_address_is_needed(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    cli("submit", small).refused("--address", "http://HEAD:8265")
    cli("submit", small, "--address", "10.0.0.1:6379").refused("10.0.0.1:6379", "dashboard's URL")
    cli("submit", small, "--address", "http://x", "--resume").refused("run.dir=PATH")
    cli("submit", small, "rounds=x", "--address", "http://x").refused("rounds")


def test_without_the_extra(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.cluster.jobs.client.find_spec", lambda name: None)
    cli("submit", small, "--address", "http://127.0.0.1:1").refused("pip install 'fedray[jobs]'")


@pytest.mark.parametrize(
    ("ended", "state", "status"),
    [
        (Ended("SUCCEEDED", 0, ""), None, 0),
        (Ended("FAILED", 2, "Job entrypoint command failed with exit code 2"), None, 2),
        (Ended("FAILED", 75, ""), None, 75),
        (Ended("FAILED", None, "Unexpected error: the working directory\nis gone"), None, 1),
        (Ended("STOPPED", None, ""), "stopped", 75),
        (Ended("STOPPED", None, ""), "finished", 0),
        (Ended("STOPPED", None, ""), "early_stopped", 0),
        (Ended("STOPPED", None, ""), "interrupted", 1),
        (Ended("STOPPED", None, ""), None, 1),
    ],
)
def test_the_status_of_a_job_that_ended(ended: Ended, state: str | None, status: int) -> None:
    assert status_of(ended, state) == status

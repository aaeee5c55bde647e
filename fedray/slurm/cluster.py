"""The Ray cluster of a Slurm job: one step with a Ray node on every Slurm node, started, awaited, and stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedray import cluster  # our own package: it holds Ray's settings, and does not import Ray
from fedray.core.errors import RunFailed, listed
from fedray.slurm.node import PASSED_ON
from fedray.slurm.private import Shared

SETTINGS = {
    **cluster.SETTINGS,
    # Asked to end, Ray would wait 30 s for tasks, as long as Slurm waits before it kills.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # A node behind a dead link is missed after 9 s; by default after 64 s.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    # Nor does a head that has died come back, for which Ray's processes would wait 60 s before they end.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
}
_PERIOD = 0.1
_STOPPING = 30.0


@dataclass(frozen=True)
class Nodes:
    """The nodes of a job, with the head node of their Ray cluster.

    Args:
        names: the job's Slurm nodes.
        head: the one that this program runs on.
        address: ``host:port`` of the head's control store.
    """

    names: Sequence[str]
    head: str
    address: str


class RayCluster:
    """One Ray node on every node of the job, started at once.

    Args:
        nodes: the nodes.
        shared: the folder with the token.
        python: command that runs Python on the nodes.
        interface: network interface between the nodes.
        on_signal: called, in a thread of its own, with a signal that Slurm has sent to a node and not to this process.
    """

    def __init__(
        self,
        nodes: Nodes,
        shared: Shared,
        python: Sequence[str],
        interface: str | None,
        on_signal: Callable[[int], None],
    ) -> None:
        self._nodes, self._shared, self._python = nodes, shared, python
        self.env = environment(nodes.address, shared.token, interface)
        self._step = subprocess.Popen(
            srun(nodes, shared.path, python, interface),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.env,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, args=(on_signal,))
        self._listener.start()

    def _listen(self, on_signal: Callable[[int], None]) -> None:
        assert self._step.stdout is not None
        for line in self._step.stdout:
            if line.startswith(PASSED_ON):
                on_signal(int(line.removeprefix(PASSED_ON)))
            else:
                sys.stderr.write(line)

    def wait(self, seconds: float, stopping: Callable[[], bool]) -> bool:
        """Return when all nodes have joined; False if the job was asked to stop before.

        Raises:
            RunFailed: a node could not start Ray, or some did not join in ``seconds``; it names them.
        """
        deadline = time.monotonic() + seconds
        with Members(self._python, self.env, self._nodes.address) as members:
            while missing := [name for name in self._nodes.names if name not in members.names]:
                if stopping():
                    return False
                if failed := self._shared.failures():
                    said = (f"Ray could not start on {name}: {why}" for name, why in failed.items())
                    raise RunFailed(listed(said, separator="; "))
                if self._step.poll() is not None:
                    raise RunFailed(f"srun ended with status {self._step.returncode} while Ray started")
                if time.monotonic() > deadline:
                    there = len(self._nodes.names) - len(missing)
                    raise RunFailed(
                        f"only {there} of {len(self._nodes.names)} nodes joined in {seconds:g} s "
                        f"(cluster.start_timeout); missing: {listed(missing)}"
                    )
                time.sleep(_PERIOD)
        return True

    def lives(self) -> bool:
        """Return True if any node is left."""
        return self._step.poll() is None

    def lost(self) -> list[str]:
        """Return the nodes that are not in the cluster now."""
        if not self.lives():
            return list(self._nodes.names)
        with Members(self._python, self.env, self._nodes.address) as members:
            members.first.wait(_STOPPING)
            return [name for name in self._nodes.names if name not in members.names]

    def close(self) -> None:
        """Stop all nodes: at the end of their input they kill Ray, and clean up."""
        assert self._step.stdin is not None
        assert self._step.stdout is not None
        self._step.stdin.close()
        try:
            self._step.wait(_STOPPING)
        except subprocess.TimeoutExpired:
            self._step.terminate()  # srun then kills its tasks at once
            self._step.wait()
        self._listener.join()
        self._step.stdout.close()


class Members:
    """The members of the cluster, told by a process that may import Ray."""

    def __init__(self, python: Sequence[str], env: dict[str, str], address: str) -> None:
        self.names: list[str] = []
        self.first = threading.Event()
        self._asked = subprocess.Popen(
            [*python, "-m", "fedray.cluster.start.members", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            start_new_session=True,
        )

    def _read(self) -> None:
        assert self._asked.stdout is not None
        for line in self._asked.stdout:
            self.names = json.loads(line)
            self.first.set()

    def __enter__(self) -> Members:
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.kill()
        self._asked.wait()
        self._reader.join()
        assert self._asked.stdout is not None
        self._asked.stdout.close()


def environment(address: str, token: Path, interface: str | None) -> dict[str, str]:
    """Return this process's environment, with what Ray and the run need; the user's own settings win over ours."""
    chosen = {
        **SETTINGS,
        **(dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), interface) if interface else {}),
        **os.environ,
        "RAY_ADDRESS": address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PYTHONUNBUFFERED": "1",
    }
    # A token of the user's, given by value, would win over the file.
    chosen.pop("RAY_AUTH_TOKEN", None)
    return chosen


def srun(nodes: Nodes, shared: Path, python: Sequence[str], interface: str | None) -> list[str]:
    """Return the command that starts one Ray node on each Slurm node."""
    count = len(nodes.names)
    step = [
        "srun",
        "--overlap",  # else no other step of the job could run
        f"--nodes={count}",
        f"--ntasks={count}",
        "--ntasks-per-node=1",
        "--no-kill",
        "--kill-on-bad-exit=0",
        "--wait=0",
        "--mpi=none",
        "--cpu-bind=none",
        "--export=ALL",
        "--job-name=ray",
        *([f"--cpus-per-task={cpus}"] if (cpus := os.environ.get("SLURM_CPUS_PER_TASK")) else []),
    ]
    node = ["-m", "fedray.slurm.node", "--shared", str(shared), "--head", nodes.head, "--address", nodes.address]
    return [*step, *python, *node, *(["--interface", interface] if interface else [])]

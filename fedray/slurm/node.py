"""One Ray node of a Slurm job, run by srun on each node: ``python -m fedray.slurm.node``.

It lives as long as its standard input, which srun carries to every node: when the job closes it, or dies, Ray is killed
everywhere.  Nothing is left behind, and nothing that it did not start is touched.

Slurm's signals do not end it, nor Ray: the run needs both to save its checkpoint.  They are passed on to the job.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from fedray.core.errors import ConfigError
from fedray.slurm.allocation import Allocation
from fedray.slurm.network import Ports, choose_ports, own_address
from fedray.slurm.private import Shared, node_folder, node_path, temporary_folder

_STORE_SHARE, _SHM_SHARE = 0.3, 0.9
_SMALLEST_STORE = 80 << 20  # Ray refuses less
_TAIL = 5
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})

PASSED_ON = "fedray: signal "
"""The beginning of a line on standard output that ends with the number of a signal."""


def memory_split(memory: int, shm: int) -> tuple[int, int]:
    """Split the memory that Slurm gave into bytes for tasks and for the object store.

    Args:
        memory: bytes allocated on the node.
        shm: size of its shared memory file system, where the store lies.

    >>> memory_split(10_000_000_000, 1_000_000_000)
    (9100000000, 900000000)
    """
    store = max(_SMALLEST_STORE, min(int(memory * _STORE_SHARE), int(shm * _SHM_SHARE)))
    return max(memory - store, 0), store


def ray_command(
    allocation: Allocation, ports: Ports, address: str, head: str | None, temp: Path, shm: int
) -> list[str]:
    """Return the arguments of ``ray start`` on this node.

    Args:
        allocation: this node's share of the job.
        ports: a free block of ports.
        address: this node's address.
        head: the head's ``address:port``; None: this is the head.
        temp: folder for Ray's files, which Ray makes and opens to everybody: so it lies in one that is closed.
        shm: bytes of shared memory on this node.
    """
    metrics, grpc, http, environments = ports.agents
    options: dict[str, object] = {
        "node-name": allocation.node,
        "node-ip-address": address,
        "num-cpus": allocation.cpus,
        "num-gpus": allocation.gpus,
        "labels": f"node={allocation.node}",
        "temp-dir": temp,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "metrics-export-port": metrics,
        "dashboard-agent-grpc-port": grpc,
        "dashboard-agent-listen-port": http,
        "runtime-env-agent-port": environments,
        "include-log-monitor": "false",
    }
    if allocation.memory is not None:
        options["memory"], options["object-store-memory"] = memory_split(allocation.memory, shm)
    if head is None:
        options |= {"port": ports.control, "ray-client-server-port": ports.client, "include-dashboard": "false"}
    else:
        options["address"] = head
    role = ["--head", "--no-monitor"] if head is None else []
    flags = [f"--{name}={value}" for name, value in options.items()]
    return ["start", *role, *flags, "--log-style=record", "--log-color=false", "--block"]


def raise_limits() -> None:
    """Allow as many open files as the site lets us, and no core dumps: Ray's processes have many files."""
    for kind, wanted in ((resource.RLIMIT_NOFILE, None), (resource.RLIMIT_CORE, 0)):
        soft, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (hard if wanted is None else min(soft, wanted) if soft >= 0 else wanted, hard))


def adopt_orphans() -> None:
    """Become the parent of whatever this process's descendants leave behind: Ray's agents outlive it by seconds."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill what is left of this process's descendants."""
    # Those of a child that ends become ours, so they are looked for again.
    while children := psutil.Process().children():
        for child in children:
            child.kill()
            child.wait()


def outlive_signals() -> None:
    """Pass signals on to the job, on standard output.

    Blocked signals stay blocked in whatever this process starts, and what that starts.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    threading.Thread(target=_pass_on, daemon=True).start()


def _pass_on() -> None:
    with suppress(OSError):  # nobody reads: then standard input ends as well
        while True:
            os.write(1, f"{PASSED_ON}{signal.sigwait(_SIGNALS):d}\n".encode())


class RayNode:
    """The ``ray start --block`` of this node, until the job is over."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self._log = log
        self._stopping = False
        with log.open("w") as out:
            # Standard input is ours: whoever reads it sees the end of the job.
            self._ray = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
            )
        threading.Thread(target=self._until_end_of_input, daemon=True).start()

    def _until_end_of_input(self) -> None:
        while os.read(0, 4096):
            pass
        self._stopping = True
        # Its children die with it, or are ours then: Ray has nothing to save, and keeps all its files in our folder.
        self._ray.kill()

    def wait(self) -> str | None:
        """Wait for its end; None if the job is over, else the last it said."""
        status = self._ray.wait()
        end_descendants()
        if self._stopping:
            return None
        last = self._log.read_text().strip().splitlines()[-_TAIL:]
        return f"ray start ended with status {status}: {' / '.join(last)}"


def main() -> int:
    """Start this node's Ray and wait; exit status 0 if it lived as long as the job."""
    outlive_signals()
    parser = argparse.ArgumentParser(prog="python -m fedray.slurm.node")
    parser.add_argument("--shared", type=Path, required=True, help="folder that the job's nodes share")
    parser.add_argument("--head", required=True, help="name of the head's node")
    parser.add_argument("--address", required=True, help="the head's address:port")
    parser.add_argument("--interface", help="network interface to use")
    args = parser.parse_args()
    shared = Shared(args.shared)
    allocation = Allocation.from_env(os.environ)
    host, _, port = args.address.rpartition(":")
    try:
        raise_limits()
        adopt_orphans()
        with node_folder(node_path(allocation), temporary_folder(allocation)) as folder:
            if allocation.node == args.head:
                ports, address, head = Ports(int(port)), host, None
            else:
                address = own_address(args.interface, host)
                ports, head = choose_ports(allocation.job, address), args.address
            shm = shutil.disk_usage("/dev/shm").total
            command = ray_command(allocation, ports, address, head, folder / "ray", shm)
            env = {**os.environ, "TMPDIR": str(temporary_folder(allocation))}
            ray = RayNode(command, env, folder / "start.log")
            failure = ray.wait()
    except (ConfigError, OSError) as error:
        failure = str(error)
    if failure is None:
        return 0
    sys.stderr.write(f"{allocation.node}: {failure}\n")
    if shared.path.is_dir():
        shared.report_failure(allocation.node, failure)
    return 1


if __name__ == "__main__":
    sys.exit(main())

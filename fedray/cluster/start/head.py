"""The head node of a Ray on this machine, started by another process while this one still imports and reads."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fedray.config.sections import ClusterSection, WorkerSection
from fedray.core.cpus import usable_cpus
from fedray.core.errors import RunFailed

_AUTH = "RAY_AUTH_MODE"
_PATIENCE = 30.0
# A notebook may have fedray on its path by a line of its own, which another process does not know of.
_CODE = f"import sys; sys.path.append({str(Path(__file__).parents[3])!r}); from {__name__} import main; main()"


def joins() -> bool:
    """Return True if the environment names a Ray cluster to join, so that no head node is started here."""
    return "RAY_JOB_ID" in os.environ or "RAY_ADDRESS" in os.environ


def connected() -> bool:
    """Return True if this process is connected to a Ray cluster, which is then used as it is."""
    if "ray" not in sys.modules:
        return False
    import ray

    return bool(ray.is_initialized())


def local_cpus(cluster: ClusterSection, worker: WorkerSection) -> int:
    """Return the number of CPUs for a Ray of this machine: those that we may use, or more if the workers want more."""
    return max(usable_cpus().count, _asked(cluster, worker))


def local_cpus_in_words(cluster: ClusterSection, worker: WorkerSection) -> str:
    """Return :func:`local_cpus` in words, with what bounds it, for the log."""
    usable, asked = usable_cpus(), _asked(cluster, worker)
    if asked > usable.count:
        return f"CPUs for workers: {asked}, as cluster.workers and worker.cpus ask; usable are {usable}"
    return f"CPUs for workers: {usable}"


def _asked(cluster: ClusterSection, worker: WorkerSection) -> int:
    workers = cluster.workers if isinstance(cluster.workers, int) else 1
    return math.ceil(workers * worker.together.cpus - 1e-9)


def start(cpus: int, dashboard: bool = False) -> None:
    """Start a head node on this machine, and connect this process to it.

    Args:
        cpus: CPUs for workers; there is one more, so that the driver's process, too, is started ahead.
        dashboard: start the dashboard, on the loopback interface.
    """
    import ray

    ray.init(
        address="local",
        num_cpus=cpus + 1,
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        logging_level=logging.ERROR,
        log_to_driver=False,
    )


class Head:
    """The process of the head node.  It ends, and Ray with it, when this process closes it or dies.

    Args:
        cpus: see :func:`start`.
    """

    def __init__(self, cpus: int) -> None:
        self._address = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(cpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C at a terminal goes to a whole session: it is this process that stops Ray, when all is saved.
            start_new_session=True,
        )

    def address(self) -> str:
        """Wait until the head node is up, and return its address.

        Raises:
            RunFailed: it did not come up.
        """
        if not self._address:
            assert self._process.stdout is not None
            self._address = self._process.stdout.readline().decode().strip()
        if not self._address:
            raise RunFailed(f"Ray did not start on this machine: exit status {self._process.wait()}, see above")
        return self._address

    def close(self) -> None:
        """End the head node: by force before it is up, as there is nothing to lose yet."""
        if not self._address:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_ahead: Head | None = None


@contextlib.contextmanager
def ahead(cluster: ClusterSection, worker: WorkerSection) -> Iterator[None]:
    """Start the head node ahead, if these sections will want one and none is under way already.

    Where Ray was imported before it could be told how to authenticate, it is started with the connection instead.
    """
    global _ahead
    told = "ray" not in sys.modules or _AUTH in os.environ
    wanted = cluster.name == "ray" and not cluster.dashboard and sys.platform == "linux"
    if wanted and told and _ahead is None and not joins() and not connected():
        # What Ray does by default for one that it starts, and not for one that it is told to connect to.
        os.environ.setdefault(_AUTH, "token")
        _ahead = Head(local_cpus(cluster, worker))
    else:
        yield
        return
    try:
        yield
    finally:
        if left := take():
            left.close()


def take() -> Head | None:
    """Hand over the head node that :func:`ahead` started to the first who asks, who closes it."""
    global _ahead
    head, _ahead = _ahead, None
    return head


def await_ahead() -> None:
    """Wait until the head node that :func:`ahead` started is up, if it started one.

    Until then there is nothing that a signal could tear.

    Raises:
        RunFailed: it did not come up.
    """
    if _ahead is not None:
        _ahead.address()


def main() -> None:
    """Start a head node, print its address, and shut it down when standard input ends."""
    import ray

    start(int(sys.argv[1]))
    with contextlib.suppress(BrokenPipeError):  # whoever asked for it is gone; so is its end of standard input
        sys.stdout.write(f"{ray.get_runtime_context().gcs_address}\n")
        sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()

"""Starting Ray for a run, or using the Ray that is there, and ending only what was started."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from fedray.errors import ConfigError


@dataclass(frozen=True)
class Cluster:
    """A Ray connection.

    Args:
        started: this process started Ray or connected to it, and :meth:`close` ends that.
        driver_cpus: CPUs kept for the driver: in a Ray started here there is one more than for the workers, so that its
            process, too, is started ahead.
    """

    started: bool
    driver_cpus: int = 0

    @classmethod
    def connect(cls, cpus: int, dashboard: bool = False) -> Cluster:
        """Use Ray as it is if this process is connected; join the cluster of a Ray job; else start Ray on this machine.

        Args:
            cpus: CPUs for workers of a Ray started here; one more stands for the driver.
            dashboard: start the dashboard, on the loopback interface.
        """
        import ray

        if dashboard and find_spec("aiohttp") is None:
            raise ConfigError("cluster.dashboard: Ray's dashboard is not installed; pip install 'fedray[jobs]'")
        if ray.is_initialized():
            return cls(started=False)
        with _kept_handlers():
            return cls._start(cpus, dashboard)

    @classmethod
    def _start(cls, cpus: int, dashboard: bool) -> Cluster:
        import ray

        inside_job = "RAY_JOB_ID" in os.environ or "RAY_ADDRESS" in os.environ
        if inside_job:
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
            return cls(started=True)
        ray.init(
            address="local",
            num_cpus=cpus + 1,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        return cls(started=True, driver_cpus=1)

    def close(self) -> None:
        """Disconnect, and end Ray if it was started here."""
        import ray

        if self.started:
            ray.shutdown()


@contextlib.contextmanager
def _kept_handlers() -> Iterator[None]:
    """``ray.init`` puts a handler of its own in the place of SIGTERM's, which ends the process with Ray's status."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

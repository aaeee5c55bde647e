"""Starting Ray for a run, or using the Ray that is there, and ending only what was started."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

QUIET = {
    "RAY_worker_niceness": "0",  # Ray's default of 15 starves workers on a shared machine
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Prestarted workers import what actors need while the rest comes up.  Undocumented: without it, start is slower.
    "RAY_preload_python_modules": "fedray.ray.driver",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


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
    def connect(cls, cpus: int, gpus: int | None = None) -> Cluster:
        """Use Ray as it is if this process is connected; join the cluster of a Ray job; else start Ray on this machine.

        Args:
            cpus: CPUs for workers of a Ray started here; one more stands for the driver.
            gpus: GPUs of a Ray started here; default all that are found.
        """
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            return cls(started=False)
        inside_job = "RAY_JOB_ID" in os.environ or "RAY_ADDRESS" in os.environ
        if inside_job:
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
            return cls(started=True)
        ray.init(
            address="local",
            num_cpus=cpus + 1,
            num_gpus=gpus,
            include_dashboard=False,
            dashboard_host="127.0.0.1",
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=True,
        )
        return cls(started=True, driver_cpus=1)

    def close(self) -> None:
        """Disconnect, and end Ray if it was started here."""
        import ray

        if self.started:
            ray.shutdown()

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
    "RAY_preload_python_modules": "torch",  # prestarted workers import torch while the rest comes up
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


@dataclass(frozen=True)
class Cluster:
    """A Ray connection.

    Args:
        started: this process started Ray, and :meth:`close` ends it.
    """

    started: bool

    @classmethod
    def connect(cls, cpus: int | None = None, gpus: int | None = None) -> Cluster:
        """Use Ray as it is if this process is connected; join the cluster of a Ray job; else start Ray on this machine.

        Args:
            cpus: CPUs of a Ray started here; default all.
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
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            dashboard_host="127.0.0.1",
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=True,
        )
        return cls(started=True)

    def close(self) -> None:
        """Disconnect, and end Ray if it was started here."""
        import ray

        if self.started:
            ray.shutdown()

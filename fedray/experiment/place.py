"""The place of a run: its cluster, its workers and its driver."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fedray.config.sections import ClusterSection, DriverSection, WorkerSection
from fedray.core.errors import ConfigError, counted
from fedray.data import ClientData
from fedray.data.sites import Sites
from fedray.experiment.launchers import LAUNCHERS, Launcher
from fedray.run.worker import devices_of


@dataclass(frozen=True)
class Place:
    """The place of a run."""

    cluster: ClusterSection = field(default_factory=ClusterSection)
    worker: WorkerSection = field(default_factory=WorkerSection)
    driver: DriverSection = field(default_factory=DriverSection)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """The devices of each worker."""
        return devices_of(self.worker.gpus)

    @property
    def launcher(self) -> Launcher:
        """The launcher of a run here."""
        return LAUNCHERS[self.cluster.name]

    def most_devices(self, data: ClientData) -> int:
        """Return the most devices that a worker has, those that silos have for themselves included."""
        own = [worker.gpus for worker in self._silos_own(data).values()]
        return max(len(devices_of(gpus)) for gpus in (self.worker.gpus, *own))

    def ranks(self, data: ClientData) -> dict[str, int]:
        """Return the ranks of those workers that have several, by what says so: the workers', and silos' own."""
        said = {"worker.ranks": self.worker.ranks}
        said |= {f"silo {name!r}: ranks": worker.ranks for name, worker in self._silos_own(data).items()}
        return {name: ranks for name, ranks in said.items() if ranks > 1}

    def _silos_own(self, data: ClientData) -> dict[str, WorkerSection]:
        """Return the workers that silos have for themselves, by name: none in one process, whatever their sizes."""
        owns = {} if self.launcher.in_process else data.silos
        return {name: silo.own for name, silo in owns.items() if silo.own is not None}

    def check_timeout(self, block_timeout: float | None) -> None:
        """Raise ConfigError if ``failures.block_timeout`` is set where there is no worker to replace."""
        if block_timeout is not None and self.launcher.in_process:
            raise ConfigError(
                f"failures.block_timeout: with cluster.name={self.cluster.name} there is no worker process to "
                "replace; set cluster.name=ray, or leave it out"
            )

    def check_ranks(self) -> None:
        """Raise ConfigError if workers are to have several ranks where they are no processes of their own."""
        said = f"worker.ranks={self.worker.ranks}"
        if self.worker.ranks > 1 and self.launcher.in_process:
            raise ConfigError(f"{said}: with cluster.name={self.cluster.name} a worker is this process; set ray, or 1")

    def sites(self) -> Sites:
        """Return where data that stays in its place is asked.

        That is on the cluster's nodes, or, with ``inline``, in this process.
        """
        return self.launcher.sites(self.cluster)

    def check(self) -> None:
        """Raise ConfigError if more is asked for than a cluster started on this machine would have."""
        self.launcher.check()
        workers = self.cluster.workers if isinstance(self.cluster.workers, int) else 1
        wanted = self.driver.gpus + workers * self.worker.together.gpus
        found = torch.cuda.device_count()
        section = "worker" if self.worker.gpus else "driver"
        if wanted > found and not self.launcher.elsewhere():
            raise ConfigError(
                f"{section}.gpus: {counted(workers, 'worker')} and the driver want {counted(wanted, 'GPU')}, and this "
                f"machine has {found}; "
                "lower worker.gpus, cluster.workers or driver.gpus, or join a cluster that has them (RAY_ADDRESS)"
            )

"""Launchers of a run, one for each ``cluster.name``.

A launcher knows which data and workers a run can have, starts it, and streams its records.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from fedray.config.sections import ClusterSection, DriverSection, WorkerSection
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.data.sites import Sites, here
from fedray.run.driver import Run
from fedray.run.ending import OnStop
from fedray.run.executor import InlineExecutor
from fedray.run.interrupt import held
from fedray.run.worker import devices_of
from fedray.rundir.folder import RunFolder

_SYSTEMS = {"darwin": "macOS", "win32": "Windows"}


class Launcher(Protocol):
    """A way to start a run."""

    @property
    def in_process(self) -> bool:
        """True where worker and driver are this process: no worker can be replaced, and no silo has one of its own."""

    def check(self) -> None:
        """Raise ConfigError if such a run cannot be started from this process."""

    def elsewhere(self) -> bool:
        """Return whether the workers' GPUs need not be those of this machine."""

    def sites(self, cluster: ClusterSection) -> Sites:
        """Return where data that stays in its place is asked."""

    def records(
        self,
        run: Run,
        cluster: ClusterSection,
        worker: WorkerSection,
        driver: DriverSection,
        block_timeout: float | None,
        on_stop: OnStop,
    ) -> Iterator[RoundRecord]:
        """Run; see :meth:`fedray.experiment.experiment.Experiment.records`."""


class Inline:
    """The launcher of a run in this process."""

    in_process = True

    def check(self) -> None:
        """Accept every system: nothing is started."""

    def elsewhere(self) -> bool:
        """Return False."""
        return False

    def sites(self, cluster: ClusterSection) -> Sites:
        """Return this process, as if it were at every site."""
        return here()

    def records(
        self,
        run: Run,
        cluster: ClusterSection,
        worker: WorkerSection,
        driver: DriverSection,
        block_timeout: float | None,
        on_stop: OnStop,
    ) -> Iterator[RoundRecord]:
        """Run here."""
        asked: list[str | None] = []
        on_stop(lambda reason=None: asked.append(reason))
        stopping, ending = lambda: None in asked, lambda: next(filter(None, asked), None)
        return run.records(lambda job: InlineExecutor(job, devices_of(worker.gpus)), stopping, ending)


class OnRay:
    """The launcher on worker actors of a Ray that is connected, named by the environment, or started."""

    in_process = False

    def check(self) -> None:
        """Raise ConfigError on a system without the shared memory and sockets that workers are reached by."""
        if sys.platform != "linux":
            system = _SYSTEMS.get(sys.platform, sys.platform)
            raise ConfigError(f"cluster.name: workers on Ray need Linux, and this is {system}; set cluster.name=inline")

    def elsewhere(self) -> bool:
        """Return whether there is a Ray already."""
        from fedray.cluster.start.head import connected, joins

        return joins() or connected()

    def sites(self, cluster: ClusterSection) -> Sites:
        """Return the nodes of the cluster."""
        from fedray.cluster.place.sites import RaySites

        return RaySites(cluster.patience)

    def records(
        self,
        run: Run,
        cluster: ClusterSection,
        worker: WorkerSection,
        driver: DriverSection,
        block_timeout: float | None,
        on_stop: OnStop,
    ) -> Iterator[RoundRecord]:
        """Run there, with the data in files that the workers of a node share."""
        with held():
            from fedray.cluster.launch import records_on_ray
            from fedray.cluster.start.head import ahead
            from fedray.rundir.scratch import scratch

        with scratch() as folder, ahead(cluster, worker):
            task = replace(run.plan.task, data=run.plan.task.data.share(folder))
            # The driver's working directory may be another one.
            there = RunFolder(run.folder.path.absolute())
            run = replace(run, plan=replace(run.plan, task=task), folder=there)
            yield from records_on_ray(run, cluster, worker, driver, block_timeout, on_stop)


class OnSlurm(OnRay):
    """The launcher on worker actors of the Ray that the batch script of a Slurm job has started on its nodes."""

    def check(self) -> None:
        """Raise ConfigError outside of such a job, too."""
        super().check()
        from fedray.cluster.start.head import joins

        if not joins():
            raise ConfigError(
                "cluster.name: slurm runs in a Slurm job; submit it with `fedray slurm`, or train here with "
                "cluster.name=ray"
            )


LAUNCHERS: Mapping[str, Launcher] = {"inline": Inline(), "ray": OnRay(), "slurm": OnSlurm()}

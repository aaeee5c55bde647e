"""The launch of a run on Ray: connect, start the driver actor, stream its records, shut down what was started."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

from fedray.cluster.driver import ask_to_stop, driver_actor, stream
from fedray.cluster.place.placement import Size, alive
from fedray.cluster.place.slots import Silo, WorkerArgs
from fedray.cluster.start.connect import Cluster
from fedray.cluster.start.head import await_ahead, local_cpus, local_cpus_in_words
from fedray.config.binding import options_of
from fedray.config.sections import ClusterSection, DriverSection, WorkerSection
from fedray.core.errors import ConfigError, listed
from fedray.core.record import RoundRecord
from fedray.core.stages import stage
from fedray.data.sites import Silo as DataSilo
from fedray.run.driver import Run
from fedray.run.ending import OnStop
from fedray.run.interrupt import held


def records_on_ray(
    run: Run,
    cluster: ClusterSection,
    worker: WorkerSection,
    driver: DriverSection,
    block_timeout: float | None,
    on_stop: OnStop,
) -> Iterator[RoundRecord]:
    """Launch a run on Ray and yield its records, see ``fedray.experiment.build.Experiment.records``."""
    stage("starting Ray")
    await_ahead()
    with ExitStack() as left:
        # Until the run can be asked to stop, a signal would leave half of what is started here.
        with held():
            connection = Cluster.connect(local_cpus(cluster, worker), cluster.dashboard)
            left.callback(connection.close)
            if connection.driver_cpus:
                run = replace(run, notes=(*run.notes, local_cpus_in_words(cluster, worker)))
            own = Size(max(driver.cpus, connection.driver_cpus), driver.gpus)
            args = WorkerArgs(
                **{option: getattr(cluster, option) for option in options_of(ClusterSection)}
                | {"start_timeout": cluster.patience},
                size=_together(worker),
                silos=_silos(run.plan.task.data.silos),
                driver=own,
                block_timeout=block_timeout,
                ranks=worker.ranks,
            )
            stage("starting the driver")
            actor = left.enter_context(driver_actor(own))
            stopping, reasons = threading.Event(), list[str]()

            def stop(reason: str | None = None) -> None:
                if reason is not None:
                    reasons.append(reason)  # goes with the answer to the record by which it was given
                else:
                    stopping.set()
                    ask_to_stop(actor)

            on_stop(stop)
        yield from stream(actor, run, args, stopping.is_set, lambda: reasons[0] if reasons else None)


def _silos(silos: Mapping[str, DataSilo]) -> dict[str, Silo]:
    """Return the node of each silo, and the size of its own worker, if it is to have one.

    Raises:
        ConfigError: a worker that none of the nodes it could be on has room for, however long it waits.
    """
    placed = {name: _placed(silo) for name, silo in silos.items()}
    nodes = alive() if placed else []
    for name, silo in placed.items():
        there = [node for node in nodes if node.holds(silo.where)]
        if silo.size is not None and there and not any(silo.size.fits(node.resources) for node in there):
            has = listed(f"{node.name} ({node.size})" for node in there)
            raise ConfigError(f"silo {name!r}: its worker wants {silo.size}; where {silo.where} is, there is {has}")
    return placed


def _placed(silo: DataSilo) -> Silo:
    return Silo(silo.where) if silo.own is None else Silo(silo.where, _together(silo.own), silo.own.ranks)


def _together(worker: WorkerSection) -> Size:
    """Return what all ranks of a worker reserve."""
    whole = worker.together
    return Size(whole.cpus, whole.gpus, int(whole.memory * 1e9))

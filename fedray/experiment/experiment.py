"""A run and the place where it runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from fedray.cluster.jobs.submission import short_lived
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.experiment.place import Place
from fedray.models.prototype import forget
from fedray.run.driver import Run
from fedray.run.ending import OnStop
from fedray.run.interrupt import StoppedEarly, held
from fedray.rundir.lock import starting_a_driver, taken_over_from
from fedray.tracking.callbacks import Callbacks

_log = logging.getLogger("fedray")


@dataclass(frozen=True)
class Experiment:
    """A run, its place and its callbacks, ready to start."""

    run: Run
    place: Place
    callbacks: Callbacks = field(default_factory=Callbacks)

    def records(self, on_stop: OnStop = lambda stop: None) -> Iterator[RoundRecord]:
        """Run; yields each round's record when it is complete.

        Args:
            on_stop: is given a function that asks the run to stop with a checkpoint or, called with a reason, to end.

        Raises:
            RunFailed: the run could not go on; see ``fedray.run.driver.Run.records``.
            ConfigError: the folder holds another run, or a mistake found when it started; a fresh run's folder is free
                again, as it is after a signal that came before the run began.
        """
        if warning := short_lived(self.run.folder.path):
            _log.warning("%s", warning)
        run, claimed, done = self.run, False, False
        run.warn()
        try:
            if not run.resume:
                with held():
                    run.folder.claim(run.config, run.code)
                    claimed = True
            with starting_a_driver(run.folder.path) as (token, dead):
                warnings = run.warnings if dead is None else (taken_over_from(dead), *run.warnings)
                begun = replace(run, started_by=token, warnings=warnings)
                place, timeout = self.place, run.plan.failures.block_timeout
                if not place.launcher.in_process:
                    forget(run.plan.task.model_fn)  # as large as the model, and for the length of the run
                for record in place.launcher.records(
                    begun, place.cluster, place.worker, place.driver, timeout, on_stop
                ):
                    done = True
                    yield record
            if claimed and not done:
                raise StoppedEarly(f"stopped before the first round; nothing is left in {run.folder.path}")
        except BaseException as error:
            failed = isinstance(error, Exception) and not isinstance(error, (ConfigError, StoppedEarly))
            if claimed and not (failed and run.folder.log.exists()):
                run.folder.unclaim()
            raise

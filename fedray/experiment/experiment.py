"""A run and the place where it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedray.cluster.jobs.submission import short_lived
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.experiment.place import Place
from fedray.run.driver import Run

_log = logging.getLogger("fedray")


@dataclass(frozen=True)
class Experiment:
    """A run and its place, ready to start."""

    run: Run
    place: Place

    def records(self, on_stop: Callable[[Callable[[], None]], None] = lambda stop: None) -> Iterator[RoundRecord]:
        """Run; yields each round's record when it is complete.

        Args:
            on_stop: is given a function that asks the run to end with a checkpoint.

        Raises:
            RunFailed: the run could not go on; see ``fedray.run.driver.Run.records``.
            ConfigError: a mistake found when it started; a fresh run's folder is free again.
        """
        if warning := short_lived(self.run.folder.path):
            _log.warning("%s", warning)
        self.run.warn()
        try:
            place, timeout = self.place, self.run.plan.failures.block_timeout
            yield from place.launcher.records(self.run, place.cluster, place.worker, place.driver, timeout, on_stop)
        except ConfigError:
            if not self.run.resume:
                self.run.folder.unclaim()
            raise

"""Traces of rounds: what the driver and the workers do, operation by operation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from fedray.core.errors import one_line

_log = logging.getLogger(__name__)

FOLDER = "profile"
"""The folder of a run's traces."""


@dataclass(frozen=True)
class Profile:
    """The rounds of a run of which there are to be traces.

    Args:
        folder: of the traces; made if missing.
        first: the first round.
        last: the last one.
    """

    folder: Path
    first: int
    last: int

    @property
    def words(self) -> str:
        """The line for the head of the log."""
        which = f"round {self.first}" if self.first == self.last else f"rounds {self.first} to {self.last}"
        return (
            f"profile: a trace of {which} of the driver and of each worker goes into {self.folder}, for "
            "https://ui.perfetto.dev or chrome://tracing; such rounds take longer"
        )


class Tracer:
    """The writer of the trace of one process.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> tracer = Tracer(Profile(folder, 2, 3), "driver")
    >>> for round in (1, 2, 3):
    ...     tracer.enter(round)
    ...     _ = torch.ones(2, 2) @ torch.ones(2, 2)
    >>> tracer.close()
    >>> [path.name for path in folder.iterdir()]
    ['driver.json.gz']

    Args:
        wanted: the rounds; None: there is nothing to trace.
        name: of the process, ``driver``, or a worker's, ``node1/0``.
    """

    def __init__(self, wanted: Profile | None, name: str) -> None:
        self._wanted, self._name = wanted, name
        self._running: profile | None = None
        self._marks = contextlib.ExitStack()

    def enter(self, round: int) -> None:
        """Begin the work of a round, which the trace names."""
        if self._wanted is None:
            return
        if self._running is not None:
            self._marks.close()
        if not self._wanted.first <= round <= self._wanted.last:
            self.close()
            return
        if self._running is None:
            kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self._running = profile(activities=kinds, profile_memory=True)
            self._carefully(self._running.start)
        self._marks.enter_context(torch.profiler.record_function(f"round {round}"))

    def leave(self, round: int) -> None:
        """End the work of a round; after the last one the trace is written, as a process may be ended at any time."""
        if self._running is not None and self._wanted is not None and round >= self._wanted.last:
            self.close()

    def close(self) -> None:
        """Write the trace, where one was begun."""
        running, self._running = self._running, None
        if running is None or self._wanted is None:
            return
        self._marks.close()
        path = self._wanted.folder / f"{self._name.replace('/', '-')}.json.gz"

        def write() -> None:
            running.stop()
            path.parent.mkdir(parents=True, exist_ok=True)
            running.export_chrome_trace(str(path))

        self._carefully(write)

    def _carefully(self, do: Callable[[], object]) -> None:
        """Do something that must not end a run: no trace is worth its rounds."""
        try:
            do()
        except Exception as error:
            _log.warning("profile: there is no trace of %s: %s", self._name, one_line(error))

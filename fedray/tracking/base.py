"""The tracker: told of a run's start, of each round, and of its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedray.config.registry import Registry
from fedray.core.record import RoundRecord


@dataclass(frozen=True, eq=False)
class RunInfo:
    """The facts of a run that are known before its first round.

    >>> RunInfo(Path("runs/first"), "first", rounds=50, clients=5, parameters=4610).rounds
    50

    Args:
        run_dir: the run folder; exists.
        name: the run's name for people.
        rounds: number of the last round to be run.
        resumed_from: round of the checkpoint the run goes on from; 0: from the start.
        clients: clients in all.
        parameters: entries of the global vector.
        config_yaml: the resolved config.
        label_counts: training examples per client and class ``[clients, classes]``; None without classes, or where
            every client would have to be opened for them.
        classes: names of the classes, in the order of their indices; empty: they have none.
        client_names: ids of the clients, in the order of ``label_counts``; numbers stand in where some are left out.
    """

    run_dir: Path
    name: str
    rounds: int
    resumed_from: int = 0
    clients: int = 0
    parameters: int = 0
    config_yaml: str = ""
    label_counts: NDArray[np.int64] | None = None
    client_names: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)


class Tracker:
    """The base of trackers, which follow a run; every hook does nothing by default.

    Where the run is started, ``check`` and ``hint`` are asked.  Where it is driven, maybe in another process, the order
    is ``start``, ``round`` once for each record with rising numbers, ``finish`` if the run came to its end, ``close``
    always, and at least once.  After a resume the first record may be that of round ``resumed_from``: it was not
    complete when the checkpoint was written.

    >>> class Losses(Tracker):
    ...     def __init__(self):
    ...         self.seen = []
    ...     def round(self, record):
    ...         self.seen.append(record.train["loss"])
    >>> tracker = Losses()
    >>> tracker.round(RoundRecord(1, train={"loss": 0.7}))
    >>> tracker.seen
    [0.7]
    """

    background: ClassVar[bool] = False
    """True: a run calls the hooks in a thread, one after the other, and no round waits for a server that is slow."""

    def check(self) -> None:
        """Look if it can work here, before a run begins.

        Raises:
            ConfigError: it cannot, such as for want of a package.
        """

    def hint(self, run_dir: Path) -> str:
        """Return the words at the end of a run on how to look at what was written; empty: none."""
        return ""

    def hint_of_all(self, folder: Path) -> str:
        """Return the words at the end of several runs in a folder on how to look at all of them; empty: none."""
        return ""

    def start(self, run: RunInfo) -> None:
        """Begin to follow a run that begins, or goes on."""

    def round(self, record: RoundRecord) -> None:
        """Take the complete record of a finished round."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Take the summary of a run that came to its end, the content of ``summary.json``."""

    def close(self) -> None:
        """Let go of files, threads and the terminal, however the run ended; a second call does nothing."""


def hints_of_all(trackers: Iterable[object], folder: Path) -> list[str]:
    """Return the lines on how to look at what trackers have written of several runs in a folder.

    Parts that are not made yet, as those of a user's own, give none.
    """
    return [hint for one in trackers if isinstance(one, Tracker) and (hint := one.hint_of_all(folder))]


trackers = Registry("tracker", package="fedray.tracking", base=Tracker, such_as="a fedray.parts.Tracker of your own")

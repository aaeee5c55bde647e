"""The actor that holds the worker group of another node than the driver's."""

from __future__ import annotations

import contextlib
import logging
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.aggregators.base import Accumulator, Aggregator
from fedray.aggregators.stored import StoredRows
from fedray.cluster.place.placement import GroupSpec
from fedray.cluster.place.reservation import Reservation
from fedray.cluster.work.changes import PLACES, with_changes
from fedray.cluster.work.collective import ProcessGroup, ProcessGroupBroken, RankSpec
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.payload import Payload
from fedray.cluster.work.spawn import RaySpawner
from fedray.cluster.work.worker import Arrays, RoundHeader
from fedray.core import inject
from fedray.core.messages import Floats, Ints
from fedray.run.usage import Reading
from fedray.run.worker import Job, Report


@dataclass(frozen=True)
class Answer:
    """The answer of a node that has worked.

    Args:
        reports: by position; None if it was stopped.
        readings: of its workers, in this round.
        retries: items that had to be done again in this round.
        ranks: of the workers that it has.
        warnings: for the run's log.
    """

    reports: dict[int, Report] | None
    readings: list[Reading]
    retries: int
    ranks: list[int]
    warnings: list[str]


def worker_group(
    job: Job,
    spec: GroupSpec,
    reservation: Reservation,
    pinned: bool = False,
    stopping: Callable[[], bool] = lambda: False,
    holds: bool = False,
) -> WorkerGroup:
    """Start the worker group of this process's node once its room has been granted.

    Raises:
        RunFailed: the node has no room for it.
        StoppedEarly: ``stopping`` said so before that was known.
    """
    reservation.wait(stopping)
    return WorkerGroup(job, spec, partial(RaySpawner, job, spec, reservation), pinned, holds)


class NodeActor:
    """The actor that holds a :class:`WorkerGroup` on the node where it is.

    Every call may reach it twice, as Ray repeats what it has no answer to: each names the state it asks for, and a
    second one finds it there.
    """

    def __init__(self, payload: Payload, spec: GroupSpec, reservation: Reservation) -> None:
        torch.set_num_threads(1)
        self._stop = threading.Event()
        self._held = contextlib.ExitStack()
        self._warnings = self._held.enter_context(_collected())
        self._workers = worker_group(payload.unpack(self._held), spec, reservation)
        self._begun: RoundHeader | None = None
        self._ranks: ProcessGroup | None = None
        self._call = -1
        self._answer: bytes = b""
        self._up: Answer | None = None
        self._own: Mapping[str, torch.Tensor] | None = None

    def up(self) -> Answer:
        """Answer once its workers can do whatever they may be given."""
        if self._up is None:
            self._workers.wait()
            self._up = self._answered(None)
        return self._up

    def _answered(self, reports: dict[int, Report] | None) -> Answer:
        told, self._warnings[:] = list(self._warnings), []
        return Answer(reports, self._workers.readings(), self._workers.retries, self._workers.ranks, told)

    def gpus(self) -> int:
        """Return how many GPUs it could use as a rank."""
        return torch.cuda.device_count()

    def join(self, rank: RankSpec) -> None:
        """Become a rank of a process group."""
        if self._ranks is not None:
            self._ranks.close()
        self._ranks = None
        with contextlib.suppress(ProcessGroupBroken):  # the driver sees it as well
            self._ranks = ProcessGroup(rank)

    def receive(self, header: RoundHeader) -> None:
        """Begin a round with the broadcast of the process group."""
        assert self._ranks is not None
        inject.point("node.receive", header.round)
        with contextlib.suppress(ProcessGroupBroken):
            self._ranks.broadcast(self._workers.down.tensors)
            self._begin(header, self._workers.down.tensors)

    def contribute(self, header: RoundHeader, worked: bool) -> None:
        """Give what was folded since ``header``, or nothing, to the sum of the process group."""
        assert self._ranks is not None
        folded = self._folded() if worked and header == self._begun else {}
        fold, rule = self._workers.fold, self._workers.fold.aggregator
        # A copy: the collective leaves partial sums behind, and where it breaks the object store is asked.
        total = {name: t.clone() for name, t in folded.items()} or rule.filled(rule.zero(fold.widths, "cpu"))
        with contextlib.suppress(ProcessGroupBroken):
            self._ranks.reduce(total)

    def _begin(self, header: RoundHeader, parts: Mapping[str, torch.Tensor]) -> None:
        self._workers.begin(header, parts)
        self._begun, self._own = header, None

    def _received(self, header: RoundHeader) -> Mapping[str, torch.Tensor]:
        if self._begun is None or self._begun.number != header.number:
            raise ProcessGroupBroken("the broadcast of the process group did not arrive")
        return self._workers.down.tensors

    def _whole(self, header: RoundHeader, arrays: Arrays) -> Mapping[str, torch.Tensor]:
        """Return the parts of a broadcast, of which only what has changed may have come."""
        model, parts = self._workers.down.tensors["model"], read_only(arrays)
        if PLACES in parts:
            assert self._begun is not None
            assert self._begun.number in (header.number - 1, header.number), "it lacks what the others begin with"
        return with_changes(parts, model)

    def _folded(self) -> Mapping[str, torch.Tensor]:
        if self._own is None:
            folded, rule = self._workers.collect(), self._workers.fold.aggregator
            self._own = rule.filled(dict(folded)) if rule.linear else folded
        return self._own

    def work(self, call: int, header: RoundHeader, arrays: Arrays | None, packed: bytes) -> bytes:
        """Do items of a round; the first call with a new ``header`` begins it.

        Args:
            call: the number of the call; one that was answered is answered again without doing anything.
            header: of the round.
            arrays: the broadcast; ``None``: it is here already, from the process group.
            packed: the pickled items by position.

        Returns:
            A pickled :class:`Answer`.
        """
        if call != self._call:
            if header != self._begun:
                self._begin(header, self._received(header) if arrays is None else self._whole(header, arrays))
            inject.point("node.begin", header.round)
            # From the run's driver: only who is in its Ray can call an actor, and has run code there already.
            reports = self._workers.work(pickle.loads(packed), self._stop.is_set)
            self._answer = pickle.dumps(self._answered(reports))
            self._call = call
        inject.point("node.worked", header.round)
        return self._answer

    def fold(self, *others: Arrays) -> Arrays:
        """Return what this group folded, and what others did, added up; a second call would give the same."""
        total = dict(self._folded())
        inject.point("node.folded", self._workers.round)
        if others:
            total = {name: tensor.clone() for name, tensor in total.items()}
            for other in others:
                merge_into(self._workers.fold.aggregator, total, other)
        return {name: tensor.cpu().numpy() for name, tensor in total.items()}

    def held(self) -> tuple[Ints, Floats]:
        """Return the clients whose rows are here, rising, and their weights."""
        rows = self._folded()
        inject.point("node.folded", self._workers.round)
        assert isinstance(rows, StoredRows)
        return rows.clients, rows.weight

    def columns(self, part: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
        """Return columns of some of these rows, see :class:`fedray.aggregators.stored.Shelf`."""
        stored = self._folded()
        inject.point("node.columns", self._workers.round)
        assert isinstance(stored, StoredRows)
        return stored.columns(part, start, stop, rows).numpy()

    def stop(self) -> None:
        """Leave the work in progress."""
        self._stop.set()

    def close(self) -> None:
        """End the workers, and take away what was brought to this node's disk."""
        self._workers.close()
        self._held.close()


def merge_into(aggregator: Aggregator, total: Accumulator, other: Arrays) -> None:
    """Add arrays to an accumulator; either may be empty."""
    if not other:
        return
    if total:
        aggregator.merge(total, read_only(other))
    else:
        total.update({name: torch.from_numpy(np.array(array)) for name, array in other.items()})


def read_only(arrays: Arrays) -> dict[str, torch.Tensor]:
    """View arrays as tensors: the object store's own memory, shared by the processes of a node, never written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@contextlib.contextmanager
def _collected() -> Iterator[list[str]]:
    """Collect what is warned of in fedray's log, which no handler of this process writes to the run's."""
    told: list[str] = []
    handler = _Collector(told)
    log = logging.getLogger("fedray")
    log.addHandler(handler)
    try:
        yield told
    finally:
        log.removeHandler(handler)


class _Collector(logging.Handler):
    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.append(record.getMessage())

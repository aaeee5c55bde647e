"""A worker group: the worker processes of one node around its shared memory."""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fedray.cluster.place.placement import GroupSpec
from fedray.cluster.work.base import Group
from fedray.cluster.work.connections import Connection, WorkerDied, wait
from fedray.cluster.work.fold import NodeFold
from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.memory import Buffer, Handle
from fedray.cluster.work.spawn import CannotStart, Spawner, Worker
from fedray.cluster.work.state import StateBuffer
from fedray.cluster.work.tickets import TicketQueue
from fedray.cluster.work.worker import RoundHeader
from fedray.core.errors import RunFailed
from fedray.core.messages import Block, Failure
from fedray.run.columns import ColumnRange, ColumnReport
from fedray.run.failure_policy import give_up
from fedray.run.usage import Reading
from fedray.run.worker import Item, Job, Report, without_room

_log = logging.getLogger(__name__)

ATTEMPTS = 3
"""The number of deaths in a row, without any work done, after which the run gives up."""

_PATIENCE = 0.2


class WorkerGroup(Group):
    """The worker processes of this process's node, and their work.

    The workers start while the caller goes on, and take part as soon as they are up.  A worker that dies is replaced,
    and what it had folded is done again; an item that two workers died of is given up, as a failure of its clients, and
    a client for whose error a worker of several ranks ended fails at once.
    They share one broadcast and give one accumulator, whatever their sizes; items are shared out in queues, one for
    the workers of the same silos.  A silo's own worker that cannot start is done without.

    Args:
        job: the workers' part of the run.
        spec: the workers.
        spawner: makes their starter from the memory of the ticket queues and of the broadcast.
        pinned: this process copies the broadcast and the accumulators to and from a GPU.
        holds: the workers share memory for rows of client state with this process, the driver.

    Attributes:
        state: the memory; None: all rows are in files.
    """

    def __init__(
        self,
        job: Job,
        spec: GroupSpec,
        spawner: Callable[[Handle, Handle], Spawner],
        pinned: bool = False,
        holds: bool = False,
    ) -> None:
        super().__init__(spec)
        self._job = job
        sizes = [field.nbytes for field in job.state_fields().values()] if holds and len(spec.nodes) == 1 else []
        self.state = StateBuffer.of(sizes, len(job.task.data))
        self.fold = NodeFold(job.algorithm.aggregator, job.algorithm.widths(job.task.layout), pinned)
        self.down = Buffer(job.algorithm.broadcast_widths(job.task.layout), torch.float32, pinned)
        self._queues = list(dict.fromkeys(slot.silos for slot in spec.slots))
        self._tickets_buffer = TicketQueue.buffer(len(spec.slots), len(self._queues))
        self._tickets = TicketQueue(self._tickets_buffer.handle)
        self._spawner = spawner(self._tickets_buffer.handle, self.down.handle)
        self._header = RoundHeader(0, 0, 1.0)
        self._ledger: Ledger[Worker] = Ledger({})
        handle = None if self.state is None else self.state.handle
        self.workers = [
            Worker(rank, self._queues.index(slot.silos), self.fold.accumulator(), handle)
            for rank, slot in enumerate(spec.slots)
        ]
        for worker in self.workers:
            self._spawner.start(worker)

    @property
    def round(self) -> int:
        """The last that began."""
        return self._header.round

    @property
    def retries(self) -> int:
        return self._ledger.lost

    @property
    def ranks(self) -> list[int]:
        return [worker.rank for worker in self.workers]

    @property
    def up(self) -> int:
        return sum(worker.connection is not None for worker in self.workers)

    # Processes

    def _up(self) -> set[int]:
        """Return the queues that a worker is up for."""
        return {worker.queue for worker in self.workers if worker.connection is not None}

    def _await(self, enough: Callable[[set[int]], bool], stopping: Callable[[], bool]) -> bool:
        """Wait until workers are up for enough queues; False if it was stopped."""
        self._connect(0)
        while not enough(self._up()):
            if stopping():
                return False
            self._spawner.check()
            self._connect(_PATIENCE)
        return True

    def wait(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Return when a worker is up for each queue that has workers, or ``stopping`` says so.

        Raises:
            RunFailed: they do not come up.
            GroupLost: a node with ranks of its workers has left.
        """
        self._await(lambda up: up >= {worker.queue for worker in self.workers}, stopping)

    def _connect(self, seconds: float) -> None:
        """Connect the workers that have come up, waiting so long for the first of them."""
        waiting = [worker for worker in self.workers if worker.connection is None]
        for worker in self._spawner.up(waiting, seconds) if waiting else ():
            try:
                worker.connection = self._spawner.connect(worker)
                worker.failed_starts = 0 if worker.connection else worker.failed_starts
            except WorkerDied as error:
                worker.failed_starts += 1
                if worker.failed_starts == ATTEMPTS:
                    what = f"{ATTEMPTS} workers in a row died on node {self.spec.name} while they started ({error})"
                    self._cannot_start(worker, what)
                else:
                    self._replace(worker, str(error))
            except CannotStart as error:
                self._cannot_start(worker, f"a worker could not start on node {self.spec.name}: {error}")

    def _cannot_start(self, worker: Worker, what: str) -> None:
        """Do without a silo's own worker.

        Raises:
            RunFailed: it is one of the node's, or the last.
        """
        slot = self.spec.slots[worker.rank]
        if not slot.is_silos_own or len(self.workers) == 1:
            raise RunFailed(what)
        (silo,) = slot.silos
        _log.warning("silo %r is without its own worker, of %s: %s", silo, slot.size, what)
        self.workers.remove(worker)
        self._spawner.kill(worker)
        self._release(worker)

    def _replace(self, worker: Worker, reason: str, how: str = "died") -> None:
        name = f"{self.spec.name}/{worker.rank}"
        _log.warning("round %d: worker %s %s, and is replaced (%s)", self._header.round, name, how, reason)
        self._spawner.kill(worker)
        # The old process may be slow to die, and write to its accumulator until then.
        self._release(worker)
        worker.accumulator = self.fold.accumulator()
        self._spawner.start(worker)

    def _release(self, worker: Worker) -> None:
        if worker.connection:
            worker.connection.close()
            worker.connection = None
        worker.accumulator.close()

    # Work

    def begin(self, header: RoundHeader, parts: Mapping[str, Tensor]) -> None:
        """Take a round's broadcast (what lies in :attr:`down` already is not copied) and forget the round before.

        A new take of the same round forgets what was done, but not what that took.
        """
        for name, target in self.down.tensors.items():
            if target.data_ptr() != parts[name].data_ptr():
                target.copy_(parts[name])
        same = header.number == self._header.number
        self._header = header
        self._ledger = Ledger({}, self._ledger.lost if same else 0)
        self.fold.begin()
        for worker in self.workers:
            worker.reading = worker.reading if same else None

    def work(self, items: Mapping[int, Item], stopping: Callable[[], bool]) -> dict[int, Report] | None:
        """Do items of the round, handed out in their order.

        Args:
            items: by their position in the round.
            stopping: asked often; once true, the work is left.

        Returns:
            The reports of these items, and of earlier ones that had to be done again, but for those that no worker is
            there for; None if stopped.

        Raises:
            RunFailed: workers die again and again.
            GroupLost: a node with ranks of its workers has left.
        """
        ledger = self._ledger
        ledger.items.update(items)
        failed = 0
        while queues := self._missing():
            losses = ledger.losses
            wanted = {number for number, queue in enumerate(queues) if queue}
            if not self._await(lambda up, wanted=wanted: bool(up & wanted) or not self._served(wanted), stopping):  # type: ignore[misc]
                return None
            if not self._pass(queues, stopping):
                return None
            left = set(ledger.missing())
            progress = ledger.losses > losses or any(position not in left for queue in queues for position in queue)
            failed = 0 if progress or not self._served(wanted) else failed + 1
            if failed == ATTEMPTS:
                raise RunFailed(
                    f"round {self._header.round}: workers died {ATTEMPTS} times at the same work; see the log"
                )
        return ledger.news()

    def _served(self, queues: set[int]) -> bool:
        """Return True if a worker that is up or still starts is there for any of these queues."""
        return any(worker.queue in queues for worker in self.workers)

    def _missing(self) -> list[list[int]]:
        """Return the positions that are to be done, by the queue whose workers do them; empty if there are none."""
        queues: list[list[int]] = [[] for _ in self._queues]
        served = {pin: worker.queue for worker in self.workers for pin in self._queues[worker.queue]}
        for position in self._ledger.missing():
            queue = served.get(self._ledger.items[position].pin)
            if queue is not None:
                queues[queue].append(position)
        return queues if any(queues) else []

    def _pass(self, queues: Sequence[list[int]], stopping: Callable[[], bool]) -> bool:
        """Let the workers that are up share out the items of each queue; False if it was stopped."""
        self._tickets.open()
        # Pickled here, once for all workers of a queue.
        packed = [pickle.dumps([self._ledger.items[position] for position in queue]) for queue in queues]
        busy: dict[Connection, Worker] = {}
        for worker in self.workers:
            worker.shared = queues[worker.queue]
            if worker.connection is not None and worker.shared:
                with self._replacing(worker):
                    worker.connection.send(self._header, packed[worker.queue])
                    busy[worker.connection] = worker
        while busy:
            if stopping():
                self._tickets.end()
                return False
            for connection in wait(list(busy), _PATIENCE):
                worker = busy.pop(connection)
                with self._replacing(worker):
                    self._receive(worker, connection)
            self._spawner.check()
            self._replace_late(busy)
        self._ledger.count_lost(
            [position for number, queue in enumerate(queues) for position in queue[: self._tickets.taken(number)]]
        )
        return True

    def _receive(self, worker: Worker, connection: Connection) -> None:
        # Of a worker of this run alone: both ends of a connection have proved before that they know its key.
        reports, held, reading = pickle.loads(connection.receive())
        worker.reading = worker.reading.plus(reading) if worker.reading else reading
        # Rows are in a file of this process, and outlive the worker.
        holder = worker if self.fold.aggregator.linear else None
        self.fold.hold(worker.accumulator, held)
        self._ledger.accept(holder, {worker.shared[index]: report for index, report in reports.items()})

    @contextlib.contextmanager
    def _replacing(self, worker: Worker) -> Iterator[None]:
        try:
            yield
        except WorkerDied as error:
            self._lose(worker, self._tickets.at(worker.rank)[0], "worker", str(error), error.failure)

    def _replace_late(self, busy: dict[Connection, Worker]) -> None:
        limit = self.spec.block_timeout
        for connection, worker in list(busy.items()) if limit else ():
            ticket, seconds = self._tickets.at(worker.rank)
            # It may have answered while the answer of another was read.
            if seconds > (limit or 0.0) and not wait([connection], 0):
                del busy[connection]
                self._lose(worker, ticket, "deadline", f"no answer in {limit:g} s")

    def _lose(self, worker: Worker, ticket: int, stage: str, reason: str, failure: Failure | None = None) -> None:
        at = worker.shared[ticket] if 0 <= ticket < len(worker.shared) else None
        for position in worker.shared:
            # The process may be slow to die, and write to the places that it was given until then.
            self._ledger.items[position] = without_room(self._ledger.items[position])
        # A client that raised is given up at once: to try it again would cost another worker.
        if self._ledger.lose(worker, at) >= (2 if failure is None else 1):
            assert at is not None
            self._ledger.accept(None, {at: self._given_up(self._ledger.items[at], stage, reason, failure)})
        self._replace(worker, reason, "died" if failure is None else "ended, as a client failed on one of its ranks")

    def _given_up(self, item: Item, stage: str, reason: str, failure: Failure | None) -> Report:
        if isinstance(item, ColumnRange):
            return ColumnReport(item.index, None)  # whoever asked does it alone
        if not isinstance(item, Block):
            raise RunFailed(f"round {self._header.round}: two workers died of the evaluation ({reason}); see the log")
        if failure is not None:
            return give_up(self._job, item, failure.stage, failure.error, failure.trace)
        return give_up(self._job, item, stage, f"two workers were lost at its block ({reason})")

    # What has been folded

    def collect(self) -> Mapping[str, Tensor]:
        """Return what has been folded since :meth:`begin`, merged; empty if nothing was."""
        return self.fold.total([w.accumulator for w in self.workers if self._ledger.has_unkept(w)])

    def readings(self) -> list[Reading]:
        return [worker.reading for worker in self.workers if worker.reading]

    def abandon(self) -> None:
        """See :class:`fedray.cluster.work.base.Group`."""
        self.close()

    def close(self) -> None:
        """End the workers; a second call does nothing."""
        workers, self.workers = self.workers, []
        for worker in workers:
            self._release(worker)
            self._spawner.kill(worker)
        if workers:
            self._spawner.close()
            self.fold.begin()
            if self.state is not None:
                self.state.close()
            self._tickets.close()
            self._tickets_buffer.close()
            self.down.close()

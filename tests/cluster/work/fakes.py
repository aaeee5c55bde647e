"""Worker processes and groups that are objects of the test, and do at once what it says: no Ray, milliseconds."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Mapping, Sequence

from fedray.cluster.place.placement import GroupSpec, Size, Slot
from fedray.cluster.work.base import GroupLost
from fedray.cluster.work.connections import Connection
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.memory import Handle
from fedray.cluster.work.spawn import CannotStart, Worker
from fedray.cluster.work.tickets import TicketQueue
from fedray.run.columns import ColumnRange
from fedray.run.evaluation import TestReport
from fedray.run.usage import Reading
from fedray.run.worker import Item, Job, Report


class FakeProcess(Connection):
    """A worker process and the connection to it.

    Args:
        tickets: of its group.
        worker: what the group knows of it.
    """

    def __init__(self, tickets: Handle, worker: Worker) -> None:
        self.socket, self._far = multiprocessing.Pipe()
        self.tickets = TicketQueue(tickets, worker.rank, worker.queue)
        self._since = tickets.open()["since"][worker.rank : worker.rank + 1]
        self.asked: Callable[[FakeProcess], object] = FakeProcess.do_all
        self.read: Callable[[], object] = lambda: None
        self.items: list[Item] = []
        self._taken: list[int] = []

    def send(self, *request: bytes) -> None:
        """Do now what is asked for."""
        self.items, self._taken = pickle.loads(request[1]), []
        self.asked(self)

    def receive(self) -> bytes:
        """Let something happen while the answer is read."""
        self.read()
        return super().receive()

    def take(self) -> bool:
        """Begin with an item, if there is one."""
        self._taken.append(self.tickets.take())
        return self._taken[-1] < len(self.items)

    def hang(self) -> None:
        """Be at it for a long time."""
        self._since -= 1000 * 10**9

    def begin_and_hang(self) -> None:
        """Begin with an item, and do not get to its end."""
        self.take()
        self.hang()

    def begin_and_die(self) -> None:
        """Begin with an item, and end."""
        self.take()
        self._far.close()

    def do_all(self) -> None:
        """Do all there is."""
        while self.take():
            pass
        self.answer()

    def answer(self) -> None:
        """Tell what was done, for a second of processor time: columns are reduced, all else is not looked at."""
        done: dict[int, Report] = {}
        for position in self._taken:
            if position < len(self.items):
                item = self.items[position]
                done[position] = item.reduced() if isinstance(item, ColumnRange) else TestReport(position, {}, 0.0)
        self._far.send(pickle.dumps((done, None, Reading("n/0", cpu_seconds=1.0))))

    def close(self) -> None:
        """Hang up."""
        if not self.socket.closed:
            super().close()
            self._far.close()
            self.tickets.close()


class FakeSpawner:
    """Starts fake processes.

    Args:
        tickets, down: as for :class:`fedray.cluster.work.spawn.RaySpawner`.
        behave: by rank, what the processes that are started one after the other do when they are asked; then do_all.
        cannot: by rank, why no process comes up.
    """

    def __init__(
        self,
        tickets: Handle,
        down: Handle,
        behave: Mapping[int, list[Callable[[FakeProcess], object]]],
        cannot: Mapping[int, str],
    ) -> None:
        self._tickets, self._behave, self._cannot = tickets, behave, cannot
        self.processes: dict[int, FakeProcess] = {}
        self.started: list[int] = []
        self.closed, self.gone = False, ""

    def start(self, worker: Worker) -> None:
        """Start one."""
        self.started.append(worker.rank)
        process = self.processes[worker.rank] = FakeProcess(self._tickets, worker)
        if waiting := self._behave.get(worker.rank):
            process.asked = waiting.pop(0)

    def up(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """All are up at once."""
        return list(workers)

    def connect(self, worker: Worker) -> FakeProcess:
        """Reach it."""
        if worker.rank in self._cannot:
            raise CannotStart(self._cannot[worker.rank])
        return self.processes[worker.rank]

    def check(self) -> None:
        """The node is there, until it is said to be gone."""
        if self.gone:
            raise GroupLost(self.gone)

    def kill(self, worker: Worker) -> None:
        """End it."""
        self.processes.pop(worker.rank).close()

    def close(self) -> None:
        """Give back what was reserved: nothing."""
        self.closed = True


def fake_group(
    job: Job,
    slots: Sequence[Slot] = (Slot(Size()),),
    behave: Mapping[int, list[Callable[[FakeProcess], object]]] | None = None,
    cannot: Mapping[int, str] | None = None,
    node: str = "id",
) -> tuple[WorkerGroup, FakeSpawner]:
    """A real worker group on a node of fake processes."""
    made: list[FakeSpawner] = []

    def spawner(tickets: Handle, down: Handle) -> FakeSpawner:
        made.append(FakeSpawner(tickets, down, behave or {}, cannot or {}))
        return made[-1]

    return WorkerGroup(job, GroupSpec(node, "n", slots, block_timeout=500.0), spawner), made[0]

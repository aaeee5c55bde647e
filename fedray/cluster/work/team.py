"""A team: the workers of one node around its shared memory."""

from __future__ import annotations

import contextlib
import logging
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.cluster.place.placement import Post, await_grant
from fedray.cluster.work.lines import Door, Line, WorkerDied, wait
from fedray.cluster.work.memory import Board, Buffer
from fedray.cluster.work.worker import Announcement, Channel, WorkerActor
from fedray.core.errors import RunFailed
from fedray.core.messages import Block
from fedray.run.failure_policy import give_up
from fedray.run.usage import Reading
from fedray.run.worker import Item, Job, Report

_log = logging.getLogger("fedray")

ATTEMPTS = 3
"""How often workers may die in a row without any work done before the run gives up."""

_PATIENCE = 0.2


@dataclass
class _Member:
    """A worker, what it has done in the round, and what it shares out with others now."""

    seat: int
    queue: int
    slot: Buffer | None
    shared: list[int] = field(default_factory=list)
    actor: Any = None
    ready: Any = None
    door: Door = field(default_factory=Door)
    line: Line | None = None
    reports: dict[int, Report] = field(default_factory=dict)
    spawned: float = 0.0
    stillborn: int = 0
    reading: Reading | None = None


class Team:
    """Starts the workers of a post, which must be on this process's node, and does work with them.

    The workers start while the caller goes on, and take part as soon as they are up.  A worker that dies is replaced,
    and what it had folded is done again; an item that two workers died of is given up, as a failure of its clients.
    They share one broadcast and give one accumulator, whatever their sizes; items are shared out in queues, one for
    the workers of the same silos.

    Args:
        job: what they do.
        post: where.
        group: what :func:`fedray.cluster.place.placement.reserve` gave for the post.
        pinned: this process copies the broadcast and the accumulators to and from a GPU.

    Raises:
        RunFailed: the node has no room for them.
    """

    def __init__(self, job: Job, post: Post, group: Any, pinned: bool = False) -> None:
        self.post = post
        self._group = group
        await_grant(group, post)
        self._job, self._pinned = job, pinned
        self.aggregator = job.algorithm.aggregator
        self.widths = job.algorithm.widths(job.task.layout)
        self.down = Buffer(job.algorithm.broadcast_widths(job.task.layout), torch.float32, pinned)
        self._queues = list(dict.fromkeys(seat.silos for seat in post.seats))
        self._board_buffer = Board.buffer(len(post.seats), len(self._queues))
        self._board = Board(self._board_buffer.handle)
        self._start = Announcement(0, 0, 1.0)
        self._items: dict[int, Item] = {}
        self._final: dict[int, Report] = {}
        self._told: dict[int, Report] = {}
        self._blame: Counter[int] = Counter()
        self._gathered: Accumulator | None = None
        self.retries = 0
        self._job_ref = ray.put(job)
        self._members = [
            _Member(number, self._queues.index(seat.silos), self._slot()) for number, seat in enumerate(post.seats)
        ]
        for member in self._members:
            self._spawn(member)

    @property
    def round(self) -> int:
        """The last that began."""
        return self._start.round

    @property
    def pins(self) -> frozenset[str | None]:
        """Of the items that its workers take."""
        return self.post.pins

    def takers(self, pin: str | None) -> int:
        """How many of its workers take items of this pin."""
        return self.post.takers(pin)

    def _slot(self) -> Buffer | None:
        return Buffer(self.widths, torch.float64, self._pinned) if self.aggregator.linear else None

    # Members

    def _spawn(self, member: _Member) -> None:
        size, slot = self.post.seats[member.seat].size, member.slot
        member.door = Door()
        channel = Channel(
            member.door,
            self._board_buffer.handle,
            member.seat,
            member.queue,
            self.down.handle,
            slot.handle if slot else None,
        )
        member.actor = (
            ray.remote(WorkerActor)
            .options(
                num_cpus=size.cpus,
                num_gpus=size.gpus,
                memory=size.memory or None,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, member.seat),
                enable_task_events=False,
                max_restarts=0,
            )
            .remote(self._job_ref, channel, f"{self.post.name}/{member.seat}", size.gpus)
        )
        member.ready = member.actor.ready.remote()
        member.line, member.spawned = None, time.monotonic()
        member.reports = {}

    def _connect(self, member: _Member) -> None:
        """Open the line to a worker that is up; a worker that died on the way is replaced."""
        try:
            ray.get(member.ready)
            member.actor.serve.remote()
            member.line, member.stillborn = Line(member.door), 0
        except ActorUnavailableError:
            member.ready = member.actor.ready.remote()
        except (RayError, WorkerDied) as error:
            if isinstance(error, ActorDiedError) and error.actor_init_failed:
                raise RunFailed(f"a worker could not start on node {self.post.name}: {raised(error)}") from error
            reason = str(error).splitlines()[0]
            member.stillborn += 1
            if member.stillborn == ATTEMPTS:
                raise RunFailed(
                    f"{ATTEMPTS} workers in a row died on node {self.post.name} while they started ({reason})"
                ) from error
            self._replace(member, reason)

    def _up(self) -> set[int]:
        """The queues that a worker is up for."""
        return {member.queue for member in self._members if member.line is not None}

    def _await(self, enough: Callable[[set[int]], bool], stopping: Callable[[], bool]) -> bool:
        """Wait until workers are up for enough queues; False if it was stopped."""
        self._look(0)
        while not enough(self._up()):
            if stopping():
                return False
            self._look(_PATIENCE)
        return True

    def _look(self, seconds: float) -> None:
        """Connect the workers that have come up, waiting so long for the first of them."""
        waiting = [member for member in self._members if member.line is None]
        if not waiting:
            return
        refs = [member.ready for member in waiting]
        ray.wait(refs, timeout=seconds)
        # All that are up: one that is not among them is taken for late below.
        up = ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        for member in waiting:
            if member.ready in up:
                self._connect(member)
            elif time.monotonic() - member.spawned > self.post.start_timeout:
                raise RunFailed(
                    f"a worker of {self.post.seats[member.seat].size} on node {self.post.name} did not come up in "
                    f"{self.post.start_timeout:g} s"
                )

    def wait(self) -> None:
        """Return when a worker is up for each queue."""
        self._await(lambda up: len(up) == len(self._queues), lambda: False)

    def _replace(self, member: _Member, reason: str) -> None:
        name = f"{self.post.name}/{member.seat}"
        _log.warning("round %d: worker %s died, and is replaced (%s)", self._start.round, name, reason)
        ray.kill(member.actor)
        if member.slot is not None:
            # The old process may be slow to die, and write to its slot until then.
            member.slot.close()
            member.slot = self._slot()
        self._spawn(member)

    # Work

    def begin(self, start: Announcement, parts: Mapping[str, Tensor]) -> None:
        """Take a round's broadcast (what lies in :attr:`down` already is not copied) and forget the round before.

        A new take of the same round forgets what was done, but not what that took.
        """
        for name, target in self.down.tensors.items():
            if target.data_ptr() != parts[name].data_ptr():
                target.copy_(parts[name])
        same = start.number == self._start.number
        self._start, self._gathered, self.retries = start, None, self.retries if same else 0
        self._items, self._final, self._told = {}, {}, {}
        self._blame.clear()
        for member in self._members:
            member.reports, member.reading = {}, member.reading if same else None

    def work(self, items: Mapping[int, Item], stopping: Callable[[], bool]) -> dict[int, Report] | None:
        """Do items of the round, handed out in their order.

        Args:
            items: by their position in the round.
            stopping: asked often; once true, the work is left.

        Returns:
            The reports of these items, and of earlier ones that had to be done again; None if stopped.

        Raises:
            RunFailed: workers die again and again.
        """
        self._items.update(items)
        failed = 0
        while missing := self._missing():
            blamed = self._blame.total()
            queues = [[p for p in missing if self._items[p].pin in silos] for silos in self._queues]
            wanted = {number for number, queue in enumerate(queues) if queue}
            if not self._await(lambda up, wanted=wanted: bool(up & wanted), stopping):  # type: ignore[misc]
                return None
            if not self._pass(queues, stopping):
                return None
            progress = self._blame.total() > blamed or any(position in self._done() for position in missing)
            failed = 0 if progress else failed + 1
            if failed == ATTEMPTS:
                raise RunFailed(
                    f"round {self._start.round}: workers died {ATTEMPTS} times at the same work; see the log"
                )
        now = self._done()
        news = {position: report for position, report in now.items() if self._told.get(position) is not report}
        self._told = now
        return news

    def _missing(self) -> list[int]:
        done = self._done()
        return [position for position in self._items if position not in done]

    def _done(self) -> dict[int, Report]:
        done = dict(self._final)
        for member in self._members:
            done |= member.reports
        return done

    def _pass(self, queues: list[list[int]], stopping: Callable[[], bool]) -> bool:
        """Let the workers that are up share out the items of each queue; False if it was stopped."""
        self._board.open()
        # Pickled here, once for all workers of a queue.
        packed = [pickle.dumps([self._items[position] for position in queue]) for queue in queues]
        busy: dict[Line, _Member] = {}
        for member in self._members:
            member.shared = queues[member.queue]
            if member.line is not None and member.shared:
                with self._replacing(member):
                    member.line.send(self._start, packed[member.queue])
                    busy[member.line] = member
        while busy:
            if stopping():
                self._board.end()
                return False
            for line in wait(list(busy), _PATIENCE):
                member = busy.pop(line)
                with self._replacing(member):
                    self._receive(member, line)
            self._replace_late(busy)
        done = self._done()
        begun = [position for number, queue in enumerate(queues) for position in queue[: self._board.taken(number)]]
        self.retries += sum(position not in done for position in begun)
        return True

    def _receive(self, member: _Member, line: Line) -> None:
        reports, folded, reading = pickle.loads(line.receive())
        named: dict[int, Report] = {member.shared[index]: report for index, report in reports.items()}
        member.reading = member.reading.plus(reading) if member.reading else reading
        if member.slot is not None:
            member.reports |= named
            return
        # What is no sum is in this process now, and outlives the worker.
        self._final |= named
        rows = {name: torch.from_numpy(array) for name, array in folded.items()}
        if self._gathered is None:
            self._gathered = rows
        else:
            self.aggregator.merge(self._gathered, rows)

    @contextlib.contextmanager
    def _replacing(self, member: _Member) -> Iterator[None]:
        try:
            yield
        except WorkerDied as error:
            self._lose(member, self._board.at(member.seat)[0], "worker", str(error))

    def _replace_late(self, busy: dict[Line, _Member]) -> None:
        limit = self.post.block_timeout
        for line, member in list(busy.items()) if limit else ():
            index, seconds = self._board.at(member.seat)
            # It may have answered while the answer of another was read.
            if seconds > (limit or 0.0) and not wait([line], 0):
                del busy[line]
                self._lose(member, index, "deadline", f"no answer in {limit:g} s")

    def _lose(self, member: _Member, index: int, stage: str, reason: str) -> None:
        self.retries += len(member.reports)
        if 0 <= index < len(member.shared) and (position := member.shared[index]) not in member.reports:
            self._blame[position] += 1
            if self._blame[position] > 1:
                self._final[position] = self._given_up(self._items[position], stage, reason)
        self._replace(member, reason)

    def _given_up(self, item: Item, stage: str, reason: str) -> Report:
        if not isinstance(item, Block):
            raise RunFailed(f"round {self._start.round}: two workers died of the evaluation ({reason}); see the log")
        return give_up(self._job, item, stage, f"two workers were lost at its block ({reason})")

    # What has been folded

    def collect(self) -> Accumulator:
        """What has been folded since ``begin``, merged; empty if nothing was."""
        if not self.aggregator.linear:
            return self._gathered or {}
        slots = [member.slot.tensors for member in self._members if member.slot and member.reports]
        if not slots:
            return {}
        total = slots[0]
        for other in slots[1:]:
            self.aggregator.merge(total, other)
        return total

    def readings(self) -> list[Reading]:
        """What the workers that took part in the round say of themselves."""
        return [member.reading for member in self._members if member.reading]

    def close(self) -> None:
        """End the workers; a second call does nothing."""
        members, self._members = self._members, []
        for member in members:
            if member.line:
                member.line.close()
            ray.kill(member.actor)
            if member.slot:
                member.slot.close()
        if members:
            ray.util.remove_placement_group(self._group)
            self._board.close()
            self._board_buffer.close()
            self.down.close()


def raised(error: RayError) -> str:
    """What an actor raised while it was made: Ray has it as the last line of the traceback in its message."""
    return str(error).strip().splitlines()[-1].removeprefix("fedray.core.errors.RunFailed: ")

"""The driver's end of a worker group on another node."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedray.aggregators.stored import RowsLost
from fedray.cluster.place.placement import GroupSpec
from fedray.cluster.place.reservation import Reservation
from fedray.cluster.work.base import Group, GroupLost
from fedray.cluster.work.collective import ProcessGroupBroken
from fedray.cluster.work.node import Answer, NodeActor
from fedray.cluster.work.spawn import raised
from fedray.cluster.work.worker import Arrays, RoundHeader
from fedray.core import inject
from fedray.core.errors import RunFailed
from fedray.core.messages import Ints
from fedray.run.usage import Reading
from fedray.run.worker import Item, Report

_log = logging.getLogger(__name__)

_PATIENCE = 0.2
_UNAVAILABLE = 20


FULL = (ObjectStoreFullError, OutOfDiskError)
"""The errors that Ray raises where a vector has no room."""


def no_room(where: str, round: int) -> RunFailed:
    """Make the error of a vector that has no room, which says what to do."""
    return RunFailed(
        f"round {round}: the model has no room in Ray's object store on {where}, nor on the disk beside it; start Ray "
        "with more --object-store-memory or another --temp-dir, or set cluster.reduce=collective, and resume"
    )


class NodeUnfit(GroupLost):
    """The error of a node that can hold no group, such as for want of room."""


class RemoteWorkerGroup(Group):
    """The driver's end of a :class:`NodeActor`: a group like the one of its own node, but that it can be lost.

    Args:
        payload: reference to the :class:`fedray.cluster.work.payload.Payload`.
        spec: the workers, and their node.
        filed: makes of an item one whose rows of client state are all in files, which other nodes can read.

    Attributes:
        has: the number of the last broadcast that it has worked on, so that its node has all of it.
    """

    def __init__(self, payload: Any, spec: GroupSpec, filed: Callable[[Item], Item] = lambda item: item) -> None:
        super().__init__(spec)
        self._filed = filed
        self.network, self.has = 0, -1
        self.header = RoundHeader(0, 0, 1.0)
        self._arrays: Any = None
        self._calls = 0
        self._last = Answer(None, [], 0, list(range(len(spec.slots))), [])
        # Reserved from here, as it would outlive an actor that dies.
        self._reservation = Reservation.of(spec)
        self.actor: Any = (
            ray.remote(concurrency_groups={"control": 1})(NodeActor)
            .options(
                num_cpus=0,
                max_restarts=0,
                enable_task_events=False,
                scheduling_strategy=NodeAffinitySchedulingStrategy(spec.node, soft=False),
            )
            .remote(payload, spec, self._reservation)
        )
        self.ready = self.actor.up.remote()
        self.is_up = False

    @property
    def ranks(self) -> list[int]:
        return self._last.ranks

    @property
    def up(self) -> int:
        return len(self.ranks) if self.is_up else 0

    @property
    def retries(self) -> int:
        return self._last.retries

    def readings(self) -> list[Reading]:
        return self._last.readings

    def look(self, seconds: float) -> bool:
        """Return whether it is up, within ``seconds``.

        Raises:
            GroupLost: the node is gone, or its workers cannot start there.
        """
        if not self.is_up and ray.wait([self.ready], timeout=seconds)[0]:
            try:
                self._note(self._get(self.ready))
                self.is_up = True
            except _AnswerLost:
                self.ready = self.actor.up.remote()
            except RunFailed as error:
                raise NodeUnfit(str(error)) from error
        return self.is_up

    def _note(self, answer: Answer) -> None:
        self._last = answer
        for text in answer.warnings:
            _log.warning("%s", text)

    def begin(self, header: RoundHeader, arrays: Any) -> None:
        """Begin a round with its broadcast: a reference to arrays in the object store."""
        self.header, self._arrays = header, arrays
        self._last, self.network = replace(self._last, readings=[], retries=0), 0

    def again(self) -> None:
        """Fold anew, in the same round: what was folded has been fetched."""
        self.header = replace(self.header, take=self.header.take + 1)

    def work(self, items: Mapping[int, Item], stopping: Callable[[], bool]) -> dict[int, Report] | None:
        """Do items, see :meth:`fedray.cluster.work.group.WorkerGroup.work`.

        Raises:
            GroupLost: the node is gone.
        """
        self._calls += 1
        packed = pickle.dumps({position: self._filed(item) for position, item in items.items()})
        answer = self.ask(stopping, "work", self._calls, self.header, self._arrays, packed)
        if answer is None:
            return None
        self.network += len(packed) + len(answer)
        self.has = self.header.number
        self._note(pickle.loads(answer))
        return self._last.reports

    def fold(self, others: Sequence[RemoteWorkerGroup] = ()) -> Arrays:
        """Return what this group folded, with what ``others`` did added where this group is.

        Raises:
            GroupLost: this group, or one of the others, is gone.
        """
        theirs = [group.actor.fold.remote() for group in others]
        folded: Arrays = self.ask(lambda: False, "fold", *theirs)
        return folded

    def ask(self, stopping: Callable[[], bool], method: str, *args: Any) -> Any:
        """Call the actor, again where the answer was lost on the way; None if stopped.

        Raises:
            GroupLost: the node is gone.
        """
        for _ in range(_UNAVAILABLE):
            reference = getattr(self.actor, method).remote(*args)
            while not ray.wait([reference], timeout=_PATIENCE)[0]:
                if stopping():
                    self.actor.stop.options(concurrency_group="control").remote()
                    return None
            try:
                answer = self._get(reference)
                inject.point("node.answer", self.header.round)
                return answer
            except (_AnswerLost, inject.Lost) as error:
                _log.warning("an answer of node %s was lost, asking again (%s)", self.spec.name, str(error))
        raise GroupLost(f"no answer in {_UNAVAILABLE} attempts")

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, ProcessGroupBroken | GroupLost):
                raise GroupLost(str(error.cause)) from error
            if isinstance(error.cause, FULL):
                raise no_room(f"node {self.spec.name}", self.header.round) from error
            if isinstance(error.cause, RunFailed):
                raise RunFailed(str(error.cause)) from error
            if isinstance(error.cause, RayError):  # what it was to work with is lost: what another group folded
                raise GroupLost(str(error.cause).splitlines()[0]) from error
            raise RunFailed(f"node {self.spec.name}: {type(error.cause).__name__}: {error.cause}") from error
        except FULL as error:
            raise no_room("the driver's node", self.header.round) from error
        except ActorDiedError as error:
            if error.actor_init_failed:
                raise NodeUnfit(raised(error)) from error
            raise GroupLost(str(error).splitlines()[0]) from error
        except ActorUnavailableError as error:
            raise _AnswerLost(str(error).splitlines()[0]) from error
        except RayError as error:
            raise GroupLost(str(error).splitlines()[0]) from error

    def abandon(self) -> None:
        """See :class:`fedray.cluster.work.base.Group`."""
        ray.kill(self.actor)
        self._reservation.close()

    def close(self, seconds: float = 5.0) -> None:
        """End it."""
        ray.wait([self.actor.close.remote()], timeout=seconds)
        self.abandon()


class NodeShelf:
    """The rows that the group of another node holds.

    Args:
        group: the group.
        lost: is told when it is lost.

    Raises:
        RowsLost: the node is gone.
    """

    def __init__(self, group: RemoteWorkerGroup, lost: Callable[[RemoteWorkerGroup, GroupLost], None]) -> None:
        self._group, self._lost = group, lost
        self.clients, self.weight = self._ask("held")

    def read(self, part: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
        """Return the columns ``[start, stop)`` of some rows of a part."""
        found: NDArray[np.float32] = self._ask("columns", part, rows, start, stop)
        self._group.network += found.nbytes
        return found

    def close(self) -> None:
        """Do nothing: they are the node's."""

    def _ask(self, method: str, *args: Any) -> Any:
        try:
            return self._group.ask(lambda: False, method, *args)
        except GroupLost as error:
            self._lost(self._group, error)
            raise RowsLost(f"node {self._group.spec.name} is lost, with updates that were to be looked at") from error


class _AnswerLost(Exception):
    """The error of a call without an answer; the actor may be alive."""

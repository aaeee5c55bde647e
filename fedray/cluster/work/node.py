"""A team on another node than the driver's: an actor there, and the driver's end of it."""

from __future__ import annotations

import contextlib
import logging
import pickle
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
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

from fedray.aggregators.base import Accumulator, Aggregator
from fedray.cluster.place.placement import Post, reserve
from fedray.cluster.work.collective import Group, GroupBroken, Invitation
from fedray.cluster.work.team import Team, raised
from fedray.cluster.work.worker import Announcement, Arrays
from fedray.core import inject
from fedray.core.errors import RunFailed
from fedray.run.usage import Reading
from fedray.run.worker import Item, Job, Report
from fedray.rundir import durable
from fedray.rundir.scratch import held, is_scratch, sweep

_log = logging.getLogger("fedray")

_PATIENCE = 0.2
_UNAVAILABLE = 20


FULL = (ObjectStoreFullError, OutOfDiskError)
"""What Ray raises where a vector has no room."""


def no_room(where: str, round: int) -> RunFailed:
    """What to do about that."""
    return RunFailed(
        f"round {round}: the model has no room in Ray's object store on {where}, nor on the disk beside it; start Ray "
        "with more --object-store-memory or another --temp-dir, or set cluster.reduce=collective, and resume"
    )


class TeamLost(Exception):
    """A node, or the actor that stands for it, is gone, and what its team had folded with it."""


class NodeUnfit(TeamLost):
    """There can be no team on the node, such as for want of room."""


@dataclass(frozen=True)
class Parcel:
    """A run's work on its way to another node: once for each node, whatever its number of workers.

    Args:
        job: the pickled job.
        folder: where its data must lie, if it lies in files.
        files: their contents.
    """

    job: bytes
    folder: str | None
    files: Mapping[str, NDArray[np.uint8]]

    @classmethod
    def of(cls, job: Job) -> Parcel:
        """Pack a job with its data."""
        folder = job.task.data.folder
        files = {file.name: np.fromfile(file, dtype=np.uint8) for file in folder.iterdir()} if folder else {}
        return cls(ray.cloudpickle.dumps(job), str(folder) if folder else None, files)

    def unpack(self, holding: contextlib.ExitStack) -> Job:
        """The job, its data beside it on this node's disk until ``holding`` is closed."""
        if self.folder is not None:
            self._bring(Path(self.folder), holding)
        job: Job = pickle.loads(self.job)
        return job

    def _bring(self, final: Path, holding: contextlib.ExitStack) -> None:
        if is_scratch(final.parent):
            # Also where the data are there: who brought them may have been killed, and they would be swept.
            holding.enter_context(held(final.parent))
            if not final.exists():
                sweep(final.parent.parent)
                self._write(final)
        elif not final.exists():
            final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(final)
            # The folder around it is of the user's choice: all else that is in it stays.
            holding.callback(shutil.rmtree, final, ignore_errors=True)

    def _write(self, final: Path) -> None:
        try:
            with durable.folder(final) as unfinished:
                for name, content in self.files.items():
                    content.tofile(unfinished / name)
        except OSError:
            if not final.exists():  # else an earlier team of this node was first
                raise


class NodeActor:
    """Holds a :class:`Team` on the node where it is.

    Every call may reach it twice, as Ray repeats what it has no answer to: each names the state it asks for, and a
    second one finds it there.
    """

    def __init__(self, parcel: Parcel, post: Post, group: Any) -> None:
        torch.set_num_threads(1)
        self._stop = threading.Event()
        self._held = contextlib.ExitStack()
        self._team = Team(parcel.unpack(self._held), post, group)
        self._aggregator = self._team.aggregator
        self._begun: Announcement | None = None
        self._group: Group | None = None
        self._call = -1
        self._answer: bytes = b""
        self._own: Accumulator | None = None

    def up(self) -> bool:
        """Answers once its team can do whatever it may be given."""
        self._team.wait()
        return True

    def gpus(self) -> int:
        """How many GPUs it could use as a rank."""
        return torch.cuda.device_count()

    def join(self, invitation: Invitation) -> None:
        """Become a rank of a group."""
        if self._group is not None:
            self._group.close()
        self._group = None
        with contextlib.suppress(GroupBroken):  # the driver sees it as well
            self._group = Group(invitation)

    def receive(self, start: Announcement) -> None:
        """Begin a round with the broadcast of the group."""
        assert self._group is not None
        inject.point("node.receive", start.round)
        with contextlib.suppress(GroupBroken):
            self._group.broadcast(self._team.down.tensors)
            self._begin(start, self._team.down.tensors)

    def contribute(self, start: Announcement, worked: bool) -> None:
        """Give what was folded since ``start``, or nothing, to the sum of the group."""
        assert self._group is not None
        folded = self._folded() if worked and start == self._begun else {}
        # A copy: the collective leaves partial sums behind, and where it breaks the object store is asked.
        total = {name: t.clone() for name, t in folded.items()} or self._aggregator.zero(self._team.widths, "cpu")
        with contextlib.suppress(GroupBroken):
            self._group.reduce(total)

    def _begin(self, start: Announcement, parts: Mapping[str, torch.Tensor]) -> None:
        self._team.begin(start, parts)
        self._begun, self._own = start, None

    def _received(self, start: Announcement) -> Mapping[str, torch.Tensor]:
        if self._begun is None or self._begun.number != start.number:
            raise GroupBroken("the group's broadcast did not arrive")
        return self._team.down.tensors

    def _folded(self) -> Accumulator:
        if self._own is None:
            self._own = self._team.collect()
        return self._own

    def work(self, call: int, start: Announcement, arrays: Arrays | None, packed: bytes) -> bytes:
        """Do items of a round; the first call with a new ``start`` begins it.

        Args:
            call: the number of the call; one that was answered is answered again without doing anything.
            start: the round.
            arrays: the broadcast; ``None``: it is here already, from the group.
            packed: the pickled items by position.

        Returns:
            Pickled: the reports, or None if stopped; the readings; how many items had to be done again.
        """
        if call != self._call:
            if start != self._begun:
                self._begin(start, self._received(start) if arrays is None else _read_only(arrays))
            inject.point("node.begin", start.round)
            reports = self._team.work(pickle.loads(packed), self._stop.is_set)
            self._answer = pickle.dumps((reports, self._team.readings(), self._team.retries))
            self._call = call
        inject.point("node.worked", start.round)
        return self._answer

    def fold(self, *others: Arrays) -> Arrays:
        """What this team folded, and what others did, added up; does not change what a second call would give."""
        total = self._folded()
        inject.point("node.folded", self._team.round)
        if others:
            total = {name: tensor.clone() for name, tensor in total.items()}
            for other in others:
                merge_into(self._aggregator, total, other)
        return {name: tensor.cpu().numpy() for name, tensor in total.items()}

    def stop(self) -> None:
        """Leave the work in progress."""
        self._stop.set()

    def close(self) -> None:
        """End the workers, and take away what was brought to this node's disk."""
        self._team.close()
        self._held.close()


def merge_into(aggregator: Aggregator, total: Accumulator, other: Arrays) -> None:
    """Add arrays to an accumulator; either may be empty."""
    if not other:
        return
    if total:
        aggregator.merge(total, _read_only(other))
    else:
        total.update({name: torch.from_numpy(np.array(array)) for name, array in other.items()})


def _read_only(arrays: Arrays) -> dict[str, torch.Tensor]:
    # The object store's own memory, shared by all processes of the node: nothing here writes to it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class RemoteTeam:
    """The driver's end of a :class:`NodeActor`: a team like one of its own, but that it can be lost.

    Args:
        parcel: reference to the :class:`Parcel`.
        post: where.
    """

    def __init__(self, parcel: Any, post: Post) -> None:
        self.post = post
        self.network = 0
        self.start = Announcement(0, 0, 1.0)
        self._arrays: Any = None
        self._calls = 0
        self._readings: list[Reading] = []
        self.retries = 0
        # Reserved from here, as it would outlive an actor that dies.
        self._place = reserve(post.node, post.sizes)
        self.actor: Any = (
            ray.remote(concurrency_groups={"control": 1})(NodeActor)
            .options(
                num_cpus=0,
                max_restarts=0,
                enable_task_events=False,
                scheduling_strategy=NodeAffinitySchedulingStrategy(post.node, soft=False),
            )
            .remote(parcel, post, self._place)
        )
        self.ready = self.actor.up.remote()
        self.is_up = False

    @property
    def pins(self) -> frozenset[str | None]:
        """Of the items that its workers take."""
        return self.post.pins

    def takers(self, pin: str | None) -> int:
        """How many of its workers take items of this pin."""
        return self.post.takers(pin)

    def look(self, seconds: float) -> bool:
        """Whether it is up, within ``seconds``.

        Raises:
            TeamLost: the node is gone, or its workers cannot start there.
        """
        if not self.is_up and ray.wait([self.ready], timeout=seconds)[0]:
            try:
                self._get(self.ready)
                self.is_up = True
            except _AnswerLost:
                self.ready = self.actor.up.remote()
            except RunFailed as error:
                raise NodeUnfit(str(error)) from error
        return self.is_up

    def begin(self, start: Announcement, arrays: Any) -> None:
        """A round: its broadcast, as a reference to arrays in the object store."""
        self.start, self._arrays = start, arrays
        self._readings, self.retries, self.network = [], 0, 0

    def again(self) -> None:
        """What was folded has been fetched: fold anew, in the same round."""
        self.start = replace(self.start, take=self.start.take + 1)

    def work(self, items: Mapping[int, Item], stopping: Callable[[], bool]) -> dict[int, Report] | None:
        """See :meth:`Team.work`.

        Raises:
            TeamLost: the node is gone.
        """
        self._calls += 1
        packed = pickle.dumps(dict(items))
        answer = self._ask(stopping, "work", self._calls, self.start, self._arrays, packed)
        if answer is None:
            return None
        self.network += len(packed) + len(answer)
        reports, self._readings, self.retries = pickle.loads(answer)
        found: dict[int, Report] | None = reports
        return found

    def fold(self, others: Sequence[RemoteTeam] = ()) -> Arrays:
        """What this team folded, with what ``others`` did added where this team is.

        Raises:
            TeamLost: this team, or one of the others, is gone.
        """
        theirs = [team.actor.fold.remote() for team in others]
        folded: Arrays = self._ask(lambda: False, "fold", *theirs)
        return folded

    def _ask(self, stopping: Callable[[], bool], method: str, *args: Any) -> Any:
        """Call the actor, again where the answer was lost on the way; None if stopped."""
        for _ in range(_UNAVAILABLE):
            reference = getattr(self.actor, method).remote(*args)
            while not ray.wait([reference], timeout=_PATIENCE)[0]:
                if stopping():
                    self.actor.stop.options(concurrency_group="control").remote()
                    return None
            try:
                answer = self._get(reference)
                inject.point("node.answer", self.start.round)
                return answer
            except (_AnswerLost, inject.Lost) as error:
                _log.warning("an answer of node %s was lost, asking again (%s)", self.post.name, str(error))
        raise TeamLost(f"no answer in {_UNAVAILABLE} attempts")

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, GroupBroken):
                raise TeamLost(str(error.cause)) from error
            if isinstance(error.cause, FULL):
                raise no_room(f"node {self.post.name}", self.start.round) from error
            if isinstance(error.cause, RunFailed):
                raise RunFailed(str(error.cause)) from error
            if isinstance(error.cause, RayError):  # what it was to work with is lost: what another team folded
                raise TeamLost(str(error.cause).splitlines()[0]) from error
            raise RunFailed(f"node {self.post.name}: {type(error.cause).__name__}: {error.cause}") from error
        except FULL as error:
            raise no_room("the driver's node", self.start.round) from error
        except ActorDiedError as error:
            if error.actor_init_failed:
                raise NodeUnfit(raised(error)) from error
            raise TeamLost(str(error).splitlines()[0]) from error
        except ActorUnavailableError as error:
            raise _AnswerLost(str(error).splitlines()[0]) from error
        except RayError as error:
            raise TeamLost(str(error).splitlines()[0]) from error

    def readings(self) -> list[Reading]:
        """See :meth:`Team.readings`."""
        return self._readings

    def abandon(self) -> None:
        """End what may be left of it, without a word."""
        ray.kill(self.actor)
        ray.util.remove_placement_group(self._place)

    def close(self, seconds: float = 5.0) -> None:
        """End it."""
        ray.wait([self.actor.close.remote()], timeout=seconds)
        self.abandon()


class _AnswerLost(Exception):
    """The actor may be alive, but this call has no answer."""

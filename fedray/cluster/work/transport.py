"""The transport of a round's vectors from node to node: through Ray's object store, or by a collective."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator
from fedray.cluster.work.base import GroupLost
from fedray.cluster.work.changes import changed
from fedray.cluster.work.collective import PATIENCE, Backend, ProcessGroup, ProcessGroupBroken, Rendezvous, devices
from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.node import merge_into
from fedray.cluster.work.remote import FULL, RemoteWorkerGroup, no_room
from fedray.cluster.work.worker import RoundHeader

_log = logging.getLogger(__name__)

_FAN_IN = 8

Moved = tuple[slice, ...] | None

Drop = Callable[[RemoteWorkerGroup, GroupLost], None]


class ObjectStore:
    """The transport through Ray's object store: a broadcast is put once and read once by each node.

    Accumulators are fetched; those of more than eight nodes are added up among the nodes first.

    Args:
        aggregator: the rule that adds them up.
        widths: length of each part of an accumulator.
    """

    def __init__(self, aggregator: Aggregator, widths: Mapping[str, int]) -> None:
        self._aggregator, self._widths = aggregator, widths
        self._arrays: Any = None
        self._changes: tuple[Any, int] | None = None
        self._sent: tuple[RoundHeader, Mapping[str, Tensor]] | None = None
        self._moved: Moved = None

    def publish(
        self,
        header: RoundHeader,
        parts: Mapping[str, Tensor],
        groups: Sequence[RemoteWorkerGroup],
        moved: Moved = None,
    ) -> int:
        """Make a broadcast known to groups; returns how many bytes cross the network.

        Args:
            header: of the round.
            parts: all of the broadcast.
            groups: those that are there.
            moved: the places of the model that may have changed since the last call; None: any.
        """
        self._moved = moved if self._sent is not None and self._sent[0].round >= header.round - 1 else None
        self._sent = header, parts
        # Drop the old objects first: their pages are then used again, ten times faster than new ones.
        self._arrays = self._changes = None
        return sum(self._tell(group) for group in groups)

    def welcome(self, group: RemoteWorkerGroup) -> None:
        """Make the broadcast of the round, if one has begun, known to one more group."""
        self._tell(group)

    def _tell(self, group: RemoteWorkerGroup) -> int:
        """Begin the round of a group, by what has changed where it has worked on the broadcast before; count bytes."""
        if self._sent is None:
            return 0
        header, parts = self._sent
        try:
            if self._moved is not None and group.has == header.number - 1:
                if self._changes is None:
                    changes = changed(parts, self._moved)
                    self._changes = put(changes), _size(changes)
                group.begin(header, self._changes[0])
                return self._changes[1]
            self._arrays = put(parts) if self._arrays is None else self._arrays
        except FULL as error:
            raise no_room("the driver's node", header.round) from error
        group.begin(header, self._arrays)
        return _size(parts)

    def fetch(self, ledger: Ledger[Any], groups: Sequence[RemoteWorkerGroup], total: Accumulator, drop: Drop) -> int:
        """Bring what groups folded into ``total``, and keep it; returns how many bytes cross the network.

        Args:
            ledger: of the round.
            groups: all that are there.
            total: is added to.
            drop: called for each group that is lost.
        """
        if not self._aggregator.linear:
            return 0  # rows stay on their nodes until they are read
        waiting = [group for group in groups if ledger.has_unkept(group)]
        breadth = math.ceil(len(waiting) / _FAN_IN)
        trees = [waiting[start : start + breadth] for start in range(0, len(waiting), breadth or 1)]
        return sum(self._fetch_tree(ledger, root, members, total, drop) for root, *members in trees)

    def _fetch_tree(
        self,
        ledger: Ledger[Any],
        root: RemoteWorkerGroup,
        members: Sequence[RemoteWorkerGroup],
        total: Accumulator,
        drop: Drop,
    ) -> int:
        try:
            folded = root.fold(members)
        except GroupLost as error:
            if not members:
                drop(root, error)
                return 0
            # Whoever is lost, the others can still be asked one by one.
            return sum(self._fetch_tree(ledger, group, [], total, drop) for group in (root, *members))
        merge_into(self._aggregator, total, folded)
        self._keep(ledger, [root, *members])
        return (1 + len(members)) * sum(array.nbytes for array in folded.values())

    def _keep(self, ledger: Ledger[Any], groups: Sequence[RemoteWorkerGroup]) -> None:
        for group in groups:
            ledger.keep(group)
            group.again()


class Collective(ObjectStore):
    """The transport by a process group with a rank for each worker group, made anew when those come or go.

    Where it breaks, the object store does what is left.

    Args:
        aggregator, widths: as for :class:`ObjectStore`.
        driver_gpus: GPUs that this process has reserved.
    """

    def __init__(self, aggregator: Aggregator, widths: Mapping[str, int], driver_gpus: float) -> None:
        super().__init__(aggregator, widths)
        self._rendezvous = Rendezvous()
        self._gpus = driver_gpus
        self._said = ""
        self._ranks: ProcessGroup | None = None
        self._members: list[RemoteWorkerGroup] = []

    def publish(
        self,
        header: RoundHeader,
        parts: Mapping[str, Tensor],
        groups: Sequence[RemoteWorkerGroup],
        moved: Moved = None,
    ) -> int:
        # All of it: a collective that broke has left any values behind.
        up = [group for group in groups if group.is_up]
        try:
            self._gather(up)
            if self._ranks is None:
                return super().publish(header, parts, groups)
            for group in up:
                group.begin(header, None)
                group.actor.receive.remote(header)
            self._ranks.broadcast(parts)
        except ProcessGroupBroken as error:
            self._break(error)
            return super().publish(header, parts, groups)
        return _size(parts) * len(up) + super().publish(header, parts, [group for group in groups if group not in up])

    def fetch(self, ledger: Ledger[Any], groups: Sequence[RemoteWorkerGroup], total: Accumulator, drop: Drop) -> int:
        if self._ranks is None or any(group not in groups for group in self._members) or not self._aggregator.linear:
            return super().fetch(ledger, groups, total, drop)
        sent = self._aggregator.filled(self._aggregator.zero(self._widths, "cpu"))
        try:
            for group in self._members:
                group.actor.contribute.remote(group.header, ledger.has_unkept(group))
            self._ranks.reduce(sent)
        except ProcessGroupBroken as error:
            self._break(error)
            return super().fetch(ledger, groups, total, drop)
        if total:
            self._aggregator.merge(total, sent)
        else:
            total.update(sent)
        self._keep(ledger, [group for group in self._members if ledger.has_unkept(group)])
        return _size(sent) * len(self._members) + super().fetch(ledger, groups, total, drop)

    def _gather(self, groups: list[RemoteWorkerGroup]) -> None:
        """Make a process group of these worker groups, if it is not there yet."""
        if self._ranks is not None and groups == self._members:
            return
        self._leave()
        self._members = groups
        if groups:
            own, *others = self._rendezvous.ranks(self._devices(groups))
            for group, rank in zip(groups, others, strict=True):
                group.actor.join.remote(rank)
            try:
                self._ranks = ProcessGroup(own)
            except ProcessGroupBroken:
                # What NCCL cannot do at its start it will not do in the next round: gloo from here on.
                self._gpus = self._gpus if own.device == "cpu" else 0.0
                raise

    def _devices(self, groups: Sequence[RemoteWorkerGroup]) -> list[str]:
        try:
            found, why = devices(
                self._gpus,
                [group.spec.node for group in groups],
                lambda: ray.get([group.actor.gpus.remote() for group in groups], timeout=PATIENCE.total_seconds()),
            )
        except RayError as error:
            raise ProcessGroupBroken(str(error)) from error
        said = f"vectors cross between nodes by {Backend.on(found[0]).name}: {why}"
        if said != self._said:
            _log.info("%s", said)
            self._said = said
        return found

    def _leave(self) -> None:
        if self._ranks is not None:
            self._ranks.close()
        self._ranks = None

    def _break(self, error: ProcessGroupBroken) -> None:
        _log.warning("the collective broke, this round goes through the object store (%s)", str(error).splitlines()[0])
        self._leave()


def put(parts: Mapping[str, Tensor]) -> Any:
    """Put vectors into the object store."""
    return ray.put({name: part.cpu().numpy() for name, part in parts.items()})


def _size(parts: Mapping[str, Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in parts.values())

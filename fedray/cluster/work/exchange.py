"""How a round's vectors cross from node to node: through Ray's object store, or by a collective."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator
from fedray.cluster.work.collective import PATIENCE, Backend, Group, GroupBroken, Meeting, devices
from fedray.cluster.work.deal import Deal
from fedray.cluster.work.node import FULL, RemoteTeam, TeamLost, merge_into, no_room
from fedray.cluster.work.worker import Announcement

_log = logging.getLogger("fedray")

_FAN_IN = 8

Drop = Callable[[RemoteTeam, TeamLost], None]


class ObjectStore:
    """The broadcast is put once and read once by each node; accumulators are fetched, more than eight at a time added
    up among the nodes first.

    Args:
        aggregator: what adds them up.
        widths: length of each part of an accumulator.
    """

    def __init__(self, aggregator: Aggregator, widths: Mapping[str, int]) -> None:
        self._aggregator, self._widths = aggregator, widths
        self._arrays: Any = None
        self._sent: tuple[Announcement, Mapping[str, Tensor]] | None = None

    def publish(self, start: Announcement, parts: Mapping[str, Tensor], teams: Sequence[RemoteTeam]) -> int:
        """Make a broadcast known to teams; returns how many bytes cross the network."""
        self._sent = start, parts
        # Drop the old object first: its pages are then used again, ten times faster than new ones.
        self._arrays = None
        for team in teams:
            self.welcome(team)
        return _size(parts) * len(teams)

    def welcome(self, team: RemoteTeam) -> None:
        """Make the broadcast of the round, if one has begun, known to one more team."""
        if self._sent is None:
            return
        start, parts = self._sent
        if self._arrays is None:
            try:
                self._arrays = ray.put({name: part.cpu().numpy() for name, part in parts.items()})
            except FULL as error:
                raise no_room("the driver's node", start.round) from error
        team.begin(start, self._arrays)

    def fetch(self, deal: Deal, teams: Sequence[RemoteTeam], total: Accumulator, drop: Drop) -> int:
        """Bring what teams folded into ``total``, and bank it; returns how many bytes cross the network.

        Args:
            deal: of the round.
            teams: all that are there.
            total: is added to.
            drop: called for each team that is lost.
        """
        waiting = [team for team in teams if deal.unbanked(team)]
        breadth = math.ceil(len(waiting) / _FAN_IN)
        groups = [waiting[start : start + breadth] for start in range(0, len(waiting), breadth or 1)]
        return sum(self._fetch_group(deal, root, members, total, drop) for root, *members in groups)

    def _fetch_group(
        self, deal: Deal, root: RemoteTeam, members: Sequence[RemoteTeam], total: Accumulator, drop: Drop
    ) -> int:
        try:
            folded = root.fold(members)
        except TeamLost as error:
            if not members:
                drop(root, error)
                return 0
            # Whoever is lost, the others can still be asked one by one.
            return sum(self._fetch_group(deal, team, [], total, drop) for team in (root, *members))
        merge_into(self._aggregator, total, folded)
        self._bank(deal, [root, *members])
        return (1 + len(members)) * sum(array.nbytes for array in folded.values())

    def _bank(self, deal: Deal, teams: Sequence[RemoteTeam]) -> None:
        for team in teams:
            deal.bank(team)
            team.again()


class Collective(ObjectStore):
    """A group of ranks, made anew when teams come or go; where it breaks, the object store does what is left.

    Args:
        aggregator, widths: as for :class:`ObjectStore`.
        driver_gpus: GPUs that this process has reserved.
    """

    def __init__(self, aggregator: Aggregator, widths: Mapping[str, int], driver_gpus: float) -> None:
        super().__init__(aggregator, widths)
        self._meeting = Meeting()
        self._gpus = driver_gpus
        self._said = ""
        self._group: Group | None = None
        self._members: list[RemoteTeam] = []

    def publish(self, start: Announcement, parts: Mapping[str, Tensor], teams: Sequence[RemoteTeam]) -> int:
        up = [team for team in teams if team.is_up]
        try:
            self._gather(up)
            if self._group is None:
                return super().publish(start, parts, teams)
            for team in up:
                team.begin(start, None)
                team.actor.receive.remote(start)
            self._group.broadcast(parts)
        except GroupBroken as error:
            self._break(error)
            return super().publish(start, parts, teams)
        return _size(parts) * len(up) + super().publish(start, parts, [team for team in teams if team not in up])

    def fetch(self, deal: Deal, teams: Sequence[RemoteTeam], total: Accumulator, drop: Drop) -> int:
        if self._group is None or any(team not in teams for team in self._members) or not self._aggregator.linear:
            return super().fetch(deal, teams, total, drop)
        sent = self._aggregator.zero(self._widths, "cpu")
        try:
            for team in self._members:
                team.actor.contribute.remote(team.start, deal.unbanked(team))
            self._group.reduce(sent)
        except GroupBroken as error:
            self._break(error)
            return super().fetch(deal, teams, total, drop)
        if total:
            self._aggregator.merge(total, sent)
        else:
            total.update(sent)
        self._bank(deal, [team for team in self._members if deal.unbanked(team)])
        return _size(sent) * len(self._members) + super().fetch(deal, teams, total, drop)

    def _gather(self, teams: list[RemoteTeam]) -> None:
        """A group of these teams, if it is not there yet."""
        if self._group is not None and teams == self._members:
            return
        self._leave()
        self._members = teams
        if teams:
            own, *others = self._meeting.invite(self._devices(teams))
            for team, invitation in zip(teams, others, strict=True):
                team.actor.join.remote(invitation)
            try:
                self._group = Group(own)
            except GroupBroken:
                # What NCCL cannot do at its start it will not do in the next round: gloo from here on.
                self._gpus = self._gpus if own.device == "cpu" else 0.0
                raise

    def _devices(self, teams: Sequence[RemoteTeam]) -> list[str]:
        try:
            found, why = devices(
                self._gpus,
                [team.post.node for team in teams],
                lambda: ray.get([team.actor.gpus.remote() for team in teams], timeout=PATIENCE.total_seconds()),
            )
        except RayError as error:
            raise GroupBroken(str(error)) from error
        said = f"vectors cross between nodes by {Backend.on(found[0]).name}: {why}"
        if said != self._said:
            _log.info("%s", said)
            self._said = said
        return found

    def _leave(self) -> None:
        if self._group is not None:
            self._group.close()
        self._group = None

    def _break(self, error: GroupBroken) -> None:
        _log.warning("the collective broke, this round goes through the object store (%s)", str(error).splitlines()[0])
        self._leave()


def _size(parts: Mapping[str, Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in parts.values())

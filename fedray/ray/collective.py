"""Vectors between nodes by ``torch.distributed`` (gloo): three times as fast as the object store for large models.

The driver is rank 0, each node's team one more.  Sums of accumulators are exact, so a tree of any shape gives the bits
of the object store.  A rank that dies breaks the group for all at once; the round then goes on by the object store, and
the next one has a new group.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed
from ray.util import get_node_ip_address
from torch import Tensor

dist: Any = torch.distributed  # of what is used here torch has no types

PATIENCE = timedelta(seconds=60)
"""How long a rank waits for the others."""


class GroupBroken(Exception):
    """A rank is gone, or silent."""


@dataclass(frozen=True)
class Invitation:
    """Where a group meets.

    Args:
        host, port: of the driver's store.
        name: of the group, used once.
        rank, size: of who is invited, and how many ranks there are.
    """

    host: str
    port: int
    name: str
    rank: int
    size: int


class Meeting:
    """The driver's store, at which groups meet."""

    def __init__(self) -> None:
        self.host = get_node_ip_address()
        self._store = dist.TCPStore(self.host, 0, None, True, wait_for_workers=False)
        self._groups = 0

    def invite(self, others: int) -> list[Invitation]:
        """Invitations to a new group of the driver (the first) and so many others."""
        self._groups += 1
        size, name = others + 1, f"group-{self._groups}"
        return [Invitation(self.host, self._store.port, name, rank, size) for rank in range(size)]


class Group:
    """One rank of a group; making it returns when all ranks are there.

    Raises:
        GroupBroken: they did not come.
    """

    def __init__(self, invitation: Invitation) -> None:
        options = dist.ProcessGroupGloo._Options()
        # The address that Ray uses, and so the interface that was chosen for it.
        options._devices = [dist.ProcessGroupGloo.create_device(hostname=get_node_ip_address())]
        options._timeout = PATIENCE
        with _broken():
            store = dist.TCPStore(invitation.host, invitation.port, None, False, timeout=PATIENCE)
            named = dist.PrefixStore(invitation.name, store)
            self._ranks = dist.ProcessGroupGloo(named, invitation.rank, invitation.size, options)

    def broadcast(self, parts: Mapping[str, Tensor]) -> None:
        """Rank 0's tensors into everybody's, in place.

        Raises:
            GroupBroken: somebody is gone.
        """
        for name in sorted(parts):
            with _broken():
                self._ranks.broadcast([parts[name]], dist.BroadcastOptions()).wait()

    def reduce(self, total: Mapping[str, Tensor]) -> None:
        """The sum of everybody's tensors into rank 0's; what the others hold afterwards is nobody's business.

        Raises:
            GroupBroken: somebody is gone; the tensors are lost.
        """
        options = dist.ReduceOptions()
        options.rootRank = 0
        for name in sorted(total):
            with _broken():
                self._ranks.reduce([total[name]], options).wait()


@contextlib.contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise GroupBroken(str(error)) from error

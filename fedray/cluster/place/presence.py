"""The nodes that a worker group needs beside its own: whether they still are in the cluster."""

from __future__ import annotations

import time

from fedray.cluster.place.placement import GroupSpec, alive
from fedray.core.errors import listed

_LOOK = 2.0
"""The seconds between two looks."""


class Presence:
    """The other nodes with ranks of a group's workers, looked at now and then; a group without any asks nobody.

    A rank on a node that is gone may be silent, and Ray would wait for ever to start another one there.

    Args:
        spec: of the group.
    """

    def __init__(self, spec: GroupSpec) -> None:
        self._others = {node: name for slot in spec.slots for node, name in slot.places if node != spec.node}
        self._next = 0.0

    def gone(self) -> str | None:
        """Return in words which nodes have left the cluster; None if none has, or nobody has looked again."""
        if not self._others or time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + _LOOK
        try:
            there = {node.id for node in alive()}
        except Exception:
            return None  # if the connection is gone, the next call of anybody else will tell
        lost = [f"node {name}" for id, name in self._others.items() if id not in there]
        return f"{listed(lost)} left the cluster" if lost else None

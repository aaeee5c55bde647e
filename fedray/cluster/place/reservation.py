"""The reservation of workers on a node: Ray's placement groups, granted in time and given back."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import ray
from ray.util.placement_group import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from rich.filesize import decimal

from fedray.cluster.place.placement import GroupSpec, Size, alive
from fedray.cluster.place.presence import Presence
from fedray.core.errors import RunFailed, counted
from fedray.run.interrupt import StoppedEarly

_PATIENCE = 0.2


def reserve(nodes: str | Sequence[str], sizes: Sequence[Size]) -> Any:
    """Ask for a placement group, a bundle for each of ``sizes``, in the name of this actor.

    Ray keeps it until the job ends, also when the actor has died: see :func:`release`.

    Args:
        nodes: id of the node of all, or of each.
        sizes: the resources of each.
    """
    on = [nodes] * len(sizes) if isinstance(nodes, str) else nodes
    return placement_group(
        [size.resources() or {"CPU": 0.001} for size in sizes],
        strategy="STRICT_PACK" if len({*on}) == 1 else "PACK",
        name=f"{_prefix(ray.get_runtime_context().get_actor_id())}{secrets.token_hex(8)}",
        bundle_label_selector=[{"ray.io/node-id": node} for node in on],
    )


@dataclass(frozen=True)
class Reservation:
    """The placement groups of a group's workers: one for all together, but silos' own, each of which may be missing.

    Args:
        spec: of the group.
        bundles: placement group and first bundle of each slot, by rank; a worker of several ranks has one for each.
        together: the placement group of all that are no silo's own, if there are any.
    """

    spec: GroupSpec
    bundles: Sequence[tuple[Any, int]]
    together: Any = None

    @classmethod
    def of(cls, spec: GroupSpec) -> Reservation:
        """Ask for it, see :func:`reserve`."""
        shared = [
            (node, slot.size.share(slot.ranks))
            for slot in spec.slots
            if not slot.is_silos_own
            for node in slot.nodes(spec.node)
        ]
        together = reserve([node for node, _ in shared], [size for _, size in shared]) if shared else None
        first = accumulate((0 if slot.is_silos_own else slot.ranks for slot in spec.slots), initial=0)
        bundles = [
            (reserve(spec.node, [slot.size.share(slot.ranks)] * slot.ranks), 0)
            if slot.is_silos_own
            else (together, place)
            for slot, place in zip(spec.slots, first, strict=False)
        ]
        return cls(spec, bundles, together)

    def wait(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Return when what is reserved together is there.

        Args:
            stopping: asked often; once true, it is waited for no longer.

        Raises:
            RunFailed: it was not granted in time; says what is wanted, what the node has, and what is free. Or a node
                of it left the cluster.
            StoppedEarly: ``stopping`` said so.
        """
        last = time.monotonic() + self.spec.start_timeout
        presence = Presence(self.spec)
        while self.together is not None and not self.together.wait(_PATIENCE):
            if stopping():
                self.close()
                raise StoppedEarly("stopped before there was room for a worker")
            if gone := presence.gone():
                self.close()
                raise RunFailed(gone)
            if time.monotonic() > last:
                self.close()
                raise RunFailed(self._why_not())

    def _why_not(self) -> str:
        """Return what is wanted, what the node has, and what is free."""
        found = [one for one in alive() if one.id == self.spec.node]
        has = _amounts(found[0].resources) if found else "left the cluster"
        name = f"node {found[0].name}" if found else "the node"
        crowd = _crowd([slot.size for slot in self.spec.slots if not slot.is_silos_own])
        return (
            f"{crowd} could not be started in {self.spec.start_timeout:g} s: {name} has {has}, free in the "
            f"cluster are {_amounts(ray.available_resources())}; lower cluster.workers or what the worker section asks "
            "for"
        )

    def close(self) -> None:
        """Give it back."""
        for group in {id(group): group for group, _ in self.bundles}.values():
            remove_placement_group(group)


def own_gpus(gpus: float) -> None:
    """Let this actor, which has reserved so many GPUs, see no others.

    Ray leaves all of them visible to an actor without any.  Then each step of a ``torch.optim`` optimizer, which asks
    whether a graph is being captured, would open a context on one: memory that others count on, and an error where a
    GPU belongs to one process alone.
    """
    if gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def release(actor_id: str) -> None:
    """Give back what a dead actor had reserved."""
    for found in placement_group_table().values():
        if found["name"].startswith(_prefix(actor_id)) and found["state"] != "REMOVED":
            remove_placement_group(get_placement_group(found["name"]))


def _prefix(actor_id: str | None) -> str:
    return f"fedray-{actor_id}-"


def _crowd(sizes: Sequence[Size]) -> str:
    return ", ".join(f"{counted(count, 'worker')} of {size}" for size, count in Counter(sizes).items())


def _amounts(resources: Mapping[str, float]) -> str:
    memory = decimal(int(resources.get("memory", 0.0)))
    return f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs and {memory}"

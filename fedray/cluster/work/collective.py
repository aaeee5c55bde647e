"""Vectors between nodes by ``torch.distributed``: three times as fast as the object store for large models.

The driver is rank 0, each node's worker group one more.  Sums of accumulators are exact, so a tree of any shape gives
the bits of the object store.  A rank that dies breaks the group for all at once; the round then goes on by the object
store, and the next one has a new group.

Ranks talk by gloo, or by NCCL if each has a GPU of its own.  NCCL has not been run on real GPUs: this
code follows torch's sources, and all that surrounds it is tested with gloo.  One thing it cannot do: a rank that dies
between :func:`meet` and the end of NCCL's own handshake, milliseconds later, leaves the others waiting.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed
from ray.util import get_node_ip_address
from torch import Tensor

dist: Any = torch.distributed  # of what is used here torch has no types

PATIENCE = timedelta(seconds=60)
"""The time that a rank waits for the others."""


class ProcessGroupBroken(Exception):
    """The error of a process group of which a rank is gone, or silent."""


@dataclass(frozen=True)
class RankSpec:
    """A rank of a process group, and where its ranks meet.

    Args:
        host, port: of the driver's store.
        name: of the group, used once.
        rank, size: its number, and how many there are.
        device: ``cpu``, or its GPU.
        node: host name of its node, where ranks are on several.
        away: the ranks that are on other nodes than the first.
    """

    host: str
    port: int
    name: str
    rank: int
    size: int
    device: str = "cpu"
    node: str = ""
    away: tuple[int, ...] = ()


class Rendezvous:
    """The driver's store, at which the ranks of process groups meet."""

    def __init__(self) -> None:
        self.host = get_node_ip_address()
        self._store = dist.TCPStore(self.host, 0, None, True, wait_for_workers=False)
        self._groups = 0

    def ranks(self, devices: Sequence[str]) -> list[RankSpec]:
        """Return the ranks of a new process group, by the device of each rank, the driver's first."""
        self._groups += 1
        here, name, size = (self.host, self._store.port), f"group-{self._groups}", len(devices)
        return [RankSpec(*here, name, rank, size, device) for rank, device in enumerate(devices)]


@dataclass(frozen=True)
class Backend:
    """The way that the ranks of a group talk.

    Args:
        name: ``gloo`` or ``nccl``.
        make: a process group from a store, a rank and the number of ranks; returns when all are there.
        stage: a tensor where the process group takes it: itself, or a copy.
    """

    name: str
    make: Callable[[Any, int, int], Any]
    stage: Callable[[Tensor], Tensor]

    @classmethod
    def on(cls, device: str) -> Backend:
        """Choose Gloo on the CPU, NCCL on a GPU."""
        if device == "cpu":
            return cls("gloo", _gloo, Tensor.cpu)
        return cls("nccl", partial(_nccl, torch.device(device)), lambda tensor: tensor.to(device))


def _gloo(store: Any, rank: int, size: int) -> Any:
    options = dist.ProcessGroupGloo._Options()
    # The address that Ray uses, and so the interface that was chosen for it.
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=get_node_ip_address())]
    options._timeout = PATIENCE
    return dist.ProcessGroupGloo(store, rank, size, options)


def _nccl(device: torch.device, store: Any, rank: int, size: int) -> Any:
    # Else a thread of torch's watches the group and, where a rank is lost, ends this process instead of raising here.
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = PATIENCE
    torch.zeros(1, device=device)  # what is wrong with the GPU shows here, while the others can still be told
    ranks = dist.ProcessGroupNCCL(store, rank, size, options)
    meet(store, rank, size)
    ranks.eager_connect_single_device(device)
    return ranks


def meet(store: Any, rank: int, size: int) -> None:
    """Return when all ranks have come here: NCCL would wait for ever for one that does not.

    Raises:
        RuntimeError: they did not come in time.
    """
    store.set(f"here-{rank}", "")
    store.wait([f"here-{other}" for other in range(size)], PATIENCE)


def devices(driver_gpus: float, nodes: Sequence[str], gpus: Callable[[], Sequence[int]]) -> tuple[list[str], str]:
    """Return the device of each rank, the driver's first, and the reason.

    GPUs if each rank has one of its own, else all CPUs.

    Args:
        driver_gpus: GPUs that the driver reserves.
        nodes: the nodes of the other ranks.
        gpus: asks them how many GPUs they see; called only if there is a use for them.
    """
    if driver_gpus < 1:
        why = "driver.gpus is below 1"
    elif not dist.is_nccl_available():
        why = "torch is built without NCCL"
    else:
        places = [list(nodes[:index]).count(node) for index, node in enumerate(nodes)]
        if all(place < seen for place, seen in zip(places, gpus(), strict=True)):
            return ["cuda:0", *(f"cuda:{place}" for place in places)], "each rank has a GPU of its own"
        why = "there is not a GPU for each rank on its node"
    return ["cpu"] * (1 + len(nodes)), why


class ProcessGroup:
    """This process as a rank of a process group; making it returns when all ranks are there.

    Args:
        spec: of the rank.
        backend: by default that of the rank's device.

    Raises:
        ProcessGroupBroken: they did not come.
    """

    def __init__(self, spec: RankSpec, backend: Backend | None = None) -> None:
        self._backend = backend or Backend.on(spec.device)
        self._is_root = spec.rank == 0
        with _broken():
            store = dist.TCPStore(spec.host, spec.port, None, False, timeout=PATIENCE)
            named = dist.PrefixStore(spec.name, store)
            self._ranks = self._backend.make(named, spec.rank, spec.size)

    def broadcast(self, parts: Mapping[str, Tensor]) -> None:
        """Copy rank 0's tensors into everybody's, in place.

        Raises:
            ProcessGroupBroken: somebody is gone.
        """
        for name in sorted(parts):
            with self._staged(parts[name], back=not self._is_root) as held:
                self._ranks.broadcast([held], dist.BroadcastOptions()).wait()

    def reduce(self, total: Mapping[str, Tensor]) -> None:
        """Sum everybody's tensors into rank 0's; what the others hold afterwards is undefined.

        Raises:
            ProcessGroupBroken: somebody is gone; the tensors are lost.
        """
        options = dist.ReduceOptions()
        options.rootRank = 0
        for name in sorted(total):
            with self._staged(total[name], back=self._is_root) as held:
                self._ranks.reduce([held], options).wait()

    @contextlib.contextmanager
    def _staged(self, tensor: Tensor, back: bool) -> Iterator[Tensor]:
        with _broken():
            held = self._backend.stage(tensor)
            yield held
            if back and held is not tensor:
                tensor.copy_(held)

    def close(self) -> None:
        """Leave the group, for the others as if this rank had died; NCCL keeps its memory on the GPU until then."""
        with contextlib.suppress(RuntimeError):
            self._ranks.abort()


@contextlib.contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ProcessGroupBroken(str(error)) from error

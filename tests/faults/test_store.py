"""A model that has no room in Ray's object store: it goes over the disk, or the run ends with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from tests.faults.nights import all_present, go
from tests.faults.nodes import Nodes
from tests.helpers import Federation, class_problem, federation

pytestmark = pytest.mark.slow

SMALLEST, ENOUGH = 76 << 20, 300 << 20  # Ray starts none below 75 MiB


def large() -> nn.Module:
    """A hundred megabytes, most of them without a gradient worth the time."""

    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)
            self.rest = nn.Parameter(torch.zeros(26_000_000))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(x) + self.rest[:3]
            return logits

    return Large()


@contextmanager
def stores(head: int, second: int, disk: bool) -> Iterator[None]:
    """Two nodes with object stores of so many bytes, and a disk that is full unless ``disk``."""
    nodes = Nodes()
    try:
        nodes.add("head", object_store_memory=head, settings={} if disk else {"local_fs_capacity_threshold": 0.0})
        nodes.add("second", object_store_memory=second)
        with nodes.connected():
            yield
    finally:
        nodes.close()


def four_clients(folder: Path) -> Federation:
    return federation(class_problem(sizes=[1, 2, 3, 4], model_fn=large), folder, rounds=2, stack="off")


def train(folder: Path) -> Federation:
    one = four_clients(folder)
    executor = RayExecutor(one.job, WorkerArgs(workers=1))
    try:
        all_present(executor, 2)
        go(one, executor)
    finally:
        executor.close()
    return one


def test_the_disk_stands_in(tmp_path: Path) -> None:
    with stores(SMALLEST, SMALLEST, disk=True):
        one = train(tmp_path / "ray")
    other = four_clients(tmp_path / "inline")
    other.run()
    assert one.vector.equal(other.vector)


@pytest.mark.parametrize(
    ("head", "second", "where"), [(SMALLEST, ENOUGH, "the driver's node"), (ENOUGH, SMALLEST, "node")]
)
def test_no_room_anywhere_is_told(head: int, second: int, where: str, tmp_path: Path) -> None:
    full = f"round 1: the model has no room in Ray's object store on {where}"
    with stores(head, second, disk=False), pytest.raises(fedray.RunFailed, match=full):
        train(tmp_path)

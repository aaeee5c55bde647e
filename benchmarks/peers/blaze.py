"""BlazeFL: its FedAvg, two clients at a time, in processes or in threads."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

import torch
from blazefl.contrib import FedAvgBaseServerHandler, FedAvgProcessPoolClientTrainer, FedAvgThreadPoolClientTrainer
from blazefl.core import IPCMode
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.peers.task import WORKERS, Clock, Task, read, vector

_of_thread = threading.local()


@cache
def _held(folder: Path) -> Task:
    """Return the task, read once in each process."""
    return read(folder)


class Models:
    """A selector of models, of which each thread keeps one: BlazeFL writes all parameters before it trains."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def select_model(self, model_name: str) -> nn.Module:
        """Return the thread's model."""
        if not hasattr(_of_thread, "model"):
            _of_thread.model = _held(self.folder).model()
        found: nn.Module = _of_thread.model
        return found


class GivenBatches:
    """The partitioned data set of a round: it travels with each job, so that it has a folder and no arrays.

    Attributes:
        number: of the round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0

    def get_dataloader(self, type_: str, cid: int, batch_size: int, generator: object) -> DataLoader[Any]:
        """Return a client's batches in the order of the round."""
        task = _held(self.folder)
        place = task.cohorts[self.number].tolist().index(cid)
        return DataLoader(list(task.batches(self.number, place)), batch_size=None)  # type: ignore[arg-type]

    def set_dataset(self, type_: str, cid: int, dataset: object) -> None:
        """Keep nothing: training changes no data."""


def processes(task: Task) -> tuple[list[float], Tensor]:
    """Return the seconds of each round in two processes, and the parameters after the last one."""
    ways = {"share_dir": task.folder / "share", "ipc_mode": IPCMode.SHARED_MEMORY, "state_dir": task.folder / "state"}
    # Each round has new processes, which inherit what torch imports at the first step of an optimizer.
    torch.optim.SGD(task.model().parameters()).step()
    return _rounds(task, FedAvgProcessPoolClientTrainer, ways)


def threads(task: Task) -> tuple[list[float], Tensor]:
    """Return the seconds of each round in two threads, and the parameters after the last one."""
    return _rounds(task, FedAvgThreadPoolClientTrainer, {})


def _rounds(task: Task, trainer_type: type[Any], ways: dict[str, Any]) -> tuple[list[float], Tensor]:
    """Do all rounds as its quickstart does, but of cohorts that are given, and without evaluation."""
    workload, data, clock = task.workload, GivenBatches(task.folder), Clock()
    said = {
        "model_selector": Models(task.folder),
        "model_name": workload.name,
        "dataset": data,
        "num_clients": workload.clients,
        "device": "cpu",
        "batch_size": workload.batch,
        "seed": 0,
    }
    handler = FedAvgBaseServerHandler(**said, global_round=task.rounds, sample_ratio=workload.cohort / workload.clients)
    trainer = trainer_type(**said, **ways, epochs=workload.epochs, lr=workload.lr, num_parallels=WORKERS)
    clock.stamp()
    for data.number, cohort in enumerate(task.cohorts.tolist()):
        trainer.local_process(handler.downlink_package(), cohort)
        for package in trainer.uplink_package():
            handler.load(package)
        clock.stamp()
    return clock.seconds, vector(handler.model)

"""The rounds that every side does: a folder of arrays, which other interpreters read.

Cohorts and orders of batches are those that the bare loop draws, so that whoever averages the same clients ends where
it does.  Large arrays are files of their own, not one archive, so that processes map them.  Each peer's interpreter
imports this: nothing of fedray is in here, and nothing that an older Python or numpy does not know.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from benchmarks.bare import WARMUP
from benchmarks.workloads import WORKLOADS, Workload, make_cohort, make_data

WORKERS = 2
"""Processes or threads that a peer trains with, each on one core, as fedray's workers do."""

_ARRAYS = ("x", "y", "start", "cohorts", "orders")


@dataclass(frozen=True)
class Task:
    """Rounds of a workload: their clients, the order of each one's rows, and the parameters at the start.

    Args:
        folder: its files.
        workload: the model, the batch, the learning rate.
        x: inputs of all clients, mapped.
        y: their classes.
        start: the trained parameters ``[P]`` before the first round.
        cohorts: clients of each round ``[R, C]``.
        orders: each client's rows of ``x``, in the order in which it takes them ``[R, C, examples]``.
    """

    folder: Path
    workload: Workload
    x: Tensor
    y: Tensor
    start: Tensor
    cohorts: Tensor
    orders: Tensor

    @property
    def rounds(self) -> int:
        """All rounds, those that warm up included."""
        return len(self.cohorts)

    def batches(self, number: int, place: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and classes of each step of a client.

        Args:
            number: of the round, from 0.
            place: of the client in its cohort.
        """
        for rows in self.orders[number, place].split(self.workload.batch) if self.workload.epochs else ():
            yield self.x[rows], self.y[rows]

    def model(self) -> nn.Module:
        """Return a new model with the parameters of the start."""
        made = self.workload.model_fn()
        vector_to_parameters(self.start.clone(), made.parameters())
        return made


def write(folder: Path, workload: Workload, rounds: int, processes: int) -> None:
    """Write what the bare loop does, seed by seed, when it times ``rounds`` rounds with so many processes.

    Raises:
        ValueError: another algorithm than FedAvg, clients of several sizes or with several epochs, or a model of which
            part is frozen: no peer is asked for that.
    """
    if len(set(workload.sizes)) > 1 or workload.algorithm != "fedavg" or workload.epochs > 1:
        raise ValueError(f"{workload.name}: FedAvg of clients of one size with at most one epoch is wanted")
    torch.default_generator.manual_seed(0)
    model = workload.model_fn()
    if not all(param.requires_grad for param in model.parameters()):
        raise ValueError(f"{workload.name}: a model that trains as a whole is wanted")
    x, y = make_data(workload)
    cohorts, orders = drawn(workload, rounds, processes)
    for name, array in zip(_ARRAYS, (x, y, parameters_to_vector(model.parameters()), cohorts, orders), strict=True):
        np.save(folder / f"{name}.npy", array.detach().numpy())
    (folder / "task.json").write_text(json.dumps({"workload": workload.name}))


def drawn(workload: Workload, rounds: int, processes: int) -> tuple[Tensor, Tensor]:
    """Return cohorts and orders as the bare loop draws them: each process has a stretch of the cohort, and a seed."""
    generator = torch.Generator().manual_seed(0)
    cohorts, orders = [], []
    for number in range(WARMUP + rounds):
        cohort = make_cohort(workload, generator)
        share = -(-len(cohort) // processes)
        for rank in range(processes):
            draw = torch.Generator().manual_seed(number * processes + rank)
            orders += [
                torch.randperm(workload.examples, generator=draw) + workload.starts[client]
                for client in cohort[rank * share : (rank + 1) * share]
            ]
        cohorts.append(torch.tensor(cohort))
    return torch.stack(cohorts), torch.stack(orders).view(-1, workload.cohort, workload.examples)


def read(folder: Path) -> Task:
    """Return the task of a folder; its arrays are mapped, and what is written into them stays in this process."""
    arrays = (torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in _ARRAYS)
    return Task(folder, WORKLOADS[json.loads((folder / "task.json").read_text())["workload"]], *arrays)


@dataclass
class Clock:
    """The times at which rounds ended; the first entry is when the first round began."""

    stamps: list[float] = field(default_factory=list)

    def stamp(self) -> None:
        """Note the time."""
        self.stamps.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Seconds of each round that does not warm up."""
        return [later - sooner for sooner, later in pairwise(self.stamps)][WARMUP:]


def vector(model: nn.Module) -> Tensor:
    """Return the parameters of a model as one vector ``[P]``."""
    return parameters_to_vector(model.parameters()).detach()


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
